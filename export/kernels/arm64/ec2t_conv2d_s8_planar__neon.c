/* Planar convolution with NEON: 64 outputs at a time, sums in int16. */
#include <arm_neon.h>
#include <string.h>

#include "ec2t_planar.h"

#define PLANAR_KERNEL neon
#define PLANAR_TARGET
#define PLANAR_TILE 64
#define PLANAR_GRAIN 16
#define ALWAYS_INLINE static inline __attribute__((always_inline))
typedef int8_t planar_element;

enum { CHUNK = 255 }; /* activations that an int16 sum holds for certain */

ALWAYS_INLINE uint32_t offset_at(const void *offsets, uint32_t index, int wide) {
    return wide ? ((const uint32_t *)offsets)[index] : ((const uint16_t *)offsets)[index];
}

/* sums[2 * blocks] += activations at the listed places. */
ALWAYS_INLINE void add_places(int16x8_t *sums, const int8_t *base, const void *offsets,
                              uint32_t first, uint32_t count, int blocks, int wide) {
    for (uint32_t t = first; t < first + count; ++t) {
        const int8_t *const from = base + offset_at(offsets, t, wide);
        int8x16_t x[4];
        if (blocks == 4) {
            const int8x16x4_t four = vld1q_s8_x4(from);
            x[0] = four.val[0];
            x[1] = four.val[1];
            x[2] = four.val[2];
            x[3] = four.val[3];
        } else {
            for (int b = 0; b < blocks; ++b) {
                x[b] = vld1q_s8(from + 16 * b);
            }
        }
        for (int b = 0; b < blocks; ++b) {
            sums[2 * b] = vaddw_s8(sums[2 * b], vget_low_s8(x[b]));
            sums[2 * b + 1] = vaddw_high_s8(sums[2 * b + 1], x[b]);
        }
    }
}

/* What the requantisation of one channel needs, in registers. */
typedef struct {
    int32x4_t multiplier, left, right;
    float32x4_t factor;
    int16x8_t zero_point;
    int8x16_t low, high;
} requant_vectors;

ALWAYS_INLINE requant_vectors load_requant(const ec2t_requant *requant, int32_t entry) {
    requant_vectors v;
    memset(&v, 0, sizeof v);
    if (requant->mode == EC2T_REQUANT_FP32) {
        v.factor = vdupq_n_f32(requant->factors[entry]);
    } else {
        const int32_t shift = requant->shifts[entry];
        v.multiplier = vdupq_n_s32(requant->multipliers[entry]);
        v.left = vdupq_n_s32(shift > 0 ? shift : 0);
        v.right = vdupq_n_s32(shift > 0 ? 0 : shift);
    }
    v.zero_point = vdupq_n_s16((int16_t)requant->output_zero_point);
    v.low = vdupq_n_s8((int8_t)requant->output_min);
    v.high = vdupq_n_s8((int8_t)requant->output_max);
    return v;
}

ALWAYS_INLINE int32x4_t scale(int32x4_t accumulator, const requant_vectors *v, int fp32) {
    if (fp32) {
        return vcvtnq_s32_f32(vmulq_f32(vcvtq_f32_s32(accumulator), v->factor));
    }
    int32x4_t x = vqrdmulhq_s32(vshlq_s32(accumulator, v->left), v->multiplier);
    /* The rounding shift rounds halves up; minus one below zero makes it away from zero. */
    x = vqaddq_s32(x, vshrq_n_s32(vandq_s32(x, v->right), 31));
    return vrshlq_s32(x, v->right);
}

ALWAYS_INLINE int8x16_t narrow(const int32x4_t *a, const requant_vectors *v, int fp32) {
    int16x8_t low = vqmovn_high_s32(vqmovn_s32(scale(a[0], v, fp32)), scale(a[1], v, fp32));
    int16x8_t high = vqmovn_high_s32(vqmovn_s32(scale(a[2], v, fp32)), scale(a[3], v, fp32));
    low = vqaddq_s16(low, v->zero_point);
    high = vqaddq_s16(high, v->zero_point);
    const int8x16_t bytes = vqmovn_high_s16(vqmovn_s16(low), high);
    return vminq_s8(vmaxq_s8(bytes, v->low), v->high);
}

/* Both lists are short enough for int16 sums: nothing leaves the registers. */
ALWAYS_INLINE void tile_in_registers(const ec2t_planar_conv2d *conv,
                                     const ec2t_planar_channel *channel, int32_t entry,
                                     const int8_t *base, int8_t *output, int blocks, int wide,
                                     int fp32) {
    int16x8_t plus[8], minus[8];
    for (int b = 0; b < 2 * blocks; ++b) {
        plus[b] = minus[b] = vdupq_n_s16(0);
    }
    add_places(plus, base, conv->offsets, channel->first, channel->plus_count, blocks, wide);
    add_places(minus, base, conv->offsets, channel->first + channel->plus_count,
               channel->minus_count, blocks, wide);
    const requant_vectors v = load_requant(&conv->requant, entry);
    const int32x4_t bias = vdupq_n_s32(channel->bias);
    const int16x8_t value_plus = vdupq_n_s16((int16_t)channel->value_plus);
    const int16x8_t value_minus = vdupq_n_s16((int16_t)channel->value_minus);
    for (int b = 0; b < blocks; ++b) {
        int32x4_t a[4];
        for (int half = 0; half < 2; ++half) {
            const int16x8_t p = plus[2 * b + half], m = minus[2 * b + half];
            const int32x4_t low = vmlal_s16(bias, vget_low_s16(p), vget_low_s16(value_plus));
            const int32x4_t high = vmlal_high_s16(bias, p, value_plus);
            a[2 * half] = vmlal_s16(low, vget_low_s16(m), vget_low_s16(value_minus));
            a[2 * half + 1] = vmlal_high_s16(high, m, value_minus);
        }
        vst1q_s8(output + 16 * b, narrow(a, &v, fp32));
    }
}

