/* Planar convolution with NEON: 64 outputs at a time, sums in int16. */
#include <string.h>

#include "ec2t_planar.h"
#include "planar_neon_sums.h"

#define PLANAR_KERNEL neon
#define PLANAR_TARGET
#define PLANAR_TILE 64
#define PLANAR_GRAIN 16
typedef int8_t planar_element;

/* How a channel is requantised: TFLITE's way, FP32's way, or FP32's with a whole multiplier. */
enum { FIXED_POINT, FLOATING, WHOLE };

/* What the requantisation of one channel needs, in registers. */
typedef struct {
    int32x4_t multiplier, left, right;
    float32x4_t factor;
    int16x8_t zero_point;
    int8x16_t low, high;
    int clamps; /* int8's own saturation is not enough */
} requant_vectors;

ALWAYS_INLINE requant_vectors load_requant(const ec2t_requant *requant, int32_t entry,
                                           int32_t whole_multiplier, int how) {
    requant_vectors v;
    memset(&v, 0, sizeof v);
    if (how == WHOLE) {
        v.multiplier = vdupq_n_s32(whole_multiplier);
    } else if (how == FLOATING) {
        v.factor = vdupq_n_f32(requant->factors[entry]);
    } else {
        const int32_t shift = requant->shifts[entry];
        v.multiplier = vdupq_n_s32(requant->multipliers[entry]);
        v.left = vdupq_n_s32(shift > 0 ? shift : 0);
        v.right = vdupq_n_s32(shift > 0 ? 0 : shift);
    }
    v.zero_point = vdupq_n_s16(
        (int16_t)(requant->output_zero_point * (how == WHOLE ? 1 << EC2T_WHOLE_FRACTION_BITS : 1)));
    v.low = vdupq_n_s8((int8_t)requant->output_min);
    v.high = vdupq_n_s8((int8_t)requant->output_max);
    v.clamps = requant->output_min != -128 || requant->output_max != 127;
    return v;
}

ALWAYS_INLINE int32x4_t scale(int32x4_t accumulator, const requant_vectors *v, int how) {
    if (how == WHOLE) {
        return vqdmulhq_s32(accumulator, v->multiplier);
    }
    if (how == FLOATING) {
        return vcvtnq_s32_f32(vmulq_f32(vcvtq_f32_s32(accumulator), v->factor));
    }
    int32x4_t x = vqrdmulhq_s32(vshlq_s32(accumulator, v->left), v->multiplier);
    /* The rounding shift rounds halves up; minus one below zero makes it away from zero. */
    x = vqaddq_s32(x, vshrq_n_s32(vandq_s32(x, v->right), 31));
    return vrshlq_s32(x, v->right);
}

/* Eight int32 to int16: saturating in two instructions, or the low halves in one if all fit. */
ALWAYS_INLINE int16x8_t narrow_words(int32x4_t low, int32x4_t high, int fits) {
    return fits ? vuzp1q_s16(vreinterpretq_s16_s32(low), vreinterpretq_s16_s32(high))
                : vqmovn_high_s32(vqmovn_s32(low), high);
}

ALWAYS_INLINE int8x16_t narrow(const int32x4_t *a, const requant_vectors *v, int how, int fits) {
    int16x8_t low = narrow_words(scale(a[0], v, how), scale(a[1], v, how), fits);
    int16x8_t high = narrow_words(scale(a[2], v, how), scale(a[3], v, how), fits);
    low = vqaddq_s16(low, v->zero_point);
    high = vqaddq_s16(high, v->zero_point);
    if (how == WHOLE) { /* what saturated before saturates here too: 2^15 >> 7 is 256 */
        return vqrshrn_high_n_s16(vqrshrn_n_s16(low, EC2T_WHOLE_FRACTION_BITS), high,
                                  EC2T_WHOLE_FRACTION_BITS);
    }
    return vqmovn_high_s16(vqmovn_s16(low), high);
}

ALWAYS_INLINE int8x16_t clamp(int8x16_t x, const requant_vectors *v) {
    return vminq_s8(vmaxq_s8(x, v->low), v->high);
}

/* plus * values[0] + minus * values[1] + bias, of either half. The bias comes last: it needs no
 * copies then. */
#if defined(NAMED_REGISTERS)
#define WEIGH(half, part, elements)                                                                \
    int32x4_t sum;                                                                                 \
    __asm__("smull" half " %0.4s, %1." elements ", %3.h[0]\n\t"                                    \
            "smlal" half " %0.4s, %2." elements ", %3.h[1]\n\t"                                    \
            "add %0.4s, %0.4s, %4.4s"                                                              \
            : "=&w"(sum)                                                                           \
            : "w"(plus), "w"(minus), "x"(values), "w"(bias));                                      \
    return sum;
