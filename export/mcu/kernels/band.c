#include "planar.h"

void ec2t_mcu_band_in(const ec2t_mcu_planar *layout_in, const uint8_t *input,
                      const ec2t_mcu_planar *band, uint8_t *output, int32_t row, uint32_t column) {
    ec2t_mcu_fill(band, output, layout_in->zero_point);
    for (uint32_t c = 0; c < band->channels; ++c) {
        for (int32_t y = 0; y < band->height; ++y) {
            if (row + y < 0 || row + y >= layout_in->height)
                continue;
            const uint8_t *from =
                input + c * layout_in->plane + (uint32_t)(row + y) * layout_in->pitch;
            uint8_t *to = output + c * band->plane + (uint32_t)y * band->pitch + column;
            for (uint32_t x = 0; x < layout_in->width; ++x)
                to[x] = from[x];
        }
    }
}

void ec2t_mcu_band_out(const ec2t_mcu_planar *band, const uint8_t *input,
                       const ec2t_mcu_planar *layout_out, uint8_t *output, int32_t row) {
    for (uint32_t c = 0; c < band->channels; ++c) {
        for (int32_t y = 0; y < band->height && row + y < layout_out->height; ++y) {
            const uint8_t *from = input + c * band->plane + (uint32_t)y * band->pitch;
            uint8_t *to = output + c * layout_out->plane + (uint32_t)(row + y) * layout_out->pitch;
            for (uint32_t x = 0; x < band->width; ++x)
                to[x] = from[x];
        }
    }
}
