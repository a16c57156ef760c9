/* Pools whose windows are all inside the input, value by value. Stored bytes are compared and
 * summed: their order is that of the values, and each is EC2T_MCU_FLIP greater. */
#include "pool.h"

#if defined(EC2T_MCU_SWAR)
typedef uint8_t Stored;
#else
typedef int8_t Stored;
#endif

static uint8_t maximum_of(const ec2t_mcu_pool *layer, const uint8_t *row) {
    int32_t value = layer->clamp.minimum + (int32_t)EC2T_MCU_FLIP;
    const int32_t most = layer->clamp.maximum + (int32_t)EC2T_MCU_FLIP;
    for (uint32_t i = layer->height; i; --i, row += layer->in.pitch) {
        for (const uint8_t *p = row, *const end = row + layer->width; p != end; ++p) {
            if ((Stored)*p > value)
                value = (Stored)*p;
        }
    }
    return (uint8_t)(value < most ? value : most);
}

static uint8_t mean_of(const ec2t_mcu_pool *layer, const uint8_t *row,
                       const ec2t_mcu_mean_value *mean) {
    int32_t sum = -(int32_t)(mean->count * EC2T_MCU_FLIP);
    for (uint32_t i = layer->height; i; --i, row += layer->in.pitch) {
        for (const uint8_t *p = row, *const end = row + layer->width; p != end; ++p)
            sum += (Stored)*p;
    }
    return ec2t_mcu_mean_byte(sum, mean);
}

void ec2t_mcu_pool_inside_run(const ec2t_mcu_pool *layer, const uint8_t *input, uint8_t *output) {
    const ec2t_mcu_planar *in = &layer->in, *out = &layer->out;
    const ec2t_mcu_mean_value mean = ec2t_mcu_mean_value_of(layer);
    const uint32_t step = (uint32_t)layer->stride_y * in->pitch;
    ec2t_mcu_lead(out, output);
    for (uint32_t c = 0; c < out->channels; ++c, input += in->plane, output += out->plane) {
        const uint8_t *row = input;
        uint8_t *to = output;
        for (uint32_t y = out->height; y; --y, row += step, to += out->pitch) {
            const uint8_t *p = row;
            for (uint8_t *at = to, *const end = to + out->width; at != end; p += layer->stride_x)
                *at++ = layer->maximum ? maximum_of(layer, p) : mean_of(layer, p, &mean);
        }
        ec2t_mcu_border(out, output, 0);
    }
}
