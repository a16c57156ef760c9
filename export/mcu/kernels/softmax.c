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

void ec2t_mcu_softmax_run(const ec2t_mcu_softmax *layer, const uint8_t *input, uint8_t *output) {
    const ec2t_mcu_planar *in = &layer->in, *out = &layer->out;
    for (uint32_t y = 0; y < in->height; ++y) {
        for (uint32_t x = 0; x < in->width; ++x) {
            const uint8_t *from = input + y * in->pitch + x;
            uint8_t *to = output + y * out->pitch + x;
            int32_t greatest = -128;
            for (uint32_t c = 0; c < in->channels; ++c) {
                const int32_t value = ec2t_mcu_value(from[c * in->plane]);
                if (value > greatest)
                    greatest = value;
            }
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
