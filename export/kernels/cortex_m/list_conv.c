#include "planar.h"

/* Position in a Rice stream: words are read most significant bit first. */
typedef struct {
  const uint32_t *word, *end;
  uint32_t used; /* bits of *word already taken */
} Bits;

/* Next 32 bits of the stream; words behind its end read as zero. */
static inline uint32_t peek(const Bits *bits) {
  uint32_t value = bits->word < bits->end ? bits->word[0] << bits->used : 0u;
  if (bits->used && bits->word + 1 < bits->end) value |= bits->word[1] >> (32u - bits->used);
  return value;
}

static inline uint32_t leading_ones(uint32_t value) {
  if (value == 0xffffffffu) return 32;
  return (uint32_t)__builtin_clz(~value);
}

/* One channel: gap in unary and rice_k binary digits, then the sign. Turns positions into byte
 * distances from the tap of the same sign before. */
static ec2t_planar_status decode(const ec2t_list_conv *layer, const ec2t_channel *channel,
                                 Bits *bits, uint16_t *minus, uint16_t *plus) {
  const uint32_t taps = layer->tap_count, k = layer->rice_k;
  const uint32_t plane = layer->in.plane;
  const uint32_t channels = layer->depthwise ? 1u : layer->in.channels;
  uint16_t *const minus_end = minus + channel->minus_count;
  uint16_t *const plus_end = plus + channel->plus_count;
  uint32_t total = (uint32_t)channel->minus_count + channel->plus_count;
  uint32_t tap = (uint32_t)-1, depth = 0;
  int32_t base = 0, last_minus = 0, last_plus = 0;
  Bits b = *bits;
  for (; total; --total) {
    uint32_t value = peek(&b);
    const uint32_t quotient = leading_ones(value);
    const uint32_t length = quotient + 2u + k;
    if (length > 32u) return EC2T_PLANAR_CORRUPT;
    value = value << quotient << 1;
    uint32_t gap = quotient << k;
    if (k) {
      gap |= value >> (32u - k);
      value <<= k;
    }
    b.used += length;
    b.word += b.used >> 5;
    b.used &= 31u;
    tap += gap + 1u;
    while (tap >= taps) {
      tap -= taps;
      base += (int32_t)plane;
      ++depth;
    }
    if (depth >= channels) return EC2T_PLANAR_CORRUPT;
    const int32_t offset = base + layer->taps[tap];
    if (value >> 31) {
      if (minus == minus_end) return EC2T_PLANAR_CORRUPT;
      *minus++ = (uint16_t)(offset - last_minus);
      last_minus = offset;
    } else {
      if (plus == plus_end) return EC2T_PLANAR_CORRUPT;
      *plus++ = (uint16_t)(offset - last_plus);
      last_plus = offset;
    }
  }
  if (b.word > b.end || (b.word == b.end && b.used)) return EC2T_PLANAR_CORRUPT;
  *bits = b;
  return EC2T_PLANAR_OK;
}

/* A list of any length: lanes are emptied into the sums before they overflow. */
static void long_list(const ec2t_list_conv *layer, const uint8_t *input, const uint16_t *list,
                      uint32_t count, int32_t value, int32_t *sums) {
  while (count) {
    const uint32_t part = count < EC2T_LANE_TAPS ? count : EC2T_LANE_TAPS;
    layer->sums(input, list, part, value, sums);
    count -= part;
    if (!count) break;
    for (const uint16_t *end = list + part; list < end;) input += *list++;
  }
}

/* The fast tiles compute, with sum = bias + plus * P - minus * M and |sum| <= bound,
 *   high = round((sum << (1 + left)) * multiplier / 2^32)
 *   ((high + rounding) - (sum < 0)) >> right,  rounding = 2^(right-1) + (zero_point << right)
 * in 32 bits, and pack after a 16-bit saturation: TensorFlow Lite's two roundings, exactly.
 * Returns 0 where something would not fit. */
