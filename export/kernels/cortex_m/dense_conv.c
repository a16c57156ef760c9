#include "requantise.h"

#if defined(EC2T_MCU_DSP)

static inline uint32_t word_at(const uint8_t *p) {
    uint32_t word;
    __builtin_memcpy(&word, p, 4);
    return word;
}

/* Sums of four neighbouring pixels of one or two output channels over `count` / 4 runs of four
 * neighbouring taps; a run lies at one offset. The second channel's weights follow the first's. */
static inline uint32_t even_bytes(uint32_t word) {
    uint32_t r;
    __asm("sxtb16 %0,%1" : "=r"(r) : "r"(word));
    return r;
}
static inline uint32_t odd_bytes(uint32_t word) {
    uint32_t r;
    __asm("sxtb16 %0,%1,ror #8" : "=r"(r) : "r"(word));
    return r;
}
static inline int32_t multiply_add(uint32_t a, uint32_t b, int32_t sum) {
    __asm("smlad %0,%1,%2,%0" : "+r"(sum) : "r"(a), "r"(b));
    return sum;
}

static inline __attribute__((always_inline)) void
four_pixels(const uint8_t *input, const uint16_t *offsets, uint32_t count, const int8_t *weights,
            uint32_t channels, uint32_t stride, int32_t *sums) {
    int32_t a0 = sums[0], a1 = sums[1], a2 = sums[2], a3 = sums[3];
    int32_t b0 = sums[4], b1 = sums[5], b2 = sums[6], b3 = sums[7];
    const int8_t *const end = weights + count;
    for (; weights != end; weights += 4) {
        const uint8_t *p = input + *offsets++;
        const uint32_t w = word_at((const uint8_t *)weights);
        const uint32_t w02 = even_bytes(w), w13 = odd_bytes(w);
        const uint32_t v = channels == 2 ? word_at((const uint8_t *)weights + count) : 0u;
        const uint32_t v02 = even_bytes(v), v13 = odd_bytes(v);
        /* x02 holds the inputs 0 and 2 of the run, and so on; at stride 1 runs overlap by halves.
         */
        uint32_t word = word_at(p);
        uint32_t x02 = even_bytes(word), x13 = odd_bytes(word);
        a0 = multiply_add(x13, w13, multiply_add(x02, w02, a0));
        if (channels == 2)
            b0 = multiply_add(x13, v13, multiply_add(x02, v02, b0));
        word = word_at(p + 2);
        const uint32_t x24 = even_bytes(word), x35 = odd_bytes(word);
        if (stride == 1) {
            a1 = multiply_add(x24, w13, multiply_add(x13, w02, a1));
            a2 = multiply_add(x35, w13, multiply_add(x24, w02, a2));
            if (channels == 2)
                b1 = multiply_add(x24, v13, multiply_add(x13, v02, b1));
            if (channels == 2)
                b2 = multiply_add(x35, v13, multiply_add(x24, v02, b2));
            const uint32_t x46 = even_bytes(word_at(p + 4));
            a3 = multiply_add(x46, w13, multiply_add(x35, w02, a3));
            if (channels == 2)
                b3 = multiply_add(x46, v13, multiply_add(x35, v02, b3));
        } else {
            a1 = multiply_add(x35, w13, multiply_add(x24, w02, a1));
            if (channels == 2)
                b1 = multiply_add(x35, v13, multiply_add(x24, v02, b1));
            word = word_at(p + 4);
            x02 = even_bytes(word), x13 = odd_bytes(word);
            a2 = multiply_add(x13, w13, multiply_add(x02, w02, a2));
            if (channels == 2)
                b2 = multiply_add(x13, v13, multiply_add(x02, v02, b2));
            word = word_at(p + 6);
            x02 = even_bytes(word), x13 = odd_bytes(word);
            a3 = multiply_add(x13, w13, multiply_add(x02, w02, a3));
            if (channels == 2)
                b3 = multiply_add(x13, v13, multiply_add(x02, v02, b3));
        }
    }
    sums[0] = a0, sums[1] = a1, sums[2] = a2, sums[3] = a3;
    if (channels == 2)
        sums[4] = b0, sums[5] = b1, sums[6] = b2, sums[7] = b3;
}

