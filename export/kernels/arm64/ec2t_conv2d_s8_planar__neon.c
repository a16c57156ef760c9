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

/* Sums of 64 activations, or fewer: those beyond `blocks` stay unused. Named, not an array:
 * compilers keep these in registers. */
typedef struct {
    int16x8_t s0, s1, s2, s3, s4, s5, s6, s7;
} sums64;

ALWAYS_INLINE sums64 zero_sums(void) {
    const int16x8_t zero = vdupq_n_s16(0);
    return (sums64){zero, zero, zero, zero, zero, zero, zero, zero};
}

ALWAYS_INLINE sums64 add_place(sums64 s, const int8_t *from, int blocks) {
    int8x16x4_t x;
    if (blocks == 4) {
        x = vld1q_s8_x4(from);
    } else {
        x.val[0] = vld1q_s8(from);
        x.val[1] = vld1q_s8(from + (blocks > 1 ? 16 : 0));
        x.val[2] = vld1q_s8(from + (blocks > 2 ? 32 : 0));
        x.val[3] = x.val[0];
    }
    s.s0 = vaddw_s8(s.s0, vget_low_s8(x.val[0]));
    s.s1 = vaddw_high_s8(s.s1, x.val[0]);
    if (blocks > 1) {
        s.s2 = vaddw_s8(s.s2, vget_low_s8(x.val[1]));
        s.s3 = vaddw_high_s8(s.s3, x.val[1]);
    }
    if (blocks > 2) {
        s.s4 = vaddw_s8(s.s4, vget_low_s8(x.val[2]));
        s.s5 = vaddw_high_s8(s.s5, x.val[2]);
    }
    if (blocks > 3) {
        s.s6 = vaddw_s8(s.s6, vget_low_s8(x.val[3]));
        s.s7 = vaddw_high_s8(s.s7, x.val[3]);
    }
    return s;
}

/* Sums of the activations at the listed places. */
ALWAYS_INLINE sums64 sum_places(const int8_t *base, const void *offsets, uint32_t first,
                                uint32_t count, int blocks, int wide) {
    sums64 s = zero_sums();
    const uint32_t end = first + count;
    uint32_t t = first;
    for (; end - t >= 4; t += 4) {
        s = add_place(s, base + offset_at(offsets, t, wide), blocks);
        s = add_place(s, base + offset_at(offsets, t + 1, wide), blocks);
        s = add_place(s, base + offset_at(offsets, t + 2, wide), blocks);
        s = add_place(s, base + offset_at(offsets, t + 3, wide), blocks);
    }
    for (; t < end; ++t) {
        s = add_place(s, base + offset_at(offsets, t, wide), blocks);
    }
    return s;
}

/* What the requantisation of one channel needs, in registers. */
typedef struct {
    int32x4_t multiplier, left, right;
    float32x4_t factor;
    int16x8_t zero_point;
    int8x16_t low, high;
} requant_vectors;

