/* Expands compact blobs: export/formats/FORMAT.md, "The compact blob". In the order of Python's
 * export/formats/compact.py. */
#include <string.h>

#include "ec2t_layer.h"
#include "range_bits.h"

enum {
    VERSION = 2,
    ROUNDED = 3,        /* version whose scales and biases end in zeros */
    COMPACT_HEADER = 3, /* version, lower half of the stream's CRC-32 */
    BLOB_HEADER = 80,
    LONGEST = 32, /* bits of a number */
    LARGEST_SIZE = 1 << 20,
    LARGEST_WINDOW = 4095,
    LARGEST_TAPS = 65535,
    LARGEST_WEIGHTS = 1 << 28,
    FREE_WEIGHTS = 1 << 16,
    WEIGHTS_PER_BYTE = 2048,
    TRUST = 14, /* how many bits the first probability of zeros counts for */
    SLOPE_BITS = 2,
    CENTRE_BITS = 17,
    PLAIN_SCALE_BITS = 18,
    MOST_DIGITS = 31,
};

/* A number: how many bits it has, its first two digits, then the others as they are. */
typedef struct {
    ec2t_bit_model length[LONGEST], first[LONGEST], second[2 * LONGEST];
} number_models;

typedef struct {
    const uint8_t *stream;
    ec2t_bit_reader reader;
    int rounded; /* the version says how many last digits of numbers are zero */
    int failed;  /* a number was not allowed: what is read from then on means nothing */
    number_models size, window, value, nonzeros, small, bias, scale;
    ec2t_bit_model operator_kind[4], code[256];
    ec2t_bit_model ternary, padding, from_zero, has_bias, shared, flips, flip, quick, single,
        one_scale;
} compact_reader;

/* What comes before the weights. */
typedef struct {
    uint32_t operator_kind, outputs, inputs, groups, window[6], padding;
    uint32_t taps;
    int32_t lowest, highest;
    uint32_t ternary, has_bias;
} compact_head;

static void make_even(void *models, size_t size) {
    ec2t_bit_model *const all = models;
    for (size_t i = 0; i < size / sizeof *all; ++i) {
        all[i] = EC2T_EVEN;
    }
}

static uint32_t flag(compact_reader *from, ec2t_bit_model *model) {
    return ec2t_bits_next(&from->reader, from->stream, model, EC2T_STEADY);
}

static uint32_t plain(compact_reader *from, uint32_t bits) {
    uint32_t value = 0;
    for (uint32_t i = 0; i < bits; ++i) {
        value = value << 1 | ec2t_bits_of(&from->reader, from->stream, 2048);
    }
    return value;
}

static uint32_t choice(compact_reader *from, ec2t_bit_model *models, uint32_t bits) {
    uint32_t node = 1;
    for (uint32_t i = 0; i < bits; ++i) {
        node = node << 1 | flag(from, &models[node]);
    }
    return node - (1u << bits);
}

static uint32_t number(compact_reader *from, number_models *models) {
    uint32_t length = 0;
    while (length < LONGEST && flag(from, &models->length[length])) {
        length += 1;
    }
    if (length >= LONGEST) {
        from->failed = 1;
        return 0;
    }
    if (length == 0) {
        return 0;
    }
    const uint32_t first = flag(from, &models->first[length]);
    uint32_t value = 2 | first;
    if (length > 1) {
        value = value << 1 | flag(from, &models->second[2 * length + first]);
        value = value << (length - 2) | plain(from, length - 2);
    }
    return value - 1;
}

static int64_t signed_number(compact_reader *from, number_models *models) {
    const int64_t coded = number(from, models);
    return (coded & 1) != 0 ? -((coded + 1) / 2) : coded / 2;
}

static uint32_t size_below(compact_reader *from, number_models *models, uint32_t largest) {
    const uint32_t size = number(from, models);
    from->failed |= size >= largest;
    return size + 1;
}