#define SHAPE(name, channels, stride)                                                              \
    static __attribute__((noinline)) void name(const uint8_t *input, const uint16_t *offsets,      \
                                               uint32_t count, const int8_t *weights,              \
                                               int32_t *sums) {                                    \
        four_pixels(input, offsets, count, weights, channels, stride, sums);                       \
    }
SHAPE(four_pixels_1_1, 1, 1)
SHAPE(four_pixels_1_2, 1, 2)
SHAPE(four_pixels_2_1, 2, 1)
SHAPE(four_pixels_2_2, 2, 2)
typedef void (*Sums)(const uint8_t *, const uint16_t *, uint32_t, const int8_t *, int32_t *);

static inline void put(uint8_t *to, uint32_t count, const int32_t *sums,
                       const ec2t_mcu_channel *channel, const ec2t_mcu_constants *c,
                       const ec2t_mcu_clamp *clamp) {
    if (c->exact) {
        const ec2t_mcu_constants constants = *c; /* in registers: the stores might alias *c */
        if (count == 4u) {
#pragma GCC unroll 4
            for (uint32_t i = 0; i < 4u; ++i)
                to[i] = ec2t_mcu_to_byte(sums[i], &constants);
            return;
        }
#pragma GCC unroll 1
        for (uint32_t i = 0; i < count; ++i)
            to[i] = ec2t_mcu_to_byte(sums[i], &constants);
        return;
    }
    for (uint32_t i = 0; i < count; ++i) {
        const int32_t value = ec2t_mcu_requantise(sums[i], channel->multiplier, channel->shift);
        to[i] = ec2t_mcu_byte(ec2t_mcu_clamped(value, clamp));
    }
}

void ec2t_mcu_dense_conv_run(const ec2t_mcu_dense_conv *layer, const uint8_t *input,
                             uint8_t *output) {
    const ec2t_mcu_planar *in = &layer->in, *out = &layer->out;
    const int8_t *weights = layer->weights;
    const uint32_t taps = layer->tap_count;
    const uint32_t row_step = (uint32_t)layer->stride_y * in->pitch;
    const uint32_t tile_step = 4u * layer->stride_x;
    ec2t_mcu_lead(out, output);
    for (uint32_t o = 0; o < out->channels;) {
        const uint32_t both = !layer->depth_multiplier && o + 1u < out->channels;
        const Sums sums_of = both ? (layer->stride_x == 1 ? four_pixels_2_1 : four_pixels_2_2)
                                  : (layer->stride_x == 1 ? four_pixels_1_1 : four_pixels_1_2);
        const ec2t_mcu_channel *channel = &layer->channel[o];
        const uint8_t *row =
            layer->depth_multiplier ? input + o / layer->depth_multiplier * in->plane : input;
        uint8_t *to = output + o * out->plane;
        ec2t_mcu_constants constants[2];
        int32_t start[2];
        for (uint32_t i = 0; i <= both; ++i) {
            const int32_t bias = channel[i].bias;
            const uint32_t bound =
                (bias < 0 ? 0u - (uint32_t)bias : (uint32_t)bias) + 32768u * taps;
            constants[i] = ec2t_mcu_constants_of(channel[i].multiplier, channel[i].shift, bound,
                                                 &layer->clamp);
            start[i] = bias;
        }
        for (uint32_t y = 0; y < out->height; ++y, row += row_step, to += out->pitch) {
            const uint8_t *from = row;
            for (uint32_t x = 0; x < out->width; x += 4u, from += tile_step) {
                int32_t sums[8];
                sums[0] = sums[1] = sums[2] = sums[3] = start[0];
                sums[4] = sums[5] = sums[6] = sums[7] = start[both];
                sums_of(from, layer->taps, taps, weights, sums);
                const uint32_t count = out->width - x < 4u ? out->width - x : 4u;
                put(to + x, count, sums, &channel[0], &constants[0], &layer->clamp);
                if (both) {
                    put(to + out->plane + x, count, sums + 4, &channel[1], &constants[1],
                        &layer->clamp);
                }
            }
        }
        for (uint32_t i = 0; i <= both; ++i, ++o) {
            ec2t_mcu_limit(out, output + o * out->plane, &layer->clamp);
            ec2t_mcu_border(out, output, o);
            weights += taps;
        }
    }
}

#endif
