#include "masked_conv.h"

#include "requantise.h"

#if defined(EC2T_MCU_HELIUM)
#include <arm_mve.h>

/* Where the two streams are. */
typedef struct {
    const uint16_t *masks;
    uint32_t sign; /* bit */
} Place;

/* The distances of ec2t_mcu_dot_conv: planes, one after the other, the last where there are none
 * left. */
static void distances_of(const ec2t_mcu_dot_conv *dot, uint16_t *to) {
    uint32_t last = 0, c = 0;
    for (uint32_t chunk = dot->chunks; chunk; --chunk) {
        last = 0;
        for (uint32_t i = dot->bytes; i; --i, ++c) {
            const uint32_t at = (c < dot->in.channels ? c : dot->in.channels - 1u) * dot->in.plane;
            *to++ = (uint16_t)(at - last);
            last = at;
        }
    }
}

static ec2t_mcu_channel channel_of(const ec2t_mcu_masked_conv *layer, uint32_t o) {
    return layer->channels.form == EC2T_MCU_CHANNELS_WHOLE
               ? ((const ec2t_mcu_channel *)layer->channels.table)[o]
               : ec2t_mcu_short_channel(&layer->channels, o, layer->dot.in.zero_point);
}

/* Channels `o` and `o` + 1 to a pair and its weights. */
static ec2t_mcu_status decode(const ec2t_mcu_masked_conv *layer, uint32_t o, Place *place,
                              ec2t_mcu_dot_pair *pair, int8_t *weights) {
    int8x16_t minus[2], plus[2];
    for (uint32_t i = 0; i < 2u; ++i) {
        const ec2t_mcu_channel channel = channel_of(layer, o + i);
        for (uint32_t k = 0; k < 4u; ++k)
            pair->sums[4u * i + k] = channel.bias;
        pair->scale[i].multiplier = channel.multiplier;
        pair->scale[i].shift = channel.shift;
        minus[i] = vdupq_n_s8((int8_t)-channel.minus);
        plus[i] = vdupq_n_s8((int8_t)channel.plus);
    }
    const uint16_t *masks = place->masks;
    uint32_t sign = place->sign;
    for (uint32_t left = layer->dot.pair_bytes / 32u; left; --left) {
        for (uint32_t i = 0; i < 2u; ++i, weights += 16) {
            const mve_pred16_t mask = *masks++;
            uint32_t bits, below = 0;
            if (sign > layer->sign_bits)
                return EC2T_MCU_CORRUPT;
            __builtin_memcpy(&bits, layer->signs + (sign >> 3), 4);
            bits >>= sign & 7u;
            for (uint32_t rest = mask; rest; bits >>= 1, ++sign) {
                const uint32_t lowest = rest & (0u - rest);
                if (bits & 1u)
                    below |= lowest;
                rest ^= lowest;
            }
            const int8x16_t values = vpselq_s8(minus[i], plus[i], (mve_pred16_t)below);
            vstrbq_s8(weights, vpselq_s8(values, vdupq_n_s8(0), mask));
        }
    }
    place->masks = masks;
    place->sign = sign;
    return EC2T_MCU_OK;
}

ec2t_mcu_status ec2t_mcu_masked_conv_run(const ec2t_mcu_masked_conv *layer, const uint8_t *input,
                                         uint8_t *output, uint8_t *scratch) {
    const uint32_t together = layer->together, count = layer->dot.out.channels;
    const uint32_t distances = 2u * layer->dot.chunks * layer->dot.bytes;
    ec2t_mcu_dot_pair *const pairs = (ec2t_mcu_dot_pair *)(void *)scratch;
    int8_t *const weights = (int8_t *)(void *)(pairs + together / 2u);
    uint16_t *const where = (uint16_t *)(void *)(weights + together / 2u * layer->dot.pair_bytes);
    uint8_t *const rest = (uint8_t *)where + (distances + 3u) / 4u * 4u;
    Place place = {layer->masks, 0};
    ec2t_mcu_dot_conv dot = layer->dot;
    dot.pairs = pairs, dot.weights = weights, dot.distances = where;
    distances_of(&dot, where);
    for (uint32_t o = 0; o < count; o += together) {
        const uint32_t now = count - o < together ? count - o : together;
        for (uint32_t i = 0; i < now; i += 2u) {
            const ec2t_mcu_status status =
                decode(layer, o + i, &place, pairs + i / 2u, weights + i / 2u * dot.pair_bytes);
            if (status != EC2T_MCU_OK)
                return status;
        }
        dot.out.channels = (uint16_t)now;
        layer->run(&dot, input, output + o * layer->dot.out.plane, rest);
    }
    return place.sign == layer->sign_bits ? EC2T_MCU_OK : EC2T_MCU_CORRUPT;
}

#endif