static int32_t code_of(compact_reader *from, int64_t value, int32_t smallest) {
    from->failed |= value < smallest || value > 127;
    return (int32_t)value;
}

static void read_head(compact_reader *from, size_t size, const ec2t_ends *ends,
                      compact_head *head) {
    head->operator_kind = choice(from, from->operator_kind, 2);
    from->failed |= head->operator_kind == 0;
    head->ternary = flag(from, &from->ternary);
    head->outputs = size_below(from, &from->size, LARGEST_SIZE);
    head->inputs = size_below(from, &from->size, LARGEST_SIZE);
    head->groups = 1;
    head->padding = EC2T_PADDING_VALID;
    for (int i = 0; i < 6; ++i) {
        head->window[i] = head->operator_kind == EC2T_FULLY_CONNECTED
                              ? 1
                              : size_below(from, &from->window, LARGEST_WINDOW);
    }
    if (head->operator_kind != EC2T_FULLY_CONNECTED) {
        head->padding = flag(from, &from->padding);
        head->groups = head->operator_kind == EC2T_CONV_2D
                           ? size_below(from, &from->size, LARGEST_SIZE)
                           : head->inputs;
    }
    if (from->failed || head->inputs % head->groups != 0) {
        from->failed = 1;
        return;
    }
    /* At most 4095^2 * 2^20, and 2^16 * 2^20. */
    const uint64_t taps =
        (uint64_t)head->window[0] * head->window[1] * (head->inputs / head->groups);
    const uint64_t most = FREE_WEIGHTS + (uint64_t)WEIGHTS_PER_BYTE * size;
    if (taps > LARGEST_TAPS || taps * head->outputs > LARGEST_WEIGHTS ||
        taps * head->outputs > most) {
        from->failed = 1;
        return;
    }
    head->taps = (uint32_t)taps;
    head->lowest = flag(from, &from->from_zero)
                       ? ends->output_zero_point
                       : code_of(from, (int64_t)number(from, &from->value) - 128, -128);
    head->highest = code_of(from, 127 - (int64_t)number(from, &from->value), -128);
    head->has_bias = flag(from, &from->has_bias);
}

static ec2t_status start(compact_reader *from, const uint8_t *compact, size_t size,
                         const ec2t_ends *ends, compact_head *head) {
    if (compact == NULL || ends == NULL || size > INT32_MAX) {
        return EC2T_ERROR_ARGUMENT;
    }
    if (size < COMPACT_HEADER) {
        return EC2T_ERROR_TRUNCATED;
    }
    if (compact[0] != VERSION && compact[0] != ROUNDED) {
        return EC2T_ERROR_VERSION;
    }
    const size_t left = size - COMPACT_HEADER;
    const uint32_t check = ec2t_checksum(compact + COMPACT_HEADER, left) & 0xffffu;
    if (check != ((uint32_t)compact[1] | (uint32_t)compact[2] << 8)) {
        return EC2T_ERROR_CHECKSUM;
    }
    from->stream = compact + COMPACT_HEADER;
    ec2t_bits_start(&from->reader, from->stream, (uint32_t)left);
    from->rounded = compact[0] == ROUNDED;
    from->failed = 0;
    make_even(&from->size, sizeof *from - offsetof(compact_reader, size));
    read_head(from, size, ends, head);
    return from->failed ? EC2T_ERROR_HEADER : EC2T_OK;
}

static size_t padded(size_t size) {
    return (size + 3) & ~(size_t)3;
}

static size_t stream_size(const compact_head *head) {
    const size_t weights = (size_t)head->taps * head->outputs;
    return head->ternary ? (weights + 3) / 4 : weights;
}

/* With a scale per channel; a layer of one requantisation takes up less. */
static size_t largest_size(const compact_head *head) {
    const size_t outputs = head->outputs;
    return BLOB_HEADER + (head->ternary ? padded(2 * outputs) : 0) +
           (head->has_bias ? 4 * outputs : 0) + 4 * outputs + padded(stream_size(head));
}

