#include "planar.h"

void ec2t_mcu_bilinear_run(const ec2t_mcu_bilinear *layer, const uint8_t *input, uint8_t *output) {
    const ec2t_mcu_planar *in = &layer->in, *out = &layer->out;
    for (uint32_t c = 0; c < out->channels; ++c) {
        const uint8_t *plane = input + c * in->plane;
        for (uint32_t y = 0; y < out->height; ++y) {
            const ec2t_mcu_between *v = &layer->rows[y];
            const uint8_t *upper = plane + (uint32_t)v->first * in->pitch;
            const uint8_t *lower = plane + (uint32_t)v->second * in->pitch;
            uint8_t *to = output + c * out->plane + y * out->pitch;
            for (uint32_t x = 0; x < out->width; ++x) {
                const ec2t_mcu_between *h = &layer->columns[x];
                const int32_t above = ec2t_mcu_value(upper[h->first]) * (1024 - h->part) +
                                      ec2t_mcu_value(upper[h->second]) * h->part;
                const int32_t below = ec2t_mcu_value(lower[h->first]) * (1024 - h->part) +
                                      ec2t_mcu_value(lower[h->second]) * h->part;
                const int32_t sum = above * (1024 - v->part) + below * v->part;
                to[x] = ec2t_mcu_byte((sum > 0 ? sum + (1 << 19) : sum - (1 << 19)) / (1 << 20));
            }
        }
    }
    ec2t_mcu_frame(out, output);
}
