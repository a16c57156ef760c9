#include "requantise.h"

/* Thirty-two bits of the stream from `position` on, the last seven of them perhaps zero. */
static inline uint32_t peek(const uint8_t *stream, uint32_t position) {
    const uint8_t *p = stream + (position >> 3);
#if defined(__ARM_ARCH) && __ARM_ARCH == 6
    const uint32_t value = (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
#else
    uint32_t value;
    __builtin_memcpy(&value, p, 4);
    value = __builtin_bswap32(value);
#endif
    return value << (position & 7u);
}

static inline uint32_t leading_ones(uint32_t value) {
#if defined(__ARM_ARCH) && __ARM_ARCH == 6
    uint32_t count = 0; /* no CLZ instruction; runs are short */
    for (; (int32_t)value < 0; value <<= 1)
        ++count;
    return count;
#else
    return value == 0xffffffffu ? 32u : (uint32_t)__builtin_clz(~value);
#endif
}

/* One channel: per weight the zeros before it, in unary (ones, then a zero) and rice_k binary
 * digits, then the sign. Turns positions into byte distances from the tap of the same sign before.
 * Each list has room for all weights of the channel; what a damaged stream does is found at the
 * end. */
static ec2t_mcu_status decode(const ec2t_mcu_list_conv *layer, const ec2t_mcu_channel *channel,
                              uint32_t *position, uint16_t *minus, uint16_t *plus) {
    const uint8_t *stream = layer->weights;
    const uint16_t *offsets = layer->taps;
    const uint32_t taps = layer->tap_count, k = layer->rice_k, plane = layer->in.plane;
    const uint32_t limit = layer->stream_bits;
    const uint16_t *const minus_end = minus + channel->minus_count;
    uint32_t base = 0, last_minus = 0, last_plus = 0, at = *position;
    uint32_t tap = (uint32_t)-1;
    for (uint32_t n = (uint32_t)channel->minus_count + channel->plus_count; n; --n) {
        if (at >= limit)
            return EC2T_MCU_CORRUPT;
        uint32_t value = peek(stream, at);
        const uint32_t quotient = leading_ones(value);
        value = value << quotient << 1;
        at += quotient + 2u + k;
        tap += (quotient << k) + (value >> 1 >> (31u - k)) + 1u;
        value <<= k;
        while (tap >= taps) {
            tap -= taps;
            base += plane;
        }
        const uint32_t offset = base + offsets[tap];
        if ((int32_t)value < 0) {
            *minus++ = (uint16_t)(offset - last_minus);
            last_minus = offset;
        } else {
            *plus++ = (uint16_t)(offset - last_plus);
            last_plus = offset;
        }
    }
    const uint32_t channels = layer->depthwise ? 1u : layer->in.channels;
    if (at > limit || minus != minus_end || base > (channels - 1u) * plane) {
        return EC2T_MCU_CORRUPT;
    }
    *position = at;
    return EC2T_MCU_OK;
}

/* A list of any length: lanes are emptied into the sums before they overflow. */
static void long_list(const ec2t_mcu_list_conv *layer, const uint8_t *input, const uint16_t *list,
                      uint32_t count, int32_t value, int32_t *sums) {
    while (count) {
        const uint32_t part = count < EC2T_MCU_LANE_TAPS ? count : EC2T_MCU_LANE_TAPS;
        layer->sums(input, list, part, value, sums);
        count -= part;
        if (!count)
            break;
        for (const uint16_t *end = list + part; list < end;)
            input += *list++;
    }
}

/* The fast tiles compute, with sum = bias + plus * P - minus * M and |sum| <= bound,
 *   high = round((sum << (1 + left)) * multiplier / 2^32)
 *   ((high + rounding) - (sum < 0)) >> right,  rounding = 2^(right-1) + (zero_point << right)
 * in 32 bits, and pack after a 16-bit saturation: TensorFlow Lite's two roundings, exactly.
 * Returns 0 where something would not fit. */
static int prepare(const ec2t_mcu_channel *channel, int32_t zero_point, ec2t_mcu_fast *fast) {
    const uint32_t left = channel->shift > 0 ? (uint32_t)channel->shift : 0u;
    const uint32_t right = channel->shift < 0 ? (uint32_t)-channel->shift : 0u;
    const uint32_t magnitude =
        channel->bias < 0 ? 0u - (uint32_t)channel->bias : (uint32_t)channel->bias;
    const uint32_t bound = magnitude + 128u * ((uint32_t)channel->minus * channel->minus_count +
                                               (uint32_t)channel->plus * channel->plus_count);
    if (channel->minus_count > EC2T_MCU_LANE_TAPS || channel->plus_count > EC2T_MCU_LANE_TAPS)
        return 0;
    if (right < 1 || right > 20 || left > 6)
        return 0;
    if (channel->minus > 127 || channel->plus > 127)
        return 0;
    if (magnitude > 0x3fffffffu || bound > (0x3fffffffu >> left))
        return 0;
    if (((bound << left) >> right) > 32000u)
        return 0;
    fast->minus_count = channel->minus_count;
    fast->plus_count = channel->plus_count;
#if defined(EC2T_MCU_HELIUM)
    fast->bias = channel->bias * (1 << left);
    fast->minus_scale = -(int32_t)((uint32_t)channel->minus << left);
    fast->plus_scale = (int32_t)((uint32_t)channel->plus << left);
    fast->right = -(int32_t)right;
#elif defined(EC2T_MCU_DSP)
    fast->bias = channel->bias * (int32_t)(2u << left);
    const uint32_t minus = (0u - ((uint32_t)channel->minus << (1u + left))) & 0xffffu;
    fast->minus_scale = (int32_t)(minus << 16 | minus);
    fast->plus_scale = (int32_t)((uint32_t)channel->plus << (17u + left) | right);
    fast->right = 0;
#else
    /* Inputs and outputs are 128 greater. */
    const int32_t excess = 128 * ((int32_t)channel->plus * channel->plus_count -
                                  (int32_t)channel->minus * channel->minus_count);
    fast->bias = (channel->bias - excess) * (int32_t)(2u << left);
    fast->minus_scale = -(int32_t)((uint32_t)channel->minus << (1u + left));
    fast->plus_scale = (int32_t)((uint32_t)channel->plus << (1u + left));
    fast->right = (int32_t)right;
#endif
    fast->multiplier = channel->multiplier;
#if defined(EC2T_MCU_HELIUM)
    fast->rounding = zero_point;
#else
    fast->rounding = (1 << (right - 1u)) + (zero_point + (int32_t)EC2T_MCU_FLIP) * (1 << right);
#endif
    return 1;
}

/* The tile in any case: wide sums, exact requantisation of each. */
static void slow_tile(const ec2t_mcu_list_conv *layer, const ec2t_mcu_channel *channel,
                      const uint8_t *input, const uint16_t *minus, const uint16_t *plus,
                      uint8_t *output) {
    int32_t sums[EC2T_MCU_TILE_PIXELS];
    for (uint32_t i = 0; i < EC2T_MCU_TILE_PIXELS; ++i)
        sums[i] = channel->bias;
    long_list(layer, input, minus, channel->minus_count, -(int32_t)channel->minus, sums);
    long_list(layer, input, plus, channel->plus_count, channel->plus, sums);
    const int32_t *sum = sums;
    for (uint32_t group = 0; group < 4; ++group) {
        uint8_t *to = output + layer->out_group[group];
        for (uint32_t i = 0; i < EC2T_MCU_GROUP; ++i) {
            const int32_t value = ec2t_mcu_requantise(*sum++, channel->multiplier, channel->shift);
            to[i] = ec2t_mcu_byte(ec2t_mcu_clamped(value, &layer->clamp));
        }
    }
}

ec2t_mcu_status ec2t_mcu_list_conv_run(const ec2t_mcu_list_conv *layer, const uint8_t *input,
                                       uint8_t *output, uint16_t *scratch) {
    const uint16_t *stored = layer->weights;
    const ec2t_mcu_tile_fast tile = layer->fast;
    uint32_t position = 0;
    uint32_t across = layer->tiles_across, rows = layer->tile_count;
    uint32_t in_step = layer->in_tile_step, out_step = layer->out_tile_step;
    uint32_t in_row_step = layer->in_row_step, out_row_step = layer->out_row_step;
    if (across == 1) { /* one tile a row: the inner loop goes down the rows */
        across = rows, in_step = in_row_step, out_step = out_row_step;
        rows = 1;
    }
    ec2t_mcu_lead(&layer->out, output);
    for (uint32_t o = 0; o < layer->out.channels; ++o) {
        const ec2t_mcu_channel *channel = &layer->channel[o];
        ec2t_mcu_fast fast;
        if (layer->encoding == EC2T_MCU_ENCODING_RICE) {
            if ((uint32_t)channel->minus_count + channel->plus_count > layer->most) {
                return EC2T_MCU_CORRUPT;
            }
            uint16_t *plus = scratch + layer->most;
            const ec2t_mcu_status status = decode(layer, channel, &position, scratch, plus);
            if (status != EC2T_MCU_OK)
                return status;
            fast.minus_list = scratch;
            fast.plus_list = plus;
        } else {
            fast.minus_list = stored;
            fast.plus_list = stored + channel->minus_count;
            stored = fast.plus_list + channel->plus_count;
        }
        const int is_fast = tile && prepare(channel, layer->clamp.zero_point, &fast);
        const uint8_t *in =
            layer->depthwise ? input + o / layer->depthwise * layer->in.plane : input;
        uint8_t *out = output + o * layer->out.plane;
        for (uint32_t y = rows; y; --y, in += in_row_step, out += out_row_step) {
            const uint8_t *from = in;
            uint8_t *to = out;
            if (is_fast) {
                for (uint32_t x = across; x; --x, from += in_step, to += out_step)
                    tile(from, &fast, to);
            } else {
                for (uint32_t x = across; x; --x, from += in_step, to += out_step) {
                    slow_tile(layer, channel, from, fast.minus_list, fast.plus_list, to);
                }
            }
        }
        if (is_fast)
            ec2t_mcu_limit(&layer->out, output + o * layer->out.plane, &layer->clamp);
        ec2t_mcu_border(&layer->out, output, o);
    }
    return EC2T_MCU_OK;
}
