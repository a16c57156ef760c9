/* Writes compact blobs: export/formats/FORMAT.md, "The compact blob". In the order of
 * export/kernels/portable/compact.c, which reads them. */
#include <string.h>

#include "blob_maker.h"
#include "range_bits.h"

enum { LONGEST = 32, TRUST = 14, CENTRE_BITS = 17, PLAIN_SCALE_BITS = 18 };

typedef struct {
    ec2t_bit_model length[LONGEST], first[LONGEST], second[2 * LONGEST];
} number_models;

typedef struct {
    buffer *to;
    uint32_t low, high;
    number_models size, window, value, nonzeros, small, bias, scale;
    ec2t_bit_model operator_kind[4], code[256];
    ec2t_bit_model ternary, padding, from_zero, has_bias, shared, quick, single, one_scale;
} writer;

static void put_byte(writer *into, uint32_t byte) {
    if (into->to->size < sizeof into->to->bytes) {
        into->to->bytes[into->to->size++] = (uint8_t)byte;
    }
}

static void bit_of(writer *into, uint32_t probability, uint32_t bit) {
    const uint32_t middle = into->low + ((into->high - into->low) >> 12) * probability;
    if (bit) {
        into->high = middle;
    } else {
        into->low = middle + 1;
    }
    while ((into->low ^ into->high) >> 24 == 0) {
        put_byte(into, into->high >> 24);
        into->low <<= 8;
        into->high = into->high << 8 | 255;
    }
}

static void next_bit(writer *into, ec2t_bit_model *model, uint32_t bit, ec2t_rates rates) {
    const uint32_t both = ((uint32_t)model->fast + model->slow) >> 5;
    bit_of(into, both < 1 ? 1 : both > 4095 ? 4095 : both, bit);
    uint32_t rate = 1;
    while (rate < rates.slow && (model->count + 2u) >> (rate + 1) != 0) {
        rate += 1;
    }
    model->fast = ec2t_bits_towards(model->fast, bit, rate < rates.fast ? rate : rates.fast);
    model->slow = ec2t_bits_towards(model->slow, bit, rate);
    model->count = (uint16_t)(model->count + (model->count < 1u << rates.slow));
}

static void flag(writer *into, ec2t_bit_model *model, bool bit) {
    next_bit(into, model, bit, EC2T_STEADY);
}

static void plain(writer *into, uint32_t value, uint32_t bits) {
    while (bits-- > 0) {
        bit_of(into, 2048, value >> bits & 1);
    }
}

static void choice(writer *into, ec2t_bit_model *models, uint32_t value, uint32_t bits) {
    uint32_t node = 1;
    while (bits-- > 0) {
        next_bit(into, &models[node], value >> bits & 1, EC2T_STEADY);
        node = node << 1 | (value >> bits & 1);
    }
}

static void number(writer *into, number_models *models, uint32_t value) {
    const uint32_t digits = value + 1;
    uint32_t length = 0;
    while (digits >> (length + 1) != 0) {
        flag(into, &models->length[length++], true);
    }
    flag(into, &models->length[length], false);
    if (length == 0) {
        return;
    }
    const uint32_t first = digits >> (length - 1) & 1;
    flag(into, &models->first[length], first != 0);
    if (length > 1) {
        flag(into, &models->second[2 * length + first], (digits >> (length - 2) & 1) != 0);
        plain(into, digits & ((1u << (length - 2)) - 1), length - 2);
    }
}

static void signed_number(writer *into, number_models *models, int32_t value) {
    number(into, models, value >= 0 ? 2 * (uint32_t)value : 2 * (uint32_t)-value - 1);
}

/* The shortest ending that decodes; zeros behind it are implied. */
static void finish(writer *into) {
    for (uint32_t size = 0; size < 5; size++) {
        const uint64_t step = UINT64_C(1) << 8 * (4 - size);
        const uint64_t ending = (into->low + step - 1) / step * step;
        if (ending <= into->high) {
            for (uint32_t i = 0; i < size; i++) {
                put_byte(into, (uint32_t)(ending >> (24 - 8 * i)) & 255);
            }
            break;
        }
    }
    while (into->to->size > 3 && into->to->bytes[into->to->size - 1] == 0) {
        into->to->size--;
    }
}

