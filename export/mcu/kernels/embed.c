#include "planar.h"

ec2t_mcu_status ec2t_mcu_embed_run(const ec2t_mcu_embed *layer, const int32_t *places,
                                   uint8_t *output) {
    for (uint32_t i = 0; i < layer->count; ++i, output += layer->place_step) {
        if ((uint32_t)places[i] >= layer->rows)
            return EC2T_MCU_PLACE;
        const int8_t *row = layer->table + (uint32_t)places[i] * layer->width;
        for (uint32_t v = 0; v < layer->width; ++v)
            output[(int32_t)v * layer->value_step] = ec2t_mcu_byte(row[v]);
    }
    return EC2T_MCU_OK;
}