ALWAYS_INLINE requant_vectors load_requant(const ec2t_requant *requant, int32_t entry, int fp32) {
    requant_vectors v;
    memset(&v, 0, sizeof v);
    if (fp32) {
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

/* 16 outputs from plus and minus sums; `values` are {value_plus, value_minus, ...}. */
ALWAYS_INLINE int8x16_t weigh16(int16x8_t plus_low, int16x8_t plus_high, int16x8_t minus_low,
                                int16x8_t minus_high, int32x4_t bias, int16x8_t values,
                                const requant_vectors *v, int fp32) {
    int32x4_t a[4];
    a[0] = vmlal_laneq_s16(bias, vget_low_s16(plus_low), values, 0);
    a[1] = vmlal_high_laneq_s16(bias, plus_low, values, 0);
    a[2] = vmlal_laneq_s16(bias, vget_low_s16(plus_high), values, 0);
    a[3] = vmlal_high_laneq_s16(bias, plus_high, values, 0);
    a[0] = vmlal_laneq_s16(a[0], vget_low_s16(minus_low), values, 1);
    a[1] = vmlal_high_laneq_s16(a[1], minus_low, values, 1);
    a[2] = vmlal_laneq_s16(a[2], vget_low_s16(minus_high), values, 1);
    a[3] = vmlal_high_laneq_s16(a[3], minus_high, values, 1);
    return narrow(a, v, fp32);
}

/* Both lists are short enough for int16 sums: nothing leaves the registers. */
ALWAYS_INLINE void tile_in_registers(const ec2t_planar_conv2d *conv,
                                     const ec2t_planar_channel *channel, int32_t entry,
                                     const int8_t *base, int8_t *output, int blocks, int wide,
                                     int fp32) {
    const uint32_t first_minus = channel->first + channel->plus_count;
    const sums64 plus =
        sum_places(base, conv->offsets, channel->first, channel->plus_count, blocks, wide);
    const sums64 minus =
        sum_places(base, conv->offsets, first_minus, channel->minus_count, blocks, wide);
    const requant_vectors v = load_requant(&conv->requant, entry, fp32);
    const int32x4_t bias = vdupq_n_s32(channel->bias);
    const int16x8_t values =
        vsetq_lane_s16((int16_t)channel->value_minus, vdupq_n_s16((int16_t)channel->value_plus), 1);
    vst1q_s8(output, weigh16(plus.s0, plus.s1, minus.s0, minus.s1, bias, values, &v, fp32));
    if (blocks > 1) {
        vst1q_s8(output + 16,
                 weigh16(plus.s2, plus.s3, minus.s2, minus.s3, bias, values, &v, fp32));
    }
    if (blocks > 2) {
        vst1q_s8(output + 32,
                 weigh16(plus.s4, plus.s5, minus.s4, minus.s5, bias, values, &v, fp32));
    }
    if (blocks > 3) {
        vst1q_s8(output + 48,
                 weigh16(plus.s6, plus.s7, minus.s6, minus.s7, bias, values, &v, fp32));
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
                const int8_t *const from = base + 16 * b;
                const sums64 sums = wide ? sum_places(from, conv->offsets, first, chunk, 1, 1)
                                         : sum_places(from, conv->offsets, first, chunk, 1, 0);
                int32x4_t *const a = accumulators + 4 * b;
                a[0] = vmlal_s16(a[0], vget_low_s16(sums.s0), values);
                a[1] = vmlal_s16(a[1], vget_high_s16(sums.s0), values);
                a[2] = vmlal_s16(a[2], vget_low_s16(sums.s1), values);
                a[3] = vmlal_s16(a[3], vget_high_s16(sums.s1), values);
            }
            first += chunk;
            count -= chunk;
        }
    }
    const int fp32 = conv->requant.mode == EC2T_REQUANT_FP32;
    const requant_vectors v = load_requant(&conv->requant, entry, fp32);
    for (int b = 0; b < size / 16; ++b) {
        vst1q_s8(output + 16 * b, narrow(accumulators + 4 * b, &v, fp32));
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

ALWAYS_INLINE void planar_fill(int8_t *to, int8_t value, int32_t count) {
    const int8x16_t values = vdupq_n_s8(value);
    for (; count >= 16; count -= 16, to += 16) {
        vst1q_s8(to, values);
    }
    if (count >= 8) {
        vst1_s8(to, vget_low_s8(values));
        count -= 8, to += 8;
    }
    for (; count > 0; --count) {
        *to++ = value;
    }
}

ALWAYS_INLINE void planar_copy(int8_t *to, const int8_t *from, int32_t count) {
    for (; count >= 64; count -= 64, to += 64, from += 64) {
        vst1q_s8_x4(to, vld1q_s8_x4(from));
    }
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

ALWAYS_INLINE int8x16_t masked(const int8_t *from, uint8x16_t mask, int8x16_t zeros) {
    return vbslq_s8(mask, zeros, vld1q_s8(from));
}

static void planar_copy_masked(int8_t *to, const int8_t *from, int32_t blocks, const int8_t *masks,
                               int32_t mask_count, int8_t zero) {
    const int8x16_t zeros = vdupq_n_s8(zero);
    if (mask_count <= 2) {
        /* Rows of 1, 2, 4, 8, 16 or 32: the masks stay in registers. */
        const uint8x16_t even = vreinterpretq_u8_s8(vld1q_s8(masks));
        const uint8x16_t odd = vreinterpretq_u8_s8(vld1q_s8(masks + 16));
        for (; blocks >= 4; blocks -= 4, to += 64, from += 64) {
            int8x16x4_t x = vld1q_s8_x4(from);
            x.val[0] = vbslq_s8(even, zeros, x.val[0]);
            x.val[1] = vbslq_s8(odd, zeros, x.val[1]);
            x.val[2] = vbslq_s8(even, zeros, x.val[2]);
            x.val[3] = vbslq_s8(odd, zeros, x.val[3]);
            vst1q_s8_x4(to, x);
        }
        for (int32_t b = 0; b < blocks; ++b) {
            vst1q_s8(to + 16 * b, masked(from + 16 * b, b % 2 ? odd : even, zeros));
        }
        return;
    }
    const int8_t *const masks_end = masks + 16 * mask_count, *mask = masks;
    for (; blocks > 0; --blocks, to += 16, from += 16) {
        vst1q_s8(to, masked(from, vreinterpretq_u8_s8(vld1q_s8(mask)), zeros));
        mask = mask + 16 == masks_end ? masks : mask + 16;
    }
}

static void planar_copy_alternate(int8_t *to, const int8_t *from, int32_t rows, int32_t count,
                                  int32_t room, int32_t to_pitch, int32_t from_pitch,
                                  const int8_t *end) {
    for (; rows > 0; --rows, to += to_pitch, from += from_pitch) {
        int32_t x = 0;
        for (; x < count && x + 16 <= room && end - from >= 2 * x + 32; x += 16) {
            vst1q_s8(to + x, vld2q_s8(from + 2 * x).val[0]);
        }
        for (; x < count && x + 8 <= room && end - from >= 2 * x + 16; x += 8) {
            vst1_s8(to + x, vld2_s8(from + 2 * x).val[0]);
        }
        for (; x < count; ++x) {
            to[x] = from[2 * x];
        }
    }
}

#include "../portable/planar_body.h"

int ec2t_has__neon(void) {
    return 1; /* every AArch64 processor */
}
