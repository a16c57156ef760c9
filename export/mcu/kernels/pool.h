/* Means of windows; part of pool_inside.c and pool_words.c. */
#ifndef EC2T_MCU_POOL_H
#define EC2T_MCU_POOL_H
#include "planar.h"

/* Sums of so many values are divided by a multiplication, exactly: (128.5 * count) * (count - 1) is
 * less than 2^24, and the product less than 2^32. */
enum { EC2T_MCU_BY_RECIPROCAL = 361 };

typedef struct {
    uint32_t count, reciprocal; /* 0: divide */
    int32_t minimum, maximum;
} ec2t_mcu_mean_value;

static inline ec2t_mcu_mean_value ec2t_mcu_mean_value_of(const ec2t_mcu_pool *layer) {
    const uint32_t count = (uint32_t)layer->height * layer->width;
    ec2t_mcu_mean_value mean = {count, 0, layer->clamp.minimum, layer->clamp.maximum};
    if (count <= EC2T_MCU_BY_RECIPROCAL)
        mean.reciprocal = ((1u << 24) + count - 1u) / count;
    return mean;
}

/* A sum of `count` values to a stored byte; halves away from zero. */
static inline uint8_t ec2t_mcu_mean_byte(int32_t sum, const ec2t_mcu_mean_value *mean) {
    const int32_t sign = sum >> 31;
    const uint32_t size = (uint32_t)((sum ^ sign) - sign) + mean->count / 2u;
    const uint32_t result = mean->reciprocal ? size * mean->reciprocal >> 24 : size / mean->count;
    int32_t value = ((int32_t)result ^ sign) - sign;
    if (value < mean->minimum)
        value = mean->minimum;
    if (value > mean->maximum)
        value = mean->maximum;
    return ec2t_mcu_byte(value);
}
#endif
