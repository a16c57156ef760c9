#include "planar.h"

/* gemmlowp's fixed point of 16 bits: Q(k) has k integer bits. */
static int32_t limited(int32_t value) {
    return value < -32768 ? -32768 : value > 32767 ? 32767 : value;
}

static int32_t times(int32_t a, int32_t b) {
    const int32_t product = (a * b + (1 << 14)) >> 15;
    return product > 32767 ? 32767 : product;
}

/* value / 2^bits, halves away from zero; bits > 0. */
static int32_t shifted(int32_t value, uint32_t bits) {
    return (value + (1 << (bits - 1u)) - (value < 0)) >> bits;
}

/* exp of a <= 0 in Q(k): a series around -1/8, then a factor for each binary digit. */
static int32_t exponential(int32_t a, uint32_t k) {
    static const int16_t factors[7] = {25520, 19875, 12055, 4435, 600, 11, 0};
    if (a == 0)
        return 32767;
    const uint32_t fraction = 15u - k;
    const int32_t quarter = 1 << (fraction - 2u), inside = (a & (quarter - 1)) - quarter;
    const int32_t x = inside * (1 << k) + (1 << 12), x2 = times(x, x);
    const int32_t series = shifted(times(shifted(times(x2, x2), 2) + times(x2, x), 10923) + x2, 1);
    int32_t result = limited(28918 + times(28918, x + series));
    const int32_t rest = inside - a;
    for (uint32_t digit = 0; digit < 7u && k + 2u > digit; ++digit) {
        if (rest >> (fraction + digit - 2u) & 1)
            result = times(result, factors[digit]);
    }
    return k > 5u && a < -(32 << fraction) ? 0 : result;
}

/* 2 / (1 + a) in Q2 for a in Q0. */
static int32_t reciprocal(int32_t a) {
    const int32_t half = (a + 32768) >> 1;
    int32_t x = 23130 + times(half, -15420);
    for (int i = 0; i < 3; ++i)
        x += limited(times(x, (1 << 13) - times(half, x)) * 4);
    return x;
}

/* Of a value in Q3, in Q0. */
static int32_t sigmoid(int32_t value) {
    if (value == 0)
        return 1 << 14;
    const int32_t size = value < 0 ? value : -value;
    const int32_t positive = limited(reciprocal(exponential(size, 3)) * 2);
    return value > 0 ? positive : 32767 - positive;
}

/* Of a value in Q(k), in Q0. */
static int32_t tangent(int32_t value, uint32_t k) {
    const int32_t size = value < 0 ? value : -value;
    const int32_t positive = limited((reciprocal(exponential(size, k + 1u)) - (1 << 13)) * 4);
    return value > 0 ? positive : value < 0 ? -positive : 0;
}

void ec2t_mcu_lstm_run(const ec2t_mcu_lstm *layer, const uint8_t *input, int8_t *hidden,
                       int16_t *cell, uint8_t *output, int16_t *sums) {
    const uint32_t units = layer->units;
    for (uint32_t t = 0; t < layer->steps; ++t) {
        const uint8_t *x = input + (int32_t)t * layer->in_time;
        uint8_t *to = output + (int32_t)t * layer->out_time;
        for (uint32_t g = 0; g < 4u; ++g) {
            const ec2t_mcu_gate *gate = &layer->gates[g];
            const int8_t *kernel = gate->kernel, *recurrent = gate->recurrent;
            for (uint32_t u = 0; u < units; ++u) {
                int32_t first = gate->bias[u], second = gate->recurrent_bias[u], place = 0;
                for (uint32_t i = layer->inputs; i; --i, place += layer->in_feature)
                    first += *kernel++ * ec2t_mcu_value(x[place]);
                for (uint32_t i = 0; i < units; ++i)
                    second += *recurrent++ * hidden[i];
                first = limited(ec2t_mcu_requantise(first, gate->multiplier, gate->shift));
                second =
                    ec2t_mcu_requantise(second, gate->recurrent_multiplier, gate->recurrent_shift);
                const int32_t sum = limited(first + second);
                sums[g * units + u] = (int16_t)(g == 2u ? tangent(sum, 3) : sigmoid(sum));
            }
        }
        for (uint32_t u = 0; u < units; ++u) {
            const int32_t i = sums[u], f = sums[units + u], g = sums[2u * units + u];
            const int32_t o = sums[3u * units + u];
            int32_t c = shifted(f * cell[u], 15) + shifted(i * g, layer->cell_shift);
            c = limited(c);
            if (layer->cell_clip) {
                c = c < -layer->cell_clip ? -layer->cell_clip : c;
                c = c > layer->cell_clip ? layer->cell_clip : c;
            }
            cell[u] = (int16_t)c;
            const int32_t h = ec2t_mcu_requantise(o * tangent(c, layer->cell_bits),
                                                  layer->multiplier, layer->shift);
            hidden[u] = (int8_t)ec2t_mcu_clamped(h, &layer->clamp);
            to[(int32_t)u * layer->out_feature] = ec2t_mcu_byte(hidden[u]);
        }
    }
}
