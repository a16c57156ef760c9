#include "planar.h"

void ec2t_lookup_run(const int8_t *table, const ec2t_planar *layout_in, const uint8_t *input,
                     const ec2t_planar *layout_out, uint8_t *output) {
  const int8_t *middle = table + 128;
  ec2t_lead(layout_out, output);
  for (uint32_t c = 0; c < layout_in->channels; ++c) {
    for (uint32_t y = 0; y < layout_in->height; ++y) {
      const uint8_t *from = input + c * layout_in->plane + y * layout_in->pitch;
      uint8_t *to = output + c * layout_out->plane + y * layout_out->pitch;
      for (uint32_t x = 0; x < layout_in->width; ++x) to[x] = ec2t_byte(middle[ec2t_value(from[x])]);
    }
    ec2t_border(layout_out, output, c);
  }
}

void ec2t_add_run(const ec2t_add *layer, const ec2t_planar *la, const uint8_t *a,
                  const ec2t_planar *lb, const uint8_t *b, const ec2t_planar *lo,
                  uint8_t *output) {
  ec2t_lead(lo, output);
  for (uint32_t c = 0; c < lo->channels; ++c) {
    for (uint32_t y = 0; y < lo->height; ++y) {
      const uint8_t *pa = a + c * la->plane + y * la->pitch;
      const uint8_t *pb = b + c * lb->plane + y * lb->pitch;
      uint8_t *po = output + c * lo->plane + y * lo->pitch;
      for (uint32_t x = 0; x < lo->width; ++x) {
        const int32_t va = (ec2t_value(pa[x]) - layer->zero_point_a) * (1 << 20);
        const int32_t vb = (ec2t_value(pb[x]) - layer->zero_point_b) * (1 << 20);
        const int32_t sum = ec2t_requantise(va, layer->multiplier_a, layer->shift_a) +
                            ec2t_requantise(vb, layer->multiplier_b, layer->shift_b);
        const int32_t value = ec2t_requantise(sum, layer->multiplier_out, layer->shift_out);
        po[x] = ec2t_byte(ec2t_clamped(value, &layer->clamp));
      }
    }
    ec2t_border(lo, output, c);
  }
}
