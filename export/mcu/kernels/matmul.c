#include "walk.h"

void ec2t_mcu_matmul_run(const ec2t_mcu_matmul *layer, const uint8_t *a, const uint8_t *b,
                         uint8_t *output) {
    ec2t_mcu_position at = {{0}, {0, 0, 0}};
    do {
        const uint8_t *pa = a + at.place[0], *pb = b + at.place[1];
        int32_t sum = 0, i = 0, j = 0;
        for (uint32_t n = layer->depth; n; --n, i += layer->step_a, j += layer->step_b)
            sum += (ec2t_mcu_value(pa[i]) - layer->zero_point_a) *
                   (ec2t_mcu_value(pb[j]) - layer->zero_point_b);
        const int32_t value = ec2t_mcu_requantise(sum, layer->multiplier, layer->shift);
        output[at.place[2]] = ec2t_mcu_byte(ec2t_mcu_clamped(value, &layer->clamp));
    } while (ec2t_mcu_next(layer->axes, layer->count, &at));
}