/* Long lists: int16 sums of a chunk at a time go into int32 accumulators. */
static void tile_in_chunks(const ec2t_planar_conv2d *conv, const ec2t_planar_channel *channel,
                           int32_t entry, const int8_t *base, int32_t size, int8_t *output) {
    int32x4_t accumulators[16];
    const int wide = conv->offset_size == 4;
    for (int i = 0; i < 16; ++i) {
        accumulators[i] = vdupq_n_s32(channel->bias);
    }
    uint32_t first = channel->first;
    for (int list = 0; list < 2; ++list) {
        uint32_t count = list == 0 ? channel->plus_count : channel->minus_count;
        const int32_t value = list == 0 ? channel->value_plus : channel->value_minus;
        const int16x4_t values = vdup_n_s16((int16_t)value);
        while (count > 0) {
            const uint32_t chunk = count < CHUNK ? count : CHUNK;
            for (int b = 0; b < size / 16; ++b) {
                int16x8_t sums[2] = {vdupq_n_s16(0), vdupq_n_s16(0)};
                if (wide) {
                    add_places(sums, base + 16 * b, conv->offsets, first, chunk, 1, 1);
                } else {
                    add_places(sums, base + 16 * b, conv->offsets, first, chunk, 1, 0);
                }
                int32x4_t *const a = accumulators + 4 * b;
                a[0] = vmlal_s16(a[0], vget_low_s16(sums[0]), values);
                a[1] = vmlal_s16(a[1], vget_high_s16(sums[0]), values);
                a[2] = vmlal_s16(a[2], vget_low_s16(sums[1]), values);
                a[3] = vmlal_s16(a[3], vget_high_s16(sums[1]), values);
            }
            first += chunk;
            count -= chunk;
        }
    }
    const requant_vectors v = load_requant(&conv->requant, entry);
    for (int b = 0; b < size / 16; ++b) {
        const int8x16_t bytes = conv->requant.mode == EC2T_REQUANT_FP32
                                    ? narrow(accumulators + 4 * b, &v, 1)
                                    : narrow(accumulators + 4 * b, &v, 0);
        vst1q_s8(output + 16 * b, bytes);
    }
}

#define TILE_CASE(blocks, wide, fp32)                                                              \
    case 16 * (blocks) + 2 * (wide) + (fp32):                                                      \
        tile_in_registers(conv, channel, entry, base, output, blocks, wide, fp32);                 \
        break;
#define TILE_CASES(blocks)                                                                         \
    TILE_CASE(blocks, 0, 0)                                                                        \
    TILE_CASE(blocks, 0, 1)                                                                        \
    TILE_CASE(blocks, 1, 0)                                                                        \
    TILE_CASE(blocks, 1, 1)

static void planar_tile(const ec2t_planar_conv2d *conv, const ec2t_planar_channel *channel,
                        int32_t entry, const int8_t *base, int32_t size, int8_t *output) {
    if (channel->plus_count > CHUNK || channel->minus_count > CHUNK) {
        tile_in_chunks(conv, channel, entry, base, size, output);
        return;
    }
    const int wide = conv->offset_size == 4, fp32 = conv->requant.mode == EC2T_REQUANT_FP32;
    switch (size + 2 * wide + fp32) {
        TILE_CASES(1)
        TILE_CASES(2)
        TILE_CASES(3)
        TILE_CASES(4)
    }
}

static void planar_copy(int8_t *to, const int8_t *from, int32_t count) {
    for (; count >= 16; count -= 16, to += 16, from += 16) {
        vst1q_s8(to, vld1q_s8(from));
    }
    if (count >= 8) {
        vst1_s8(to, vld1_s8(from));
        count -= 8, to += 8, from += 8;
    }
    for (; count > 0; --count) {
        *to++ = *from++;
    }
}

static inline void planar_copy_masked(int8_t *to, const int8_t *from, const int8_t *mask,
                                      int8_t zero) {
    const uint8x16_t select = vreinterpretq_u8_s8(vld1q_s8(mask));
    vst1q_s8(to, vbslq_s8(select, vdupq_n_s8(zero), vld1q_s8(from)));
}

static void planar_copy_alternate(int8_t *to, const int8_t *from, int32_t count,
                                  const int8_t *end) {
    for (; count >= 16 && end - from >= 32; count -= 16, to += 16, from += 32) {
        vst1q_s8(to, vld2q_s8(from).val[0]);
    }
    if (count >= 8 && end - from >= 16) {
        vst1_s8(to, vld2_s8(from).val[0]);
        count -= 8, to += 8, from += 16;
    }
    for (; count > 0; --count, from += 2) {
        *to++ = *from;
    }
}

#include "../portable/planar_body.h"

int ec2t_has__neon(void) {
    return 1; /* every AArch64 processor */
}
