#include "requantise.h"

#if !defined(EC2T_MCU_DSP)

static inline uint8_t exact(int32_t sum, const ec2t_mcu_channel *channel,
                            const ec2t_mcu_clamp *clamp) {
    const int32_t value = ec2t_mcu_requantise(sum, channel->multiplier, channel->shift);
    return ec2t_mcu_byte(ec2t_mcu_clamped(value, clamp));
}

#if defined(EC2T_MCU_HELIUM)

/* A tile whose multiplier or sums do not fit the assembly. */
static void slow_tile(const ec2t_mcu_tiled_conv *layer, const ec2t_mcu_channel *channel,
                      const int8_t *weights, const uint8_t *input, uint8_t *output) {
    for (uint32_t i = 0; i < 16; ++i) {
        const uint8_t *p = input + layer->in_group[i / 4] + i % 4 * layer->stride_x;
        int32_t sum = channel->bias;
        for (uint32_t t = 0; t < layer->tap_count; ++t) {
            p += layer->taps[t];
            sum += weights[t] * ec2t_mcu_value(*p);
        }
        output[layer->out_group[i / 4] + i % 4] = exact(sum, channel, &layer->clamp);
    }
}

static void plane(const ec2t_mcu_tiled_conv *layer, const ec2t_mcu_channel *channel,
                  const int8_t *weights, const uint8_t *in, uint8_t *out) {
    const uint32_t magnitude =
        channel->bias < 0 ? 0u - (uint32_t)channel->bias : (uint32_t)channel->bias;
    const int fits = channel->shift < 0 && magnitude + 16384u * layer->tap_count <= 0x3fffffffu;
    const ec2t_mcu_dense_fast fast = {layer->taps,         weights,
                                      layer->tap_count,    channel->bias,
                                      channel->multiplier, layer->clamp.zero_point,
                                      channel->shift};
    for (uint32_t y = layer->tile_count; y; --y) {
        const uint8_t *from = in;
        uint8_t *to = out;
        for (uint32_t x = layer->tiles_across; x; --x) {
            if (fits) {
                layer->tile(from, &fast, to);
            } else {
                slow_tile(layer, channel, weights, from, to);
            }
            from += layer->in_tile_step, to += layer->out_tile_step;
        }
        in += layer->in_row_step, out += layer->out_row_step;
    }
    if (fits)
        ec2t_mcu_limit(&layer->out, out - layer->tile_count * layer->out_row_step, &layer->clamp);
}

#else

/* The loop of sums whose multiplier needs more; apart, or it takes the other's registers. */
static __attribute__((noinline)) void put_exact(uint8_t *to, const uint8_t *end, const int32_t *sum,
                                                const ec2t_mcu_channel *channel,
                                                const ec2t_mcu_clamp *clamp) {
    while (to != end)
        *to++ = exact(*sum++, channel, clamp);
}

static __attribute__((noinline)) void plane(const ec2t_mcu_tiled_conv *layer,
                                            const ec2t_mcu_channel *channel, const int8_t *weights,
                                            const uint8_t *in, uint8_t *out) {
    const uint32_t magnitude =
        channel->bias < 0 ? 0u - (uint32_t)channel->bias : (uint32_t)channel->bias;
    const ec2t_mcu_constants constants = ec2t_mcu_constants_of(
        channel->multiplier, channel->shift, magnitude + 32768u * layer->tap_count, &layer->clamp);
    const uint32_t pixels = layer->pixels, step = pixels * layer->stride_x;
    const uint32_t width = layer->columns;
    const ec2t_mcu_dense_sums sums_of = layer->sums;
    uint8_t *row = out;
    for (uint32_t y = layer->rows; y; --y, row += layer->out.pitch) {
        const uint8_t *from = in;
        uint8_t *to = row, *const end = row + width;
        for (; to < end; from += step) {
            int32_t sums[8];
            for (uint32_t i = 0; i < pixels; ++i)
                sums[i] = channel->bias;
            sums_of(from, layer->taps, layer->runs, weights, sums);
            const int32_t *sum = sums;
            uint8_t *const stop = (uint32_t)(end - to) < pixels ? end : to + pixels;
            if (constants.exact) {
                while (to != stop)
                    *to++ = ec2t_mcu_to_byte(*sum++, &constants);
            } else {
                put_exact(to, stop, sum, channel, &layer->clamp);
                to = stop;
            }
        }
        in += layer->in_row_step;
    }
    if (constants.exact)
        ec2t_mcu_limit_whole(&layer->out, out, &layer->clamp);
}

#endif

void ec2t_mcu_tiled_conv_run(const ec2t_mcu_tiled_conv *layer, const uint8_t *input,
                             uint8_t *output) {
    const int8_t *weights = layer->weights;
    ec2t_mcu_lead(&layer->out, output);
    for (uint32_t o = 0; o < layer->out.channels; ++o, weights += layer->tap_count) {
        const uint8_t *in =
            layer->depth_multiplier ? input + o / layer->depth_multiplier * layer->in.plane : input;
        const ec2t_mcu_channel channel = ec2t_mcu_channel_at(&layer->channels, o);
        plane(layer, &channel, weights, in, output + o * layer->out.plane);
        ec2t_mcu_border(&layer->out, output, o);
    }
}

#endif