static void store(uint8_t *at, uint32_t value, int bytes) {
    for (int i = 0; i < bytes; ++i) {
        at[i] = (uint8_t)(value >> 8 * i);
    }
}

/* Pairs of what the symbols stand for, per channel. */
static void read_values(compact_reader *from, uint32_t outputs, int8_t *values) {
    const uint32_t shared = flag(from, &from->shared);
    for (uint32_t i = 0; i < 2 * outputs; ++i) {
        if (shared && i >= 2) {
            values[i] = values[i - 2];
            continue;
        }
        const int64_t value = 127 - (int64_t)number(from, &from->value);
        values[i] = (int8_t)code_of(from, i % 2 == 0 ? value : -value, -127);
    }
    if (shared && flag(from, &from->flips)) {
        for (uint32_t channel = 0; channel < outputs; ++channel) {
            if (flag(from, &from->flip)) {
                values[2 * channel] = (int8_t)-values[2 * channel];
                values[2 * channel + 1] = (int8_t)-values[2 * channel + 1];
            }
        }
    }
}

/* A symbol in two bits: 0 zero, 1 plus, 2 minus. */
static uint32_t symbol_at(const uint8_t *stream, size_t index) {
    return (uint32_t)stream[index / 4] >> 2 * (index % 4) & 3u;
}

static int sign_of(uint32_t symbol) {
    return symbol == 1 ? 1 : symbol == 2 ? -1 : 0;
}

/* Symbols in two bits each, zeros before; their number that are not zero. */
static uint32_t read_symbols(compact_reader *from, const compact_head *head, uint8_t *stream) {
    const uint64_t count = (uint64_t)head->taps * head->outputs;
    uint32_t nonzeros = number(from, &from->nonzeros);
    nonzeros = nonzeros > count ? (uint32_t)count : nonzeros;
    const int quick = (int)flag(from, &from->quick);
    const ec2t_rates rates = quick ? EC2T_QUICK : EC2T_STEADY;
    const uint16_t initial = ec2t_bits_initial(nonzeros, count);
    ec2t_bit_model zero[16], sign[9];
    for (int i = 0; i < 16; ++i) {
        zero[i] = (ec2t_bit_model){initial, initial, (uint16_t)(quick ? 0 : TRUST)};
    }
    make_even(sign, sizeof sign);
    const size_t depth = head->inputs / head->groups, row = depth * head->window[1];
    nonzeros = 0;
    for (size_t channel = 0; channel < head->outputs; ++channel) {
        const size_t begin = channel * head->taps;
        for (size_t i = 0; i < depth; ++i) {
            for (size_t y = 0; y < head->window[0]; ++y) {
                for (size_t x = 0; x < head->window[1]; ++x) {
                    const size_t at = begin + y * row + x * depth + i;
                    const uint32_t left = x > 0 ? symbol_at(stream, at - depth) : 0;
                    const uint32_t up = y > 0 ? symbol_at(stream, at - row) : 0;
                    const uint32_t before = i > 0 ? symbol_at(stream, at - 1) : 0;
                    const uint32_t above = channel > 0 ? symbol_at(stream, at - head->taps) : 0;
                    const int context =
                        (left != 0) + 2 * (up != 0) + 4 * (before != 0) + 8 * (above != 0);
                    if (!ec2t_bits_next(&from->reader, from->stream, &zero[context], rates)) {
                        continue;
                    }
                    const int signs = 3 * (sign_of(left) + 1) + sign_of(up) + 1;
                    const uint32_t minus =
                        ec2t_bits_next(&from->reader, from->stream, &sign[signs], rates);
                    stream[at / 4] |= (uint8_t)((1u + minus) << 2 * (at % 4));
                    nonzeros += 1;
                }
            }
        }
    }
    return nonzeros;
}

