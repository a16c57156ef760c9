#include "walk.h"

void ec2t_mcu_reduce_run(const ec2t_mcu_reduce *layer, const uint8_t *input, uint8_t *output) {
    ec2t_mcu_position outer = {{0}, {0, 0, 0}};
    do {
        ec2t_mcu_position inner = {{0}, {outer.place[0], 0, 0}};
        int32_t value = layer->kind == EC2T_MCU_REDUCE_MAXIMUM   ? -128
                        : layer->kind == EC2T_MCU_REDUCE_MINIMUM ? 127
                                                                 : layer->bias;
        do {
            const int32_t one = ec2t_mcu_value(input[inner.place[0]]);
            if (layer->kind == EC2T_MCU_REDUCE_SUM)
                value += one;
            else if ((one > value) == (layer->kind == EC2T_MCU_REDUCE_MAXIMUM))
                value = one;
        } while (ec2t_mcu_next(layer->inner, layer->inner_count, &inner));
        if (layer->kind == EC2T_MCU_REDUCE_SUM)
            value = ec2t_mcu_clamped(ec2t_mcu_requantise(value, layer->multiplier, layer->shift),
                                     &layer->clamp);
        output[outer.place[1]] = ec2t_mcu_byte(value);
    } while (ec2t_mcu_next(layer->outer, layer->outer_count, &outer));
}
