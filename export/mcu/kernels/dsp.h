/* Pairs of 16-bit lanes in the registers of cores with DSP instructions. */
#ifndef EC2T_MCU_DSP_H
#define EC2T_MCU_DSP_H
#include "requantise.h"

#if defined(EC2T_MCU_DSP)

static inline uint32_t ec2t_mcu_word_at(const uint8_t *p) {
    uint32_t word;
    __builtin_memcpy(&word, p, 4);
    return word;
}
/* Bytes 0 and 2 of a word, and bytes 1 and 3, with their signs. */
static inline uint32_t ec2t_mcu_even_bytes(uint32_t word) {
    uint32_t r;
    __asm("sxtb16 %0,%1" : "=r"(r) : "r"(word));
    return r;
}
static inline uint32_t ec2t_mcu_odd_bytes(uint32_t word) {
    uint32_t r;
    __asm("sxtb16 %0,%1,ror #8" : "=r"(r) : "r"(word));
    return r;
}
static inline uint32_t ec2t_mcu_low_halves(uint32_t a, uint32_t b) {
    uint32_t r;
    __asm("pkhbt %0,%1,%2,lsl #16" : "=r"(r) : "r"(a), "r"(b));
    return r;
}
static inline uint32_t ec2t_mcu_high_halves(uint32_t a, uint32_t b) {
    uint32_t r;
    __asm("pkhtb %0,%1,%2,asr #16" : "=r"(r) : "r"(b), "r"(a));
    return r;
}
static inline int32_t ec2t_mcu_multiply_add(uint32_t a, uint32_t b, int32_t sum) {
    __asm("smlad %0,%1,%2,%0" : "+r"(sum) : "r"(a), "r"(b));
    return sum;
}

/* A depthwise convolution by a function that sums four neighbouring pixels of one plane. */
typedef void (*ec2t_mcu_four_sums)(const uint8_t *input, const uint16_t *offsets, uint32_t count,
                                   const int8_t *weights, int32_t *sums);
static inline void ec2t_mcu_depthwise_planes(const ec2t_mcu_dense_conv *layer, const uint8_t *input,
                                             uint8_t *output, ec2t_mcu_four_sums sums_of) {
    const ec2t_mcu_planar *in = &layer->in, *out = &layer->out;
    const int8_t *weights = layer->weights;
    const uint32_t taps = layer->tap_count;
    const uint32_t row_step = (uint32_t)layer->stride_y * in->pitch;
    const uint32_t tile_step = 4u * layer->stride_x;
    ec2t_mcu_lead(out, output);
    for (uint32_t o = 0; o < out->channels; ++o, weights += taps) {
        const ec2t_mcu_channel record = ec2t_mcu_channel_at(&layer->channels, o);
        const ec2t_mcu_channel *const channel = &record;
        const uint8_t *row = input + o / layer->depth_multiplier * in->plane;
        uint8_t *const plane = output + o * out->plane, *to_row = plane;
        const int32_t bias = channel->bias;
        const uint32_t bound = (bias < 0 ? 0u - (uint32_t)bias : (uint32_t)bias) + 16384u * taps;
        const ec2t_mcu_constants constants =
            ec2t_mcu_constants_of(channel->multiplier, channel->shift, bound, &layer->clamp);
        for (uint32_t y = out->height; y; --y, row += row_step, to_row += out->pitch) {
            const uint8_t *from = row;
            uint8_t *to = to_row, *const end = to_row + out->width;
            for (; to != end; from += tile_step) {
                int32_t sums[4] = {bias, bias, bias, bias};
                sums_of(from, layer->taps, taps, weights, sums);
                const int32_t *sum = sums;
                uint8_t *const stop = end - to < 4 ? end : to + 4;
                if (constants.exact && stop - to == 4) {
#pragma GCC unroll 4
                    for (uint32_t i = 0; i < 4u; ++i)
                        to[i] = ec2t_mcu_to_byte(sums[i], &constants);
                    to = stop;
                    continue;
                }
                for (; to != stop; ++sum) {
                    if (constants.exact) {
                        *to++ = ec2t_mcu_to_byte(*sum, &constants);
                    } else {
                        const int32_t value =
                            ec2t_mcu_requantise(*sum, channel->multiplier, channel->shift);
                        *to++ = ec2t_mcu_byte(ec2t_mcu_clamped(value, &layer->clamp));
                    }
                }
            }
        }
        ec2t_mcu_limit(out, plane, &layer->clamp);
        ec2t_mcu_border(out, plane, 0);
    }
}

/* `run`, out of a function of that kind that takes the stride as well and is inlined. */
#define EC2T_MCU_DEPTHWISE_RUN(run, four_pixels)                                                   \
    static __attribute__((noinline)) void stride_1(const uint8_t *input, const uint16_t *offsets,  \
                                                   uint32_t count, const int8_t *weights,          \
                                                   int32_t *sums) {                                \
        four_pixels(input, offsets, count, weights, 1, sums);                                      \
    }                                                                                              \
    static __attribute__((noinline)) void stride_2(const uint8_t *input, const uint16_t *offsets,  \
                                                   uint32_t count, const int8_t *weights,          \
                                                   int32_t *sums) {                                \
        four_pixels(input, offsets, count, weights, 2, sums);                                      \
    }                                                                                              \
    void run(const ec2t_mcu_dense_conv *layer, const uint8_t *input, uint8_t *output) {            \
        ec2t_mcu_depthwise_planes(layer, input, output,                                            \
                                  layer->stride_x == 1 ? stride_1 : stride_2);                     \
    }

#endif
#endif
