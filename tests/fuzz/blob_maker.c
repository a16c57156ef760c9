#include "blob_maker.h"

#include <string.h>

static void put(buffer *to, const void *bytes, size_t size) {
    if (to->size + size <= sizeof to->bytes) {
        memcpy(to->bytes + to->size, bytes, size);
        to->size += size;
    }
}

static void put_number(buffer *to, uint32_t value, size_t size) {
    put(to, &value, size);
}

static void fill_up(buffer *to) {
    while (to->size % 4 != 0) {
        put_number(to, 0, 1);
    }
}

static uint32_t crc_of(const uint8_t *bytes, size_t size) {
    uint32_t crc = 0xffffffffu;
    for (size_t i = 0; i < size; i++) {
        crc ^= bytes[i];
        for (int bit = 0; bit < 8; bit++) {
            crc = crc >> 1 ^ ((crc & 1) != 0 ? 0xedb88320u : 0);
        }
    }
    return ~crc;
}

/* The symbols of a layer in an encoding that is easily written: 0 INT8, 1 two bits, 4 gaps. */
static void put_stream(buffer *to, const layer_plan *plan, int encoding) {
    uint8_t byte = 0, zeros = 0;
    for (int i = 0; i < plan->count; i++) {
        const int8_t weight = plan->weights[i];
        if (encoding == EC2T_ENCODING_INT8) {
            put(to, &weight, 1);
        } else if (encoding == EC2T_ENCODING_TWO_BIT) {
            byte |= (uint8_t)((weight > 0 ? 1 : weight < 0 ? 2 : 0) << 2 * (i % 4));
            if (i % 4 == 3 || i + 1 == plan->count) {
                put(to, &byte, 1);
                byte = 0;
            }
        } else if (weight != 0) {
            put_number(to, (uint32_t)(zeros | (weight < 0 ? 128 : 0)), 1);
            zeros = 0;
        } else if (++zeros == 127) {
            put_number(to, 127, 1);
            zeros = 0;
        }
    }
    if (encoding == EC2T_ENCODING_GAP8) { /* what follows the last non-zero is not coded */
        while (to->size > 0 && to->bytes[to->size - 1] == 127) {
            to->size--;
        }
    }
}

bool channel_values(const layer_plan *plan, int8_t *values) {
    memset(values, 0, 2 * (size_t)plan->outputs);
    for (int i = 0; i < plan->count; i++) {
        const int8_t weight = plan->weights[i];
        int8_t *value = &values[2 * (i / plan->taps) + (weight < 0)];
        if (weight != 0 && *value != 0 && *value != weight) {
            return false;
        }
        *value = weight != 0 ? weight : *value;
    }
    return true;
}

void make_blob(buffer *blob, const layer_plan *plan, const TfLiteTensor *input,
               const TfLiteTensor *output, decisions *from) {
    static const int ENCODINGS[] = {EC2T_ENCODING_TWO_BIT, EC2T_ENCODING_GAP8, EC2T_ENCODING_INT8,
                                    EC2T_ENCODING_RANGE};
    static buffer stream;
    int8_t values[2 * MOST_WEIGHTS];
    const bool is_ternary = channel_values(plan, values);
    const int choice = decide(from);
    const int encoding = is_ternary ? ENCODINGS[choice % 4] : EC2T_ENCODING_INT8;
    const bool is_fixed = (choice & 0x70) == 0x70, has_one = plan->has_one_scale || is_fixed;
    int nonzeros = 0;
    for (int i = 0; i < plan->count; i++) {
        nonzeros += plan->weights[i] != 0;
    }
    stream.size = 0;
    if (encoding == EC2T_ENCODING_RANGE) {
        nonzeros = plan->count; /* no bytes at all: minus everywhere */
    } else {
        put_stream(&stream, plan, encoding);
    }
    int32_t low = -128, high = 127;
    const bool is_plain = (choice & 8) != 0;
    if (!is_plain && plan->activation == kTfLiteActRelu) {
        low = output->params.zero_point;
    }
    const uint32_t flags =
        (plan->has_bias ? 1u : 0) | (has_one ? 8u : 0) | (encoding != EC2T_ENCODING_INT8 ? 2u : 0);
    blob->size = 0;
    put(blob, "EC2T\1\0", 6);
    put_number(blob, (uint32_t)plan->op, 1);
    put_number(blob, (uint32_t)encoding, 1);
    put_number(blob, 0, 4); /* size */
    put_number(blob, 0, 4); /* checksum */
    put_number(blob, (uint32_t)plan->outputs, 4);
    put_number(blob, (uint32_t)plan->inputs, 4);
    const int *const pairs[3] = {plan->kernel, plan->stride, plan->dilation};
    for (int i = 0; i < 6; i++) {
        put_number(blob, (uint32_t)pairs[i / 2][i % 2], 2);
    }
    put_number(blob, plan->is_same ? 1 : 0, 2);
    put_number(blob, 0, 4); /* explicit padding */
    put_number(blob, 0, 4);
    put_number(blob, flags, 2);
    put_number(blob, (uint32_t)plan->groups, 4);
    put_number(blob, (uint8_t)input->params.zero_point, 1);
    put_number(blob, (uint8_t)output->params.zero_point, 1);
    put_number(blob, (uint8_t)low, 1);
    put_number(blob, (uint8_t)high, 1);
    put_number(blob, 0, 2); /* the values of the layer */
    put_number(blob, is_fixed ? 1 : 0, 1);
    put_number(blob, 0, 1); /* stream parameter */
    put_number(blob, (uint32_t)nonzeros, 4);
    put_number(blob, (uint32_t)stream.size, 4);
    const float scales[2] = {is_fixed ? 0 : input->params.scale,
                             is_fixed ? 0 : output->params.scale};
    put(blob, scales, 8);
    put_number(blob, 0, 4);
    if (encoding != EC2T_ENCODING_INT8) {
        put(blob, values, 2 * (size_t)plan->outputs);
        fill_up(blob);
    }
    for (int o = 0; plan->has_bias && o < plan->outputs; o++) {
        put_number(blob, (uint32_t)(17 * o - 40), 4);
    }
    for (int o = 0; o < (has_one ? 1 : plan->outputs); o++) {
        const float scale = 0.01f + 0.001f * (float)o;
        put(blob, &scale, 4); /* or a multiplier, why not this one */
    }
    if (is_fixed) {
        put_number(blob, (uint8_t)-6, 4);
    }
    put(blob, stream.bytes, stream.size);
    fill_up(blob);
    /* Twisted: a few bytes of the header or behind it. */
    for (int twists = pick(from, 16) > 12 ? 1 + pick(from, 3) : 0; twists > 0; twists--) {
        const size_t at = 6 + (size_t)pick(from, 75);
        if (at < 8 || at >= 16) {
            blob->bytes[at] = decide(from);
        }
    }
    const uint32_t size = (uint32_t)blob->size;
    memcpy(blob->bytes + 8, &size, 4);
    const uint32_t checksum = crc_of(blob->bytes + 16, blob->size - 16);
    memcpy(blob->bytes + 12, &checksum, 4);
}
