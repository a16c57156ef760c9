#include "requantise.h"

void ec2t_mcu_lookup_run(const int8_t *table, const ec2t_mcu_planar *layout_in,
                         const uint8_t *input, const ec2t_mcu_planar *layout_out, uint8_t *output) {
    const int8_t *middle = table + 128;
    ec2t_mcu_lead(layout_out, output);
    for (uint32_t c = 0; c < layout_in->channels; ++c) {
        for (uint32_t y = 0; y < layout_in->height; ++y) {
            const uint8_t *from = input + c * layout_in->plane + y * layout_in->pitch;
            uint8_t *to = output + c * layout_out->plane + y * layout_out->pitch;
            for (uint32_t x = 0; x < layout_in->width; ++x)
                to[x] = ec2t_mcu_byte(middle[ec2t_mcu_value(from[x])]);
        }
        ec2t_mcu_border(layout_out, output, c);
    }
}

void ec2t_mcu_add_run(const ec2t_mcu_add *layer, const uint8_t *a, const uint8_t *b,
                      uint8_t *output, int32_t *tables) {
    const ec2t_mcu_planar *la = &layer->a, *lb = &layer->b, *lo = &layer->out;
    /* Each term depends on one byte only. */
    for (uint32_t byte = 0; byte < 256; ++byte) {
        const int32_t value = ec2t_mcu_value((uint8_t)byte);
        tables[byte] = ec2t_mcu_requantise((value - layer->zero_point_a) * (1 << 20),
                                           layer->multiplier_a, layer->shift_a);
        tables[256 + byte] = ec2t_mcu_requantise((value - layer->zero_point_b) * (1 << 20),
                                                 layer->multiplier_b, layer->shift_b);
    }
    /* A term is at most 255 * 2^20 * 1/2. */
    const ec2t_mcu_constants c =
        ec2t_mcu_constants_of(layer->multiplier_out, layer->shift_out, 255u << 20, &layer->clamp);
    ec2t_mcu_lead(lo, output);
    for (uint32_t channel = 0; channel < lo->channels; ++channel) {
        for (uint32_t y = 0; y < lo->height; ++y) {
            const uint8_t *pa = a + channel * la->plane + y * la->pitch;
            const uint8_t *pb = b + channel * lb->plane + y * lb->pitch;
            uint8_t *po = output + channel * lo->plane + y * lo->pitch;
            uint8_t *const end = po + lo->width;
            if (c.exact) {
                while (po != end)
                    *po++ = ec2t_mcu_to_byte(tables[*pa++] + tables[256 + *pb++], &c);
            } else {
                while (po != end) {
                    const int32_t value =
                        ec2t_mcu_requantise(tables[*pa++] + tables[256 + *pb++],
                                            layer->multiplier_out, layer->shift_out);
                    *po++ = ec2t_mcu_byte(ec2t_mcu_clamped(value, &layer->clamp));
                }
            }
        }
        ec2t_mcu_limit(lo, output + channel * lo->plane, &layer->clamp);
        ec2t_mcu_border(lo, output, channel);
    }
}
