#include "walk.h"

static inline uint8_t finished(int32_t value, const ec2t_mcu_binary *layer) {
    return ec2t_mcu_byte(ec2t_mcu_clamped(
        ec2t_mcu_requantise(value, layer->multiplier_out, layer->shift_out), &layer->clamp));
}

/* TensorFlow Lite's: (value - zero point) * 2^20, requantised. */
static inline int32_t term(uint8_t byte, int32_t zero_point, int32_t multiplier, int32_t shift) {
    return ec2t_mcu_requantise((ec2t_mcu_value(byte) - zero_point) * (1 << 20), multiplier, shift);
}

static inline uint8_t sum(const ec2t_mcu_binary *l, uint8_t a, uint8_t b) {
    return finished(term(a, l->zero_point_a, l->multiplier_a, l->shift_a) +
                        term(b, l->zero_point_b, l->multiplier_b, l->shift_b),
                    l);
}

static inline uint8_t difference(const ec2t_mcu_binary *l, uint8_t a, uint8_t b) {
    return finished(term(a, l->zero_point_a, l->multiplier_a, l->shift_a) -
                        term(b, l->zero_point_b, l->multiplier_b, l->shift_b),
                    l);
}

static inline uint8_t product(const ec2t_mcu_binary *l, uint8_t a, uint8_t b) {
    return finished((ec2t_mcu_value(a) - l->zero_point_a) * (ec2t_mcu_value(b) - l->zero_point_b),
                    l);
}

/* TensorFlow Lite's left shift here is 7. */
static inline uint8_t squared_difference(const ec2t_mcu_binary *l, uint8_t a, uint8_t b) {
    const int32_t left = (ec2t_mcu_value(a) - l->zero_point_a) * (1 << 7);
    const int32_t right = (ec2t_mcu_value(b) - l->zero_point_b) * (1 << 7);
    const int32_t d = ec2t_mcu_requantise(left, l->multiplier_a, l->shift_a) -
                      ec2t_mcu_requantise(right, l->multiplier_b, l->shift_b);
    return finished(d * d, l);
}

static inline uint8_t maximum(const ec2t_mcu_binary *l, uint8_t a, uint8_t b) {
    (void)l;
    return ec2t_mcu_value(a) > ec2t_mcu_value(b) ? a : b;
}

static inline uint8_t minimum(const ec2t_mcu_binary *l, uint8_t a, uint8_t b) {
    (void)l;
    return ec2t_mcu_value(a) < ec2t_mcu_value(b) ? a : b;
}

/* a where it is not negative, else a * b; the second multiplier is that of a alone. */
static inline uint8_t prelu(const ec2t_mcu_binary *l, uint8_t a, uint8_t b) {
    const int32_t value = ec2t_mcu_value(a) - l->zero_point_a;
    if (value >= 0)
        return ec2t_mcu_byte(
            ec2t_mcu_clamped(ec2t_mcu_requantise(value, l->multiplier_a, l->shift_a), &l->clamp));
    return finished(value * (ec2t_mcu_value(b) - l->zero_point_b), l);
}

#define WALK(name, function)                                                                       \
    void name(const ec2t_mcu_binary *layer, const uint8_t *a, const uint8_t *b, uint8_t *output) { \
        const uint32_t outer = layer->count - 1u;                                                  \
        const ec2t_mcu_axis *inner = &layer->axes[outer];                                          \
        ec2t_mcu_position at = {{0}, {0, 0, 0}};                                                   \
        do {                                                                                       \
            const uint8_t *pa = a + at.place[0], *pb = b + at.place[1];                            \
            uint8_t *to = output + at.place[2];                                                    \
            int32_t i = 0, j = 0, k = 0;                                                           \
            for (uint32_t n = inner->size; n; --n) {                                               \
                to[k] = function(layer, pa[i], pb[j]);                                             \
                i += inner->step[0], j += inner->step[1], k += inner->step[2];                     \
            }                                                                                      \
        } while (ec2t_mcu_next(layer->axes, outer, &at));                                          \
    }
WALK(ec2t_mcu_sum_run, sum)
WALK(ec2t_mcu_difference_run, difference)
WALK(ec2t_mcu_product_run, product)
WALK(ec2t_mcu_squared_difference_run, squared_difference)
WALK(ec2t_mcu_maximum_run, maximum)
WALK(ec2t_mcu_minimum_run, minimum)
WALK(ec2t_mcu_prelu_run, prelu)
