#include "normalise.h"
#include "requantise.h"
#include "walk.h"

/* What the elements of a row share. */
typedef struct {
    int32_t centre; /* the row's mean and the zero point, in 128ths of a code */
    int32_t root;
} row;

/* A factor below 1/2 for values within 30 bits. */
typedef struct {
    int32_t multiplier, half, right;
} factor;

static inline factor factor_of(const ec2t_mcu_factor *given) {
    const factor f = {given->multiplier, 1 << (-given->shift - 1), -given->shift};
    return f;
}

static inline int32_t times(int32_t value, const factor *f) {
    return (ec2t_mcu_high(value * 2, f->multiplier, f->half) + (value >> 31)) >> f->right;
}

static inline int32_t narrowed(int32_t value) {
#if defined(__ARM_FEATURE_SAT)
    __asm("ssat %0,#16,%0" : "+r"(value));
    return value;
#else
    value = value > 32767 ? 32767 : value;
    return value < -32768 ? -32768 : value;
#endif
}

/* `at`, here and below: a walk over a row that stands, and ends, at its first element. */
static int32_t sum_of(const ec2t_mcu_normalise *layer, const uint8_t *input,
                      ec2t_mcu_position *at) {
    const uint32_t outer = layer->inner_count - 1u;
    const ec2t_mcu_axis *inner = &layer->inner[outer];
    const int32_t step = inner->step[0];
    int32_t sum = layer->bias;
    do {
        const uint8_t *from = input + at->place[0];
        int32_t i = 0;
        for (uint32_t n = inner->size; n; --n, i += step)
            sum += ec2t_mcu_value(from[i]);
    } while (ec2t_mcu_next(layer->inner, outer, at));
    return sum;
}

static int32_t sum_of_squares(const ec2t_mcu_normalise *layer, const uint8_t *input,
                              ec2t_mcu_position *at, int32_t centre) {
    const uint32_t outer = layer->inner_count - 1u;
    const ec2t_mcu_axis *inner = &layer->inner[outer];
    const int32_t step = inner->step[0];
    const factor square = factor_of(&layer->square);
    int32_t sum = 0;
    do {
        const uint8_t *from = input + at->place[0];
        int32_t i = 0;
        for (uint32_t n = inner->size; n; --n, i += step) {
            const int32_t d = ec2t_mcu_value(from[i]) * 128 - centre;
            sum += times(d * d, &square);
        }
    } while (ec2t_mcu_next(layer->inner, outer, at));
    return sum;
}

static int32_t root_at(const ec2t_mcu_normalise *layer, uint32_t place) {
    if (!layer->middles || place < EC2T_MCU_ROOTS)
        return layer->roots[place];
    const uint32_t divisor = layer->middles[place - EC2T_MCU_ROOTS] * layer->slope + layer->offset;
    uint32_t root = 0;
    for (uint32_t bit = 1u << 14; bit; bit >>= 1) {
        const uint32_t odd = 2u * (root + bit) - 1u;
        if ((uint64_t)(odd * odd) * divisor <= layer->limit)
            root += bit;
    }
    return (int32_t)root;
}

static row row_of(const ec2t_mcu_normalise *layer, const uint8_t *input, ec2t_mcu_position *at) {
    row r = {layer->zero_point * 128, 0};
    const ec2t_mcu_factor *mean = &layer->mean, *average = &layer->variance;
    if (mean->multiplier)
        r.centre += narrowed(
            ec2t_mcu_requantise(sum_of(layer, input, at) * 128, mean->multiplier, mean->shift));
    const int32_t squares = sum_of_squares(layer, input, at, r.centre);
    const int32_t variance =
        narrowed(ec2t_mcu_requantise(squares, average->multiplier, average->shift));
    uint32_t place = 0;
    for (const ec2t_mcu_factor *tier = layer->tiers; tier != layer->tiers + EC2T_MCU_TIERS;
         ++tier) {
        const int32_t code = ec2t_mcu_requantise(variance, tier->multiplier, tier->shift);
        place += code > 255 ? 255u : (uint32_t)code;
    }
    r.root = root_at(layer, place);
    return r;
}

/* Factors of a layer that are not there are never used. */
static inline factor factor_if(const void *there, const ec2t_mcu_factor *given) {
    const factor none = {0, 0, 0};
    return there ? factor_of(given) : none;
}

void ec2t_mcu_normalise_run(const ec2t_mcu_normalise *layer, const uint8_t *input,
                            uint8_t *output) {
    const uint32_t outer = layer->inner_count - 1u;
    const ec2t_mcu_axis inner = layer->inner[outer];
    const int16_t *gamma = layer->gamma;
    const int32_t *beta = layer->beta;
    const int halved = layer->term.shift == 0; /* exactly 1/2 then */
    const factor standard = factor_of(&layer->standard), scaled = factor_if(gamma, &layer->scaled);
    const factor term = factor_if(beta && !halved ? beta : NULL, &layer->term);
    const factor moved = factor_if(beta, &layer->moved);
    const ec2t_mcu_constants last =
        ec2t_mcu_constants_of(layer->last.multiplier, layer->last.shift, 32768u, &layer->clamp);
    ec2t_mcu_position start = {{0}, {0, 0, 0}}, at = {{0}, {0, 0, 0}};
    do {
        const uint8_t *first = input + start.place[0];
        const row r = row_of(layer, first, &at);
        do {
            const uint8_t *from = first + at.place[0];
            uint8_t *to = output + start.place[1] + at.place[1];
            int32_t i = 0, j = 0, k = start.place[2] + at.place[2];
            for (uint32_t n = inner.size; n; --n) {
                const int32_t d = ec2t_mcu_value(from[i]) * 128 - r.centre;
                int32_t value = narrowed(times(d * r.root, &standard));
                if (gamma)
                    value = narrowed(times(value * gamma[k], &scaled));
                if (beta) {
                    value = halved ? value * 16384 : times(value * 32768, &term);
                    value = narrowed(times(value + beta[k], &moved));
                }
                to[j] = ec2t_mcu_to_byte(value, &last);
                i += inner.step[0], j += inner.step[1], k += inner.step[2];
            }
        } while (ec2t_mcu_next(layer->inner, outer, &at));
    } while (ec2t_mcu_next(layer->outer, layer->outer_count, &start));
}
