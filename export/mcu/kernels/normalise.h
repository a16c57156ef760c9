/* Layer, group, root-mean-square and unit normalisation. */
#ifndef EC2T_MCU_NORMALISE_H
#define EC2T_MCU_NORMALISE_H
#include "planar.h"

/* A factor as TensorFlow Lite's quantised multiplier. */
typedef struct {
    int32_t multiplier, shift;
} ec2t_mcu_factor;

/* Rows divided by their own spread, from int8 to int8, each operation as TensorFlow Lite's
 * reference does it in int16 (between): the codes times 128, their mean taken off, squares, the
 * mean of those, its inverse root by a table, a product, perhaps gamma and beta. */
enum { EC2T_MCU_TIERS = 4, EC2T_MCU_ROOTS = 32 };
typedef struct {
    const ec2t_mcu_axis *outer, *inner; /* rows, elements of one; steps: input, output, parameter */
    uint32_t outer_count, inner_count;
    /* The inverse root by the place of the mean square: the sum of its codes (0 to 255) on four
     * scales. With `middles`, from place EC2T_MCU_ROOTS on: the greatest n with
     * (2 n - 1)^2 * (middle * slope + offset) <= limit. */
    const int16_t *roots;
    const uint16_t *middles; /* of places from EC2T_MCU_ROOTS on, the same in all layers; or NULL */
    uint32_t slope, offset;
    uint64_t limit;
    const int16_t *gamma; /* or NULL */
    const int32_t *beta;  /* or NULL; requantised */
    int32_t bias;         /* -(zero point) * (elements of a row) */
    int32_t zero_point;
    ec2t_mcu_factor mean; /* multiplier 0: it is not taken off */
    ec2t_mcu_factor variance, tiers[EC2T_MCU_TIERS];
    /* Of each element: products within 30 bits; shifts of -30 to -1, the last of -20 at least, and
     * `term`, of what beta is added to, may be 1/2. */
    ec2t_mcu_factor square, standard, scaled, term, moved, last;
    ec2t_mcu_clamp clamp;
} ec2t_mcu_normalise;
/* `output` may be `input` where both have one layout. */
void ec2t_mcu_normalise_run(const ec2t_mcu_normalise *layer, const uint8_t *input, uint8_t *output);
#endif