/* The symbol of weight (i, y, x) of a channel, 0 outside. */
static int sign_at(const layer_plan *plan, int channel, int i, int y, int x) {
    if (channel < 0 || i < 0 || y < 0 || x < 0) {
        return 0;
    }
    const int depth = plan->inputs / plan->groups;
    const int tap = (y * plan->kernel[1] + x) * depth + i;
    const int8_t weight = plan->weights[channel * plan->taps + tap];
    return weight > 0 ? 1 : weight < 0 ? -1 : 0;
}

static void put_symbols(writer *into, const layer_plan *plan, bool quick) {
    uint32_t nonzeros = 0;
    for (int i = 0; i < plan->count; i++) {
        nonzeros += plan->weights[i] != 0;
    }
    number(into, &into->nonzeros, nonzeros);
    flag(into, &into->quick, quick);
    const ec2t_rates rates = quick ? EC2T_QUICK : EC2T_STEADY;
    const uint16_t initial = ec2t_bits_initial(nonzeros, (uint64_t)plan->count);
    ec2t_bit_model zero[16], sign[9];
    for (int i = 0; i < 16; i++) {
        zero[i] = (ec2t_bit_model){initial, initial, (uint16_t)(quick ? 0 : TRUST)};
    }
    for (int i = 0; i < 9; i++) {
        sign[i] = EC2T_EVEN;
    }
    for (int o = 0; o < plan->outputs; o++) {
        for (int i = 0; i < plan->inputs / plan->groups; i++) {
            for (int y = 0; y < plan->kernel[0]; y++) {
                for (int x = 0; x < plan->kernel[1]; x++) {
                    const int left = sign_at(plan, o, i, y, x - 1);
                    const int up = sign_at(plan, o, i, y - 1, x);
                    const int context = (left != 0) + 2 * (up != 0) +
                                        4 * (sign_at(plan, o, i - 1, y, x) != 0) +
                                        8 * (sign_at(plan, o - 1, i, y, x) != 0);
                    const int symbol = sign_at(plan, o, i, y, x);
                    next_bit(into, &zero[context], symbol != 0, rates);
                    if (symbol != 0) {
                        next_bit(into, &sign[3 * (left + 1) + up + 1], symbol < 0, rates);
                    }
                }
            }
        }
    }
}

static void put_weights(writer *into, const layer_plan *plan, const int8_t *values, int options) {
    if (values != NULL) {
        flag(into, &into->shared, false);
        for (int i = 0; i < 2 * plan->outputs; i++) {
            number(into, &into->value, (uint32_t)(127 - (i % 2 == 0 ? values[i] : -values[i])));
        }
        put_symbols(into, plan, (options & 1) != 0);
        return;
    }
    const uint32_t learned = (uint32_t)options % 9;
    number(into, &into->small, learned);
    for (int i = 0; i < plan->count; i++) {
        const uint32_t code = (uint32_t)(plan->weights[i] + 128);
        choice(into, into->code, code >> (8 - learned), learned);
        plain(into, code & ((1u << (8 - learned)) - 1), 8 - learned);
    }
}

/* With as many last bits of zero as `zeros` says, unless that is below 0: version 2. */
static void put_scales(writer *into, const layer_plan *plan, int zeros) {
    const uint32_t cut = zeros < 0 ? 0 : zeros < CENTRE_BITS ? (uint32_t)zeros : CENTRE_BITS;
    if (zeros >= 0) {
        number(into, &into->small, (uint32_t)zeros);
    }
    const uint32_t count = plan->has_one_scale ? 1 : (uint32_t)plan->outputs;
    const bool is_one = count == 1;
    flag(into, &into->single, plan->has_one_scale && plan->outputs > 1);
    flag(into, &into->one_scale, is_one);
    const int64_t centre = INT64_C(0x3c23d70a) >> CENTRE_BITS << CENTRE_BITS;
    if (!is_one) {
        plain(into, (uint32_t)(centre >> CENTRE_BITS), 32 - CENTRE_BITS);
    }
    for (uint32_t o = 0; o < count; o++) {
        const float scale = 0.01f + 0.001f * (float)o;
        uint32_t bits;
        memcpy(&bits, &scale, sizeof bits);
        bits = bits >> cut << cut;
        if (is_one) {
            plain(into, bits >> cut, 32 - cut);
            continue;
        }
        const int64_t rest = bits - centre; /* not negative */
        signed_number(into, &into->scale, (int32_t)(rest >> PLAIN_SCALE_BITS));
        plain(into, ((uint32_t)rest & ((1u << PLAIN_SCALE_BITS) - 1)) >> cut,
              PLAIN_SCALE_BITS - cut);
    }
}