/* int8 weights; their number that are not zero. */
static uint32_t read_codes(compact_reader *from, size_t count, uint8_t *stream) {
    const uint32_t learned = number(from, &from->small);
    if (learned > 8) {
        from->failed = 1;
        return 0;
    }
    uint32_t nonzeros = 0;
    for (size_t i = 0; i < count; ++i) {
        const uint32_t upper = choice(from, from->code, learned) << (8 - learned);
        const uint32_t code = upper | plain(from, 8 - learned);
        stream[i] = (uint8_t)(code - 128u);
        from->failed |= code == 0; /* -128 */
        nonzeros += code != 128;
    }
    return nonzeros;
}

/* How many last digits of all of a layer's scales, or biases, are zero. */
static uint32_t read_zeros(compact_reader *from, uint32_t most) {
    const uint32_t zeros = from->rounded ? number(from, &from->small) : 0;
    from->failed |= zeros > most;
    return zeros > most ? 0 : zeros;
}

/* Bits of float32s. */
static void read_scales(compact_reader *from, uint32_t count, uint8_t *scales) {
    const uint32_t zeros = read_zeros(from, CENTRE_BITS);
    if (flag(from, &from->one_scale)) {
        const uint32_t bits = plain(from, 32 - zeros) << zeros;
        for (uint32_t i = 0; i < count; ++i) {
            store(scales + 4 * (size_t)i, bits, 4);
        }
        return;
    }
    const int64_t centre = (int64_t)plain(from, 32 - CENTRE_BITS) << CENTRE_BITS;
    for (uint32_t i = 0; i < count; ++i) {
        const int64_t upper = signed_number(from, &from->scale) * (1 << PLAIN_SCALE_BITS);
        const uint32_t lower = plain(from, PLAIN_SCALE_BITS - zeros) << zeros;
        const int64_t bits = centre + upper + lower;
        from->failed |= bits < 0 || bits > UINT32_MAX;
        store(scales + 4 * (size_t)i, (uint32_t)bits, 4);
    }
}

/* Of one channel's weights. */
static int64_t sum_of(const compact_head *head, uint32_t channel, const int8_t *values,
                      const uint8_t *stream) {
    const size_t begin = (size_t)channel * head->taps;
    int64_t sum = 0;
    for (size_t at = begin; at < begin + head->taps; ++at) {
        if (!head->ternary) {
            sum += (int8_t)stream[at];
            continue;
        }
        const uint32_t symbol = symbol_at(stream, at);
        sum += symbol == 0 ? 0 : values[2 * channel + symbol - 1];
    }
    return sum;
}

/* Division by 2^bits that rounds down. */
static int64_t shifted(int64_t value, int bits) {
    return value >= 0 ? value >> bits : -((-value + ((INT64_C(1) << bits) - 1)) >> bits);
}

/* What a line through the sums can take back of a bias is below 2^54. */
#define LARGEST_UPPER (INT64_C(1) << 60)

/* int32s near a line through the sums of the weights. */
static void read_biases(compact_reader *from, const compact_head *head, const int8_t *values,
                        const uint8_t *stream, uint8_t *biases) {
    const uint32_t zeros = read_zeros(from, MOST_DIGITS);
    const int64_t slope = signed_number(from, &from->small);
    const uint32_t digits = number(from, &from->small);
    const int64_t centre = signed_number(from, &from->small);
    if (digits > MOST_DIGITS) {
        from->failed = 1;
        return;
    }
    for (uint32_t channel = 0; channel < head->outputs; ++channel) {
        const int64_t sum = sum_of(head, channel, values, stream); /* below 2^23 */
        const int64_t upper = centre + signed_number(from, &from->bias);
        if (upper < -(LARGEST_UPPER >> digits) || upper > LARGEST_UPPER >> digits) {
            from->failed = 1;
            return;
        }
        const int64_t bias = upper * (INT64_C(1) << digits) +
                             shifted(slope * sum, SLOPE_BITS + (int)zeros) + plain(from, digits);
        const int64_t limit = (INT64_C(1) << 31) >> zeros; /* of a bias without its zeros */
        from->failed |= bias < -limit || bias >= limit;
        store(biases + 4 * (size_t)channel, (uint32_t)bias << zeros, 4);
    }
}

