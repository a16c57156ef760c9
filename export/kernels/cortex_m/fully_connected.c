#include "planar.h"

void ec2t_fully_connected_run(const ec2t_fully_connected *layer, const uint8_t *input,
                              uint8_t *output) {
  const int8_t *row = layer->weights;
  const uint16_t *list = layer->weights;
  for (uint32_t o = 0; o < layer->outputs; ++o) {
    const ec2t_channel *channel = &layer->channel[o];
    int32_t sum = channel->bias;
    if (layer->lists) {
      int32_t minus = 0, plus = 0;
      for (const uint16_t *end = list + channel->minus_count; list < end; ++list) {
        minus += ec2t_value(input[*list]);
      }
      for (const uint16_t *end = list + channel->plus_count; list < end; ++list) {
        plus += ec2t_value(input[*list]);
      }
      sum += channel->plus * plus - channel->minus * minus;
    } else {
      for (uint32_t i = 0; i < layer->inputs; ++i) sum += row[i] * ec2t_value(input[i]);
      row += layer->inputs;
    }
    const int32_t value = ec2t_requantise(sum, channel->multiplier, channel->shift);
    output[o] = ec2t_byte(ec2t_clamped(value, &layer->clamp));
  }
}
