#include "planar.h"

void ec2t_dense_conv_run(const ec2t_dense_conv *layer, const uint8_t *input, uint8_t *output) {
  const ec2t_planar *in = &layer->in, *out = &layer->out;
  const uint32_t depth = layer->depth_multiplier ? 1u : in->channels;
  const int8_t *weights = layer->weights;
  ec2t_lead(out, output);
  for (uint32_t o = 0; o < out->channels; ++o) {
    const ec2t_channel *channel = &layer->channel[o];
    const uint8_t *first =
        layer->depth_multiplier ? input + o / layer->depth_multiplier * in->plane : input;
    for (uint32_t y = 0; y < out->height; ++y) {
      const uint8_t *row = first + y * layer->stride_y * in->pitch;
      uint8_t *to = output + o * out->plane + y * out->pitch;
      for (uint32_t x = 0; x < out->width; ++x, row += layer->stride_x) {
        int32_t sum = channel->bias;
        const int8_t *w = weights;
        const uint8_t *plane = row;
        for (uint32_t c = 0; c < depth; ++c, plane += in->plane) {
          for (uint32_t t = 0; t < layer->tap_count; ++t) {
            sum += *w++ * ec2t_value(plane[layer->taps[t]]);
          }
        }
        sum = ec2t_requantise(sum, channel->multiplier, channel->shift);
        to[x] = ec2t_byte(ec2t_clamped(sum, &layer->clamp));
      }
    }
    weights += depth * layer->tap_count;
    ec2t_border(out, output, o);
  }
}
