#include "normalise.h"
#include "requantise.h"
#include "walk.h"

/* What the elements of a row share. */
typedef struct {
    int32_t centre; /* the row's mean and the zero point, in 128ths of a code */
    int32_t root;
} row;

/* A factor of at most 1 for values within 30 bits. */
typedef struct {
    int32_t multiplier, half, away, right;
} factor;

static inline factor factor_of(const ec2t_mcu_factor *given) {
    const int32_t right = -given->shift;
    factor f = {given->multiplier, 0, 0, right};
    if (right)
        f.half = 1 << (right - 1), f.away = -1;
    return f;
}

static inline int32_t times(int32_t value, const factor *f) {
    const int32_t high = ec2t_mcu_high(value * 2, f->multiplier, f->half);
    return (high + ((value >> 31) & f->away)) >> f->right;
}

static inline int32_t narrowed(int32_t value) {
    value = value > 32767 ? 32767 : value;
    return value < -32768 ? -32768 : value;
}

static int32_t sum_of(const ec2t_mcu_normalise *layer, const uint8_t *input) {
    const uint32_t outer = layer->inner_count - 1u;
    const ec2t_mcu_axis *inner = &layer->inner[outer];
    const int32_t step = inner->step[0];
    ec2t_mcu_position at = {{0}, {0, 0, 0}};
    int32_t sum = layer->bias;
    do {
        const uint8_t *from = input + at.place[0];
        int32_t i = 0;
        for (uint32_t n = inner->size; n; --n, i += step)
            sum += ec2t_mcu_value(from[i]);
    } while (ec2t_mcu_next(layer->inner, outer, &at));
    return sum;
}

static int32_t sum_of_squares(const ec2t_mcu_normalise *layer, const uint8_t *input,
                              int32_t centre) {
    const uint32_t outer = layer->inner_count - 1u;
    const ec2t_mcu_axis *inner = &layer->inner[outer];
    const int32_t step = inner->step[0];
    const factor square = factor_of(&layer->square);
    ec2t_mcu_position at = {{0}, {0, 0, 0}};
    int32_t sum = 0;
    do {
        const uint8_t *from = input + at.place[0];
        int32_t i = 0;
        for (uint32_t n = inner->size; n; --n, i += step) {
            const int32_t d = ec2t_mcu_value(from[i]) * 128 - centre;
            sum += times(d * d, &square);
        }
    } while (ec2t_mcu_next(layer->inner, outer, &at));
    return sum;
}

static row row_of(const ec2t_mcu_normalise *layer, const uint8_t *input) {
    row r = {layer->zero_point * 128, 0};
    const ec2t_mcu_factor *mean = &layer->mean;
    if (mean->multiplier)
        r.centre += narrowed(
            ec2t_mcu_requantise(sum_of(layer, input) * 128, mean->multiplier, mean->shift));
    const int32_t variance = narrowed(ec2t_mcu_requantise(
        sum_of_squares(layer, input, r.centre), layer->variance.multiplier, layer->variance.shift));
    int32_t place = 0;
    for (const ec2t_mcu_factor *tier = layer->tiers; tier != layer->tiers + EC2T_MCU_TIERS;
         ++tier) {
        const int32_t code = ec2t_mcu_requantise(variance, tier->multiplier, tier->shift);
        place += code > 255 ? 255 : code;
    }
    r.root = layer->roots[place];
    return r;
}

void ec2t_mcu_normalise_run(const ec2t_mcu_normalise *layer, const uint8_t *input,
                            uint8_t *output) {
    const uint32_t outer = layer->inner_count - 1u;
    const ec2t_mcu_axis *inner = &layer->inner[outer];
    const factor standard = factor_of(&layer->standard), scaled = factor_of(&layer->scaled);
    const factor term = factor_of(&layer->term), moved = factor_of(&layer->moved);
    const factor last = factor_of(&layer->last);
    ec2t_mcu_position start = {{0}, {0, 0, 0}};
    do {
        const row r = row_of(layer, input + start.place[0]);
        ec2t_mcu_position at = {{0}, {start.place[0], start.place[1], start.place[2]}};
        do {
            const uint8_t *from = input + at.place[0];
            uint8_t *to = output + at.place[1];
            int32_t i = 0, j = 0, k = at.place[2];
            for (uint32_t n = inner->size; n; --n) {
                const int32_t d = ec2t_mcu_value(from[i]) * 128 - r.centre;
                int32_t value = narrowed(times(d * r.root, &standard));
                if (layer->gamma)
                    value = narrowed(times(value * layer->gamma[k], &scaled));
                if (layer->beta)
                    value = narrowed(times(times(value * 32768, &term) + layer->beta[k], &moved));
                to[j] = ec2t_mcu_byte(ec2t_mcu_clamped(times(value, &last), &layer->clamp));
                i += inner->step[0], j += inner->step[1], k += inner->step[2];
            }
        } while (ec2t_mcu_next(layer->inner, outer, &at));
    } while (ec2t_mcu_next(layer->outer, layer->outer_count, &start));
}
