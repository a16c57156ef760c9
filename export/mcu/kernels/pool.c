#include "planar.h"

void ec2t_mcu_pool_run(const ec2t_mcu_pool *layer, const uint8_t *input, uint8_t *output) {
    const ec2t_mcu_planar *in = &layer->in, *out = &layer->out;
    ec2t_mcu_lead(out, output);
    for (uint32_t c = 0; c < out->channels; ++c) {
        for (int32_t y = 0; y < out->height; ++y) {
            for (int32_t x = 0; x < out->width; ++x) {
                int32_t top = y * layer->stride_y - layer->pad_y,
                        left = x * layer->stride_x - layer->pad_x;
                int32_t bottom = top + layer->height, right = left + layer->width;
                if (top < 0)
                    top = 0;
                if (left < 0)
                    left = 0;
                if (bottom > in->height)
                    bottom = in->height;
                if (right > in->width)
                    right = in->width;
                const int32_t count = (bottom - top) * (right - left);
                const uint8_t *row = input + c * in->plane + (uint32_t)(top * in->pitch);
                int32_t value = -128;
                if (layer->maximum) {
                    for (int32_t i = top; i < bottom; ++i, row += in->pitch) {
                        for (int32_t j = left; j < right; ++j) {
                            if (ec2t_mcu_value(row[j]) > value)
                                value = ec2t_mcu_value(row[j]);
                        }
                    }
                } else {
                    int32_t sum = 0;
                    for (int32_t i = top; i < bottom; ++i, row += in->pitch) {
                        for (const uint8_t *p = row + left, *end = row + right; p != end;) {
                            sum += ec2t_mcu_value(*p++);
                        }
                    }
                    value = (sum > 0 ? sum + count / 2 : sum - count / 2) / count;
                }
                if (value < layer->clamp.minimum)
                    value = layer->clamp.minimum;
                if (value > layer->clamp.maximum)
                    value = layer->clamp.maximum;
                output[c * out->plane + (uint32_t)(y * out->pitch + x)] = ec2t_mcu_byte(value);
            }
        }
        ec2t_mcu_border(out, output, c);
    }
}

void ec2t_mcu_mean_run(const ec2t_mcu_mean *layer, const uint8_t *input, uint8_t *output) {
    const ec2t_mcu_planar *in = &layer->in;
    for (uint32_t c = 0; c < in->channels; ++c) {
        int32_t sum = layer->bias;
        for (uint32_t y = 0; y < in->height; ++y) {
            const uint8_t *row = input + c * in->plane + y * in->pitch;
            for (uint32_t x = 0; x < in->width; ++x)
                sum += ec2t_mcu_value(row[x]);
        }
        const int32_t value = ec2t_mcu_requantise(sum, layer->multiplier, layer->shift);
        output[c] = ec2t_mcu_byte(ec2t_mcu_clamped(value, &layer->clamp));
    }
}
