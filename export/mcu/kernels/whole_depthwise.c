/* Depthwise convolutions whose kernel covers the map: one output a channel, a dot product of two
 * short runs of bytes. On Helium see fours_helium.c. */
#include "dsp.h"

#if !defined(EC2T_MCU_HELIUM)

/* The products of a plane and a channel's weights, `taps` of them, a multiple of 4 on cores with
 * DSP instructions. */
static inline int32_t products(const uint8_t *x, const int8_t *w, uint32_t taps, int32_t sum) {
#if defined(EC2T_MCU_DSP)
    for (const int8_t *const end = w + taps; w != end; x += 4, w += 4) {
        const uint32_t inputs = ec2t_mcu_word_at(x);
        const uint32_t weights = ec2t_mcu_word_at((const uint8_t *)w);
        sum = ec2t_mcu_multiply_add(ec2t_mcu_even_bytes(inputs), ec2t_mcu_even_bytes(weights), sum);
        sum = ec2t_mcu_multiply_add(ec2t_mcu_odd_bytes(inputs), ec2t_mcu_odd_bytes(weights), sum);
    }
#else
    /* Stored bytes, 128 greater, which the biases account for. */
    for (const int8_t *const end = w + taps; w != end; ++x, ++w)
        sum += *x * *w;
#endif
    return sum;
}

void ec2t_mcu_whole_depthwise_run(const ec2t_mcu_whole_depthwise *layer, const uint8_t *input,
                                  uint8_t *output) {
    const ec2t_mcu_whole_channel *channel = layer->channel, *const end = channel + layer->count;
    const int8_t *weights = layer->weights;
    const uint32_t taps = layer->taps, each = layer->depth_multiplier;
    uint8_t *to = output;
    for (uint32_t left = each; channel != end; ++channel, weights += taps) {
        const int32_t sum = products(input, weights, taps, channel->bias);
        const int32_t twice = (int32_t)((uint32_t)sum << 1);
        const int32_t high = ec2t_mcu_high(twice, channel->multiplier, channel->rounding);
        *to++ = ec2t_mcu_saturated((high + (twice >> 31)) >> channel->right);
        if (!--left)
            input += layer->plane, left = each;
    }
    const ec2t_mcu_planar row = {1, 1, layer->count, layer->count, layer->count, 0, 0};
    ec2t_mcu_limit(&row, output, &layer->clamp);
}

#endif