static int prepare(const ec2t_channel *channel, const ec2t_clamp *clamp, ec2t_fast *fast) {
  const uint32_t left = channel->shift > 0 ? (uint32_t)channel->shift : 0u;
  const uint32_t right = channel->shift < 0 ? (uint32_t)-channel->shift : 0u;
  const uint32_t magnitude =
      channel->bias < 0 ? 0u - (uint32_t)channel->bias : (uint32_t)channel->bias;
  const uint32_t bound = magnitude + 128u * ((uint32_t)channel->minus * channel->minus_count +
                                             (uint32_t)channel->plus * channel->plus_count);
  if (channel->minus_count > EC2T_LANE_TAPS || channel->plus_count > EC2T_LANE_TAPS) return 0;
  if (right < 1 || right > 21 || left > 6) return 0;
  if (channel->minus > 127 || channel->plus > 127) return 0;
  if (clamp->minimum != -128 || clamp->maximum != 127) return 0;
  if (magnitude > 0x3fffffffu || bound > (0x3fffffffu >> left)) return 0;
  if (((bound << left) >> right) > 32000u) return 0;
  fast->minus_count = channel->minus_count;
  fast->plus_count = channel->plus_count;
  fast->bias = channel->bias * (int32_t)(2u << left);
  const uint32_t minus = (0u - ((uint32_t)channel->minus << (1u + left))) & 0xffffu;
  fast->minus_scale = (int32_t)(minus << 16 | minus);
  fast->plus_scale = (int32_t)((uint32_t)channel->plus << (17u + left) | right);
  fast->multiplier = channel->multiplier;
  fast->rounding = (1 << (right - 1u)) + clamp->zero_point * (1 << right);
  return 1;
}

/* The tile in any case: wide sums, exact requantisation of each. */
static void slow_tile(const ec2t_list_conv *layer, const ec2t_channel *channel,
                      const uint8_t *input, const uint16_t *minus, const uint16_t *plus,
                      uint8_t *output) {
  int32_t sums[EC2T_TILE_PIXELS];
  for (uint32_t i = 0; i < EC2T_TILE_PIXELS; ++i) sums[i] = channel->bias;
  long_list(layer, input, minus, channel->minus_count, -(int32_t)channel->minus, sums);
  long_list(layer, input, plus, channel->plus_count, channel->plus, sums);
  const int32_t *sum = sums;
  for (uint32_t group = 0; group < 4; ++group) {
    uint8_t *to = output + layer->out_group[group];
    for (uint32_t i = 0; i < EC2T_GROUP; ++i) {
      const int32_t value = ec2t_requantise(*sum++, channel->multiplier, channel->shift);
      to[i] = ec2t_byte(ec2t_clamped(value, &layer->clamp));
    }
  }
}

ec2t_planar_status ec2t_list_conv_run(const ec2t_list_conv *layer, const uint8_t *input,
                                      uint8_t *output, uint16_t *scratch) {
  const uint16_t *stored = layer->weights;
  Bits bits = {layer->weights, (const uint32_t *)layer->weights + layer->weight_words, 0};
  ec2t_lead(&layer->out, output);
  for (uint32_t o = 0; o < layer->out.channels; ++o) {
    const ec2t_channel *channel = &layer->channel[o];
    ec2t_fast fast;
    if (layer->encoding == EC2T_ENCODING_RICE) {
      if (channel->minus_count > layer->max_minus || channel->plus_count > layer->max_plus) {
        return EC2T_PLANAR_CORRUPT;
      }
      uint16_t *plus = scratch + layer->max_minus;
      const ec2t_planar_status status = decode(layer, channel, &bits, scratch, plus);
      if (status != EC2T_PLANAR_OK) return status;
      fast.minus_list = scratch;
      fast.plus_list = plus;
    } else {
      fast.minus_list = stored;
      fast.plus_list = stored + channel->minus_count;
      stored = fast.plus_list + channel->plus_count;
    }
    const int is_fast = layer->fast && prepare(channel, &layer->clamp, &fast);
    const uint8_t *in = layer->depthwise ? input + o / layer->depthwise * layer->in.plane : input;
    uint8_t *out = output + o * layer->out.plane;
    for (uint32_t y = 0; y < layer->rows; y += layer->tile_rows) {
      const uint8_t *from = in;
      uint8_t *to = out;
      for (uint32_t x = layer->tiles_across; x; --x) {
        if (is_fast) {
          layer->fast(from, &fast, to);
        } else {
          slow_tile(layer, channel, from, fast.minus_list, fast.plus_list, to);
        }
        from += layer->in_tile_step;
        to += layer->out_tile_step;
      }
      in += layer->in_row_step;
      out += layer->out_row_step;
    }
    ec2t_border(&layer->out, output, o);
  }
  return EC2T_PLANAR_OK;
}