#else
#define WEIGH(half, part, elements)                                                                \
    int32x4_t sum = vmull_s16(part(plus), vdup_n_s16(vgetq_lane_s16(values, 0)));                  \
    sum = vmlal_s16(sum, part(minus), vdup_n_s16(vgetq_lane_s16(values, 1)));                      \
    return vaddq_s32(sum, bias);
#endif
ALWAYS_INLINE int32x4_t weigh_low(int16x8_t plus, int16x8_t minus, int16x8_t values,
                                  int32x4_t bias){WEIGH("", vget_low_s16, "4h")}

ALWAYS_INLINE int32x4_t weigh_high(int16x8_t plus, int16x8_t minus, int16x8_t values,
                                   int32x4_t bias){WEIGH("2", vget_high_s16, "8h")}
#undef WEIGH

/* 16 outputs from plus and minus sums; `values` are {value_plus, value_minus, ...}. */
ALWAYS_INLINE int8x16_t
    weigh16(int16x8_t plus_low, int16x8_t plus_high, int16x8_t minus_low, int16x8_t minus_high,
            int32x4_t bias, int16x8_t values, const requant_vectors *v, int how, int fits) {
    const int32x4_t a[4] = {
        weigh_low(plus_low, minus_low, values, bias),
        weigh_high(plus_low, minus_low, values, bias),
        weigh_low(plus_high, minus_high, values, bias),
        weigh_high(plus_high, minus_high, values, bias),
    };
    return narrow(a, v, how, fits);
}

