#include "planar.h"

/* a * b / 2^31, halves up. */
static int32_t times(int32_t a, int32_t b) {
    return (int32_t)(((int64_t)a * b + (1 << 30)) >> 31);
}

/* value / 2^bits, rounded; value >= 0, bits > 0. */
static int32_t shifted(int32_t value, uint32_t bits) {
    return bits > 31u ? 0 : (int32_t)(((uint32_t)value + (1u << (bits - 1u))) >> bits);
}

/* 2^31 / (1 + a / 2^31) by Newton's method, as gemmlowp has it. */
static int32_t reciprocal(int32_t a) {
    const int32_t half = (int32_t)(((uint32_t)a + 0x80000000u) >> 1), one = 1 << 29;
    int32_t x = 1515870810 + times(half, -1010580540);
    for (int i = 0; i < 3; ++i)
        x += times(x, one - times(half, x)) * 4;
    return x > 0x3fffffff ? 0x7fffffff : x * 2;
}

/* Of all channels at one place. */
static int32_t greatest_of(const ec2t_mcu_planar *in, const uint8_t *from) {
    int32_t greatest = -128;
    for (uint32_t c = 0; c < in->channels; ++c) {
        const int32_t value = ec2t_mcu_value(from[c * in->plane]);
        if (value > greatest)
            greatest = value;
    }
    return greatest;
}

void ec2t_mcu_softmax_run(const ec2t_mcu_softmax *layer, const uint8_t *input, uint8_t *output) {
    const ec2t_mcu_planar *in = &layer->in, *out = &layer->out;
    for (uint32_t y = 0; y < in->height; ++y) {
        for (uint32_t x = 0; x < in->width; ++x) {
            const uint8_t *from = input + y * in->pitch + x;
            uint8_t *to = output + y * out->pitch + x;
            const int32_t greatest = greatest_of(in, from);
            uint32_t sum = 0; /* in 2^-19; at most 4095 channels */
            for (uint32_t c = 0; c < in->channels; ++c)
                sum +=
                    (layer->powers[greatest - ec2t_mcu_value(from[c * in->plane])] + 2048u) >> 12;
            uint32_t zeros = 0;
            while (!(sum & 0x80000000u))
                sum <<= 1, ++zeros;
            const int32_t factor = reciprocal((int32_t)(sum & 0x7fffffffu));
            for (uint32_t c = 0; c < in->channels; ++c) {
                const uint32_t power =
                    layer->powers[greatest - ec2t_mcu_value(from[c * in->plane])];
                const int32_t value = shifted(times(factor, (int32_t)power), 35u - zeros) - 128;
                to[c * out->plane] = ec2t_mcu_byte(value > 127 ? 127 : value);
            }
        }
    }
}

/* value / 2^bits, halves away from zero; bits > 0. */
static int32_t divided(int32_t value, uint32_t bits) {
    const int32_t mask = (int32_t)((1u << bits) - 1u);
    return (value >> bits) + ((value & mask) > (mask >> 1) + (value < 0));
}

static uint32_t leading_zeros(uint32_t value) {
    uint32_t zeros = 0;
    while (!(value & 0x80000000u))
        value <<= 1, ++zeros;
    return zeros;
}

/* log(sum / 2^12) in 2^-26, as gemmlowp has it: twice, for the powers of two above and below; sum
 * is at least 2^12 and below 2^31. */
static int32_t logarithm(int32_t sum) {
    const int32_t half_root = 1518500250, quarter_root = 1805811301, quarter = 1 << 23;
    const uint32_t above = leading_zeros((uint32_t)sum);
    const uint32_t below = leading_zeros((uint32_t)times(sum, half_root)) - 1u;
    const int32_t first = times((int32_t)((uint32_t)sum << (above - 1u)), half_root);
    const int64_t second = (int64_t)sum << below;
    int32_t r = first > 0x3fffffff ? 0x7fffffff : first * 2;
    if (second < r)
        r = (int32_t)second;
    const int32_t first_power = (12 - (int32_t)above) * (1 << 25) + quarter;
    const int32_t second_power = (12 - (int32_t)below) * (1 << 25) - quarter;
    const int32_t power = first_power > second_power ? first_power : second_power;
    const int32_t p = (int32_t)(((int64_t)r + quarter_root + 1) >> 1), q = 2 * (r - quarter_root);
    const int32_t square = times(q, q);
    const int32_t numerator = times(q, r) + times(times(q, square), 117049297);
    const int32_t inner = 1057819769 + q + times(127690142, square);
    const int32_t denominator = times(p, inner) + times(638450708, q);
    const int32_t share = times(divided(numerator, 6), reciprocal(denominator));
    return 2 * (times(power, 1488522236) + share);
}

void ec2t_mcu_log_softmax_run(const ec2t_mcu_log_softmax *layer, const uint8_t *input,
                              uint8_t *output) {
    const ec2t_mcu_planar *in = &layer->in, *out = &layer->out;
    for (uint32_t y = 0; y < in->height; ++y) {
        for (uint32_t x = 0; x < in->width; ++x) {
            const uint8_t *from = input + y * in->pitch + x;
            uint8_t *to = output + y * out->pitch + x;
            const int32_t greatest = greatest_of(in, from);
            uint32_t sum = 0; /* at most 4095 channels */
            for (uint32_t c = 0; c < in->channels; ++c)
                sum += layer->powers[greatest - ec2t_mcu_value(from[c * in->plane])];
            const int32_t log = logarithm((int32_t)sum);
            int32_t most = -ec2t_mcu_requantise((int32_t)((uint32_t)log + 0x80000000u),
                                                layer->multiplier, layer->shift);
            if (most > layer->most + 1)
                most = layer->most + 1;
            for (uint32_t c = 0; c < in->channels; ++c) {
                const int32_t difference = greatest - ec2t_mcu_value(from[c * in->plane]);
                int32_t value = -128;
                if (difference < most)
                    value = divided(layer->scaled[difference] - log, 22) + 127;
                to[c * out->plane] = ec2t_mcu_byte(value > 127 ? 127 : value < -128 ? -128 : value);
            }
        }
    }
}