static void write_header(const compact_head *head, const ec2t_ends *ends, uint8_t *blob,
                         size_t size) {
    uint32_t scale;
    memcpy(blob, "EC2T", 4);
    store(blob + 4, 1, 2);
    blob[6] = (uint8_t)head->operator_kind;
    blob[7] = head->ternary ? EC2T_ENCODING_TWO_BIT : EC2T_ENCODING_INT8;
    store(blob + 8, (uint32_t)size, 4);
    store(blob + 16, head->outputs, 4);
    store(blob + 20, head->inputs, 4);
    for (int i = 0; i < 6; ++i) {
        store(blob + 24 + 2 * i, head->window[i], 2);
    }
    store(blob + 36, head->padding, 2);
    store(blob + 48, head->groups, 4);
    blob[52] = (uint8_t)ends->input_zero_point;
    blob[53] = (uint8_t)ends->output_zero_point;
    blob[54] = (uint8_t)head->lowest;
    blob[55] = (uint8_t)head->highest;
    store(blob + 64, (uint32_t)stream_size(head), 4);
    memcpy(&scale, &ends->input_scale, sizeof scale);
    store(blob + 68, scale, 4);
    memcpy(&scale, &ends->output_scale, sizeof scale);
    store(blob + 72, scale, 4);
}

size_t ec2t_compact_get_expanded_size(const void *compact, size_t size, const ec2t_ends *ends) {
    compact_reader from;
    compact_head head;
    return start(&from, compact, size, ends, &head) == EC2T_OK ? largest_size(&head) : 0;
}

ec2t_status ec2t_compact_expand(const void *compact, size_t size, const ec2t_ends *ends, void *blob,
                                size_t *blob_size) {
    compact_reader from;
    compact_head head;
    const ec2t_status status = start(&from, compact, size, ends, &head);
    if (status != EC2T_OK) {
        return status;
    }
    if (blob == NULL || blob_size == NULL || *blob_size < largest_size(&head)) {
        return EC2T_ERROR_BUFFER;
    }
    /* The stream is read first but stands last, behind as many scales as there turn out to be: it
     * is read at the end of the buffer. */
    const size_t outputs = head.outputs, weights = (size_t)head.taps * outputs;
    const size_t values_size = head.ternary ? padded(2 * outputs) : 0;
    const size_t biases_size = head.has_bias ? 4 * outputs : 0;
    uint8_t *const bytes = blob;
    memset(bytes, 0, largest_size(&head));
    int8_t *const values = (int8_t *)(bytes + BLOB_HEADER);
    uint8_t *const biases = bytes + BLOB_HEADER + values_size;
    uint8_t *const scales = biases + biases_size;
    uint8_t *const stream = scales + 4 * outputs;
    uint32_t nonzeros;
    if (head.ternary) {
        read_values(&from, head.outputs, values);
        nonzeros = from.failed ? 0 : read_symbols(&from, &head, stream);
    } else {
        nonzeros = read_codes(&from, weights, stream);
    }
    const uint32_t single = flag(&from, &from.single);
    const uint32_t count = single ? 1 : head.outputs;
    if (!from.failed) {
        read_scales(&from, count, scales);
    }
    if (!from.failed && head.has_bias) {
        read_biases(&from, &head, values, stream, biases);
    }
    if (from.failed) {
        return EC2T_ERROR_HEADER;
    }
    if (!ec2t_bits_ended(&from.reader)) {
        return EC2T_ERROR_STREAM;
    }
    const size_t unused = 4 * (outputs - count);
    memmove(stream - unused, stream, padded(stream_size(&head)));
    *blob_size = largest_size(&head) - unused;
    write_header(&head, ends, bytes, *blob_size);
    store(bytes + 46, head.has_bias | (head.ternary ? 2u : 0u) | (single ? 8u : 0u), 2);
    store(bytes + 60, nonzeros, 4);
    return EC2T_OK;
}