/* Both lists are short enough for int16 sums: nothing leaves the registers. */
ALWAYS_INLINE void tiles_in_registers(const ec2t_planar_conv2d *conv,
                                      const ec2t_planar_channel *channel, int32_t entry,
                                      const int8_t *base, int32_t count, int8_t *output, int blocks,
                                      int wide, int how, int fits) {
    const void *const plus_list = list_at(conv->offsets, channel->first, wide);
    /* Copies: the compiler must take the stores below for writes to the channel itself. */
    const uint32_t plus_count = channel->plus_count, minus_count = channel->minus_count;
    const void *const minus_list = list_at(plus_list, plus_count, wide);
    const requant_vectors v = load_requant(&conv->requant, entry, channel->multiplier, how);
    const int32x4_t bias = vdupq_n_s32(channel->bias);
    const int16x8_t values =
        vsetq_lane_s16((int16_t)channel->value_minus, vdupq_n_s16((int16_t)channel->value_plus), 1);
    for (; count > 0; --count, base += 16 * blocks, output += 16 * blocks) {
        const sums64 plus = sum_places(base, plus_list, plus_count, blocks, wide);
        const sums64 minus = sum_places(base, minus_list, minus_count, blocks, wide);
        int8x16_t a = weigh16(plus.s0, plus.s1, minus.s0, minus.s1, bias, values, &v, how, fits);
        int8x16_t b = a, c = a, d = a;
        if (blocks > 1) {
            b = weigh16(plus.s2, plus.s3, minus.s2, minus.s3, bias, values, &v, how, fits);
        }
        if (blocks > 2) {
            c = weigh16(plus.s4, plus.s5, minus.s4, minus.s5, bias, values, &v, how, fits);
        }
        if (blocks > 3) {
            d = weigh16(plus.s6, plus.s7, minus.s6, minus.s7, bias, values, &v, how, fits);
        }
        if (__builtin_expect(v.clamps, 0)) {
            a = clamp(a, &v), b = clamp(b, &v), c = clamp(c, &v), d = clamp(d, &v);
        }
        vst1q_s8(output, a);
        if (blocks > 1) {
            vst1q_s8(output + 16, b);
        }
        if (blocks > 2) {
            vst1q_s8(output + 32, c);
        }
        if (blocks > 3) {
            vst1q_s8(output + 48, d);
        }
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
                const sums64 sums =
                    wide ? sum_places(from, list_at(conv->offsets, first, 1), chunk, 1, 1)
                         : sum_places(from, list_at(conv->offsets, first, 0), chunk, 1, 0);
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
    const int how = conv->requant.mode == EC2T_REQUANT_FP32 ? FLOATING : FIXED_POINT;
    const requant_vectors v = load_requant(&conv->requant, entry, 0, how);
    for (int b = 0; b < size / 16; ++b) {
        vst1q_s8(output + 16 * b, clamp(narrow(accumulators + 4 * b, &v, how, 0), &v));
    }
}

static void tiles_in_chunks(const ec2t_planar_conv2d *conv, const ec2t_planar_channel *channel,
                            int32_t entry, const int8_t *base, int32_t size, int32_t count,
                            int8_t *output) {
    for (; count > 0; --count, base += size, output += size) {
        tile_in_chunks(conv, channel, entry, base, size, output);
    }
}

ALWAYS_INLINE void run_channels(const ec2t_planar_conv2d *conv, int32_t first, int32_t last,
                                const int8_t *base, int32_t count, int8_t *output, size_t pitch,
                                int blocks, int wide, int fp32) {
    for (int32_t o = first; o < last; ++o, output += pitch) {
        const ec2t_planar_channel *const channel = &conv->channels[o];
        const int32_t entry = o * conv->requant.channel_stride;
        if (channel->plus_count <= CHUNK && channel->minus_count <= CHUNK) {
#define TILES(how, fits)                                                                           \
    tiles_in_registers(conv, channel, entry, base, count, output, blocks, wide, how, fits)
            if (fp32 && channel->multiplier != 0) {
                if (channel->fits_int16) {
                    TILES(WHOLE, 1);
                } else {
                    TILES(WHOLE, 0);
                }
            } else if (fp32) {
                TILES(FLOATING, 0);
            } else {
                TILES(FIXED_POINT, 0);
            }
#undef TILES
        } else {
            tiles_in_chunks(conv, channel, entry, base, 16 * blocks, count, output);
        }
    }
}

#include "../portable/planar_cases.h"

ALWAYS_INLINE void planar_fill(int8_t *to, int8_t value, int32_t count) {
    const int8x16_t values = vdupq_n_s8(value);
    for (; count > 0; count -= 16, to += 16) {
        vst1q_s8(to, values);
    }
}

ALWAYS_INLINE void planar_copy_blocks(int8_t *to, const int8_t *from, int32_t blocks) {
    for (; blocks >= 4; blocks -= 4, to += 64, from += 64) {
        vst1q_s8_x4(to, vld1q_s8_x4(from));
    }
    for (; blocks > 0; --blocks, to += 16, from += 16) {
        vst1q_s8(to, vld1q_s8(from));
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

ALWAYS_INLINE void planar_copy_masked(int8_t *to, const int8_t *from, int32_t blocks,
                                      const int8_t *masks, int32_t mask_count, int8_t zero) {
    const int8x16_t zeros = vdupq_n_s8(zero);
    if (mask_count <= 2) {
        /* Rows of 1, 2, 4, 8, 16 or 32: the masks stay in registers. */
        const uint8x16_t even = vreinterpretq_u8_s8(vld1q_s8(masks));
        const uint8x16_t odd = vreinterpretq_u8_s8(vld1q_s8(masks + 16 * (mask_count - 1)));
        for (; blocks >= 4; blocks -= 4, to += 64, from += 64) {
            const int8x16_t a = masked(from, even, zeros), b = masked(from + 16, odd, zeros);
            const int8x16_t c = masked(from + 32, even, zeros), d = masked(from + 48, odd, zeros);
            vst1q_s8(to, a);
            vst1q_s8(to + 16, b);
            vst1q_s8(to + 32, c);
            vst1q_s8(to + 48, d);
        }
        for (; blocks >= 2; blocks -= 2, to += 32, from += 32) {
            const int8x16_t a = masked(from, even, zeros), b = masked(from + 16, odd, zeros);
            vst1q_s8(to, a);
            vst1q_s8(to + 16, b);
        }
        if (blocks > 0) {
            vst1q_s8(to, masked(from, even, zeros));
        }
        return;
    }
    const int8_t *const masks_end = masks + 16 * mask_count, *mask = masks;
    for (; blocks > 0; --blocks, to += 16, from += 16) {
        vst1q_s8(to, masked(from, vreinterpretq_u8_s8(vld1q_s8(mask)), zeros));
        mask = mask + 16 == masks_end ? masks : mask + 16;
    }
}

ALWAYS_INLINE void planar_copy_alternate(int8_t *to, const int8_t *from, int32_t rows,
                                         int32_t count, int32_t room, int32_t to_pitch,
                                         int32_t from_pitch, const int8_t *end) {
    const int32_t vectors = (count + 15) / 16;
    const ptrdiff_t last = (ptrdiff_t)(rows - 1) * from_pitch + 32 * (ptrdiff_t)vectors;
    if (rows > 0 && 16 * vectors <= room && end - from >= last) {
        if (vectors == 1) {
            for (; rows > 0; --rows, to += to_pitch, from += from_pitch) {
                vst1q_s8(to, vld2q_s8(from).val[0]);
            }
            return;
        }
        for (; rows > 0; --rows, to += to_pitch, from += from_pitch) {
            for (int32_t x = 0; x < count; x += 16) {
                vst1q_s8(to + x, vld2q_s8(from + 2 * x).val[0]);
            }
        }
        return;
    }
    if (rows > 0 && count <= 8 && room >= 8 && end - from >= last - 16) {
        for (; rows > 0; --rows, to += to_pitch, from += from_pitch) {
            vst1_s8(to, vld2_s8(from).val[0]);
        }
        return;
    }
    for (; rows > 0; --rows, to += to_pitch, from += from_pitch) {
        int32_t x = 0;
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