void make_compact_blob(buffer *blob, const layer_plan *plan, const TfLiteTensor *output,
                       decisions *from) {
    static writer into;
    int8_t values[2 * MOST_WEIGHTS];
    const int options = decide(from);
    const int zeros = options % 40 - 20; /* below 0: version 2; above 17: refused */
    const bool is_ternary = channel_values(plan, values) && options < 200;
    memset(&into, 0, sizeof into);
    ec2t_bit_model *const models = (ec2t_bit_model *)(void *)&into.size;
    const size_t model_bytes = sizeof into - offsetof(writer, size);
    for (size_t i = 0; i < model_bytes / sizeof *models; i++) {
        models[i] = EC2T_EVEN;
    }
    into.to = blob, into.low = 0, into.high = 0xffffffffu;
    blob->size = 3;
    choice(&into, into.operator_kind, (uint32_t)plan->op, 2);
    flag(&into, &into.ternary, is_ternary);
    number(&into, &into.size, (uint32_t)plan->outputs - 1);
    number(&into, &into.size, (uint32_t)plan->inputs - 1);
    const int *const pairs[3] = {plan->kernel, plan->stride, plan->dilation};
    for (int i = 0; i < 6 && plan->op != EC2T_FULLY_CONNECTED; i++) {
        number(&into, &into.window, (uint32_t)pairs[i / 2][i % 2] - 1);
    }
    if (plan->op != EC2T_FULLY_CONNECTED) {
        flag(&into, &into.padding, plan->is_same);
    }
    if (plan->op == EC2T_CONV_2D) {
        number(&into, &into.size, (uint32_t)plan->groups - 1);
    }
    const bool is_relu = plan->activation == kTfLiteActRelu;
    const bool from_zero = is_relu || output->params.zero_point == -128;
    flag(&into, &into.from_zero, from_zero);
    if (!from_zero) {
        number(&into, &into.value, 0);
    }
    number(&into, &into.value, 0);
    flag(&into, &into.has_bias, plan->has_bias);
    put_weights(&into, plan, is_ternary ? values : NULL, options);
    put_scales(&into, plan, zeros);
    if (plan->has_bias) {
        if (zeros >= 0) {
            number(&into, &into.small, (uint32_t)zeros);
        }
        signed_number(&into, &into.small, 0);
        number(&into, &into.small, (uint32_t)options % 5);
        signed_number(&into, &into.small, 0);
        for (int o = 0; o < plan->outputs; o++) {
            const int32_t bias = 17 * o - 40, digits = options % 5;
            const int32_t upper =
                bias >= 0 ? bias >> digits : -((-bias + (1 << digits) - 1) >> digits);
            signed_number(&into, &into.bias, upper);
            plain(&into, (uint32_t)(bias - upper * (1 << digits)), (uint32_t)digits);
        }
    }
    finish(&into);
    /* Twisted: what a stream says from there on is anything. */
    if (pick(from, 16) > 11 && blob->size > 3) {
        blob->bytes[3 + (size_t)decide(from) % (blob->size - 3)] ^=
            (uint8_t)(1 + decide(from) % 255);
    }
    const uint32_t check = ec2t_checksum(blob->bytes + 3, blob->size - 3);
    blob->bytes[0] = (uint8_t)(pick(from, 32) == 31 ? 4 : zeros < 0 ? 2 : 3);
    blob->bytes[1] = (uint8_t)check;
    blob->bytes[2] = (uint8_t)(check >> 8);
}
