/* Requantisation in few instructions, for sums of known bound; exact. */
#ifndef EC2T_MCU_REQUANTISE_H
#define EC2T_MCU_REQUANTISE_H
#include "planar.h"

#if defined(EC2T_MCU_HELIUM)
#include <arm_mve.h>
#endif

/* Output channel `o` of a short table; of one with lists the input has this zero point. */
static inline ec2t_mcu_channel ec2t_mcu_short_channel(const ec2t_mcu_channels *channels, uint32_t o,
                                                      int32_t zero_point) {
    const uint32_t form = channels->form, halves = 3u + (form >> 1 & 1u) + (form >> 2);
    const uint16_t *from = (const uint16_t *)channels->table + o * halves;
    const uint32_t factor = (uint32_t)from[1] << 16 | from[0];
    ec2t_mcu_channel channel = {0};
    channel.multiplier = (int32_t)(0x40000000u | factor >> 2);
    channel.shift = (int8_t)(channels->shift + (int32_t)(factor & 3u));
    channel.bias = (int16_t)from[2];
    from += 3;
    if (form & EC2T_MCU_CHANNELS_WIDE_BIAS)
        channel.bias = (int32_t)((uint32_t)*from++ << 16 | (uint16_t)channel.bias);
    if (form & EC2T_MCU_CHANNELS_LISTS) {
        uint32_t counts = *from;
        channel.minus = channels->minus;
        channel.plus = channels->plus;
        if (channels->flips && (counts & 0x8000u)) {
            channel.minus = channels->plus;
            channel.plus = channels->minus;
            counts &= 0x7fffu;
        }
        channel.minus_count = (uint16_t)(counts & 0xffu);
        channel.plus_count = (uint16_t)(counts >> 8);
        channel.bias -=
            zero_point * (channel.plus * channel.plus_count - channel.minus * channel.minus_count);
    }
    return channel;
}

/* Output channel `o` of a layer without lists. */
static inline ec2t_mcu_channel ec2t_mcu_channel_at(const ec2t_mcu_channels *channels, uint32_t o) {
    return channels->form == EC2T_MCU_CHANNELS_WHOLE
               ? ((const ec2t_mcu_channel *)channels->table)[o]
               : ec2t_mcu_short_channel(channels, o, 0);
}

/* round(value * multiplier / 2^32) + rounding */
static inline int32_t ec2t_mcu_high(int32_t value, int32_t multiplier, int32_t rounding) {
#if defined(EC2T_MCU_DSP) || defined(EC2T_MCU_HELIUM)
    int32_t high;
    __asm("smmlar %0,%1,%2,%3" : "=r"(high) : "r"(value), "r"(multiplier), "r"(rounding));
    return high;
#elif defined(EC2T_MCU_ALIGNED)
    /* Without a long multiplication: 32767 * 65535 + 65535 still fits 31 bits. */
    const int32_t value_high = value >> 16, multiplier_high = multiplier >> 16;
    const uint32_t value_low = (uint32_t)value & 0xffffu;
    const uint32_t multiplier_low = (uint32_t)multiplier & 0xffffu;
    const uint32_t low =
        (value_low * multiplier_low >> 16) + value_low * (uint32_t)multiplier_high + 0x8000u;
    const int32_t middle = value_high * (int32_t)multiplier_low + (int32_t)(low & 0xffffu);
    return value_high * multiplier_high + (int32_t)(low >> 16) + (middle >> 16) + rounding;
#else
    const int64_t start = (int64_t)((uint64_t)(uint32_t)rounding << 32 | 0x80000000u);
    return (int32_t)((start + (int64_t)value * multiplier) >> 32);
#endif
}

/* Bits that fast requantisations shift values, and with them the rounding, further left: with one
 * the half below the point is at hand, and RISC-V, which has no multiplication that rounds, needs
 * no lower half of the product. */
#if defined(__riscv)
enum { EC2T_MCU_MORE_BITS = 1 };
#else
enum { EC2T_MCU_MORE_BITS = 0 };
#endif
static inline int32_t ec2t_mcu_more_rounding(int32_t rounding) {
    return EC2T_MCU_MORE_BITS ? 2 * rounding + 1 : rounding;
}
/* (round(value * multiplier / 2^32) + rounding - (value < 0)) >> right */
static inline int32_t ec2t_mcu_fast_shifted(int32_t value, int32_t multiplier, int32_t rounding,
                                            int32_t right) {
#if defined(__riscv)
    int32_t high = (int32_t)((int64_t)value * multiplier >> 32);
    /* A jump over the sign's share, for which the compiler takes three instructions. */
    __asm("bgez %1,1f\n addi %0,%0,-2\n1:" : "+r"(high) : "r"(value));
    return (high + rounding) >> (right + EC2T_MCU_MORE_BITS);
#else
    return (ec2t_mcu_high(value, multiplier, rounding) + (value >> 31)) >> right;
#endif
}
/* What their sums may be. */
#define EC2T_MCU_LARGEST_SUM (0x3fffffffu >> EC2T_MCU_MORE_BITS)

/* To a stored byte; `value` is 128 greater than the int8 it stands for where EC2T_MCU_FLIP says so.
 */
static inline uint8_t ec2t_mcu_saturated(int32_t value) {
#if defined(EC2T_MCU_SWAR) && defined(__ARM_FEATURE_SAT)
    __asm("usat %0,#8,%0" : "+r"(value));
#elif defined(EC2T_MCU_SWAR) && defined(__riscv)
    __asm("bgeu %1,%0,1f\n not %0,%0\n srai %0,%0,31\n1:" : "+r"(value) : "r"(255));
#elif defined(EC2T_MCU_SWAR)
    if ((uint32_t)value > 255u)
        value = ~value >> 31; /* 0 below, -1 above */
#else
    __asm("ssat %0,#8,%0" : "+r"(value));
#endif
    return (uint8_t)value;
}

/* Constants of one multiplier. */
typedef struct {
    int32_t multiplier, rounding, right, left; /* `left` includes the doubling */
    int32_t exact;                             /* 0: use ec2t_mcu_requantise */
} ec2t_mcu_constants;

/* For |sum| <= bound. */
static inline ec2t_mcu_constants ec2t_mcu_constants_of(int32_t multiplier, int32_t shift,
                                                       uint32_t bound,
                                                       const ec2t_mcu_clamp *clamp) {
    ec2t_mcu_constants c = {multiplier, 0, 0, 0, 0};
    const int32_t left = shift > 0 ? shift : 0, right = shift < 0 ? -shift : 0;
    if (right < 1 || right > 20 || left > 20 || bound > (EC2T_MCU_LARGEST_SUM >> left))
        return c;
    c.rounding = ec2t_mcu_more_rounding(
        (1 << (right - 1)) + (clamp->zero_point + (int32_t)EC2T_MCU_FLIP) * (1 << right));
    c.right = right;
    c.left = left + 1 + EC2T_MCU_MORE_BITS;
    c.exact = 1;
    return c;
}

/* One sum, shifted left already, to a byte, the activation's limits aside. */
static inline uint8_t ec2t_mcu_shifted_to_byte(int32_t value, const ec2t_mcu_constants *c) {
    return ec2t_mcu_saturated(ec2t_mcu_fast_shifted(value, c->multiplier, c->rounding, c->right));
}
static inline uint8_t ec2t_mcu_to_byte(int32_t sum, const ec2t_mcu_constants *c) {
    return ec2t_mcu_shifted_to_byte((int32_t)((uint32_t)sum << c->left), c);
}

/* sum * multiplier * 2^(shift - 31), halves up; the multiplier has eight bits more than its 31
 * where these are not enough. See ec2t_mcu_fully_connected. */
static inline int32_t ec2t_mcu_rounded_once(int32_t sum, const ec2t_mcu_channel *channel) {
    int64_t product = (int64_t)sum * channel->multiplier;
    if (channel->multiplier_low)
        product += (int64_t)sum * channel->multiplier_low >> 8;
    int32_t doubled; /* in half steps, rounded down */
    if (channel->shift <= -2) {
        doubled = (int32_t)(product >> 32) >> (-2 - channel->shift);
    } else {
        const int64_t wide = product >> (30 - channel->shift);
        doubled = wide > 0xffff ? 0xffff : wide < -0xffff ? -0xffff : (int32_t)wide;
    }
    return (doubled + 1) >> 1;
}
/* One output of a layer that sees the whole input. */
static inline uint8_t ec2t_mcu_row_output(int32_t sum, const ec2t_mcu_channel *channel,
                                          uint32_t rounds_once, const ec2t_mcu_clamp *clamp) {
    const int32_t value = rounds_once
                              ? ec2t_mcu_rounded_once(sum, channel)
                              : ec2t_mcu_requantise(sum, channel->multiplier, channel->shift);
    return ec2t_mcu_byte(ec2t_mcu_clamped(value, clamp));
}

/* Applies limits narrower than int8 to one plane. */
#if defined(EC2T_MCU_SWAR)
void ec2t_mcu_limit(const ec2t_mcu_planar *layout, uint8_t *plane, const ec2t_mcu_clamp *clamp);
#else
static inline void ec2t_mcu_limit(const ec2t_mcu_planar *layout, uint8_t *plane,
                                  const ec2t_mcu_clamp *clamp) {
    if (clamp->minimum == -128 && clamp->maximum == 127)
        return;
    for (uint32_t y = layout->height; y; --y, plane += layout->pitch) {
        uint32_t x = 0;
#if defined(EC2T_MCU_HELIUM)
        for (; x < layout->width; x += 16u) {
            const mve_pred16_t inside = vctp8q(layout->width - x);
            int8x16_t values = vldrbq_z_s8((const int8_t *)plane + x, inside);
            values = vmaxq_s8(values, vdupq_n_s8((int8_t)clamp->minimum));
            values = vminq_s8(values, vdupq_n_s8((int8_t)clamp->maximum));
            vstrbq_p_s8((int8_t *)plane + x, values, inside);
        }
#elif defined(EC2T_MCU_DSP)
        const uint32_t least = ((uint32_t)clamp->minimum & 0xffu) * 0x01010101u;
        const uint32_t most = ((uint32_t)clamp->maximum & 0xffu) * 0x01010101u;
        for (; x + 4u <= layout->width; x += 4u) {
            uint32_t word, unused;
            __builtin_memcpy(&word, plane + x, 4);
            /* SSUB8 notes which bytes did not go below zero, SEL chooses by it. */
            __asm("ssub8 %1,%0,%2\n sel %0,%0,%2\n ssub8 %1,%3,%0\n sel %0,%0,%3"
                  : "+&r"(word), "=&r"(unused)
                  : "r"(least), "r"(most)
                  : "cc");
            __builtin_memcpy(plane + x, &word, 4);
        }
#endif
        for (; x < layout->width; ++x) {
            const int32_t value = ec2t_mcu_value(plane[x]);
            if (value < clamp->minimum) {
                plane[x] = ec2t_mcu_byte(clamp->minimum);
            }
            if (value > clamp->maximum) {
                plane[x] = ec2t_mcu_byte(clamp->maximum);
            }
        }
    }
}
#endif

/* The same to a plane whose border is written afterwards: rows of any length in one go. */
static inline void ec2t_mcu_limit_whole(const ec2t_mcu_planar *layout, uint8_t *plane,
                                        const ec2t_mcu_clamp *clamp) {
    const uint32_t bytes = (uint32_t)layout->height * layout->pitch;
    ec2t_mcu_planar row = *layout;
    if (bytes <= 0xffffu)
        row.height = 1, row.width = (uint16_t)bytes;
    ec2t_mcu_limit(&row, plane, clamp);
}
/* What takes fewer instructions of the two where a border is written afterwards. */
#if defined(EC2T_MCU_SWAR)
#define EC2T_MCU_LIMIT ec2t_mcu_limit_whole
#else
#define EC2T_MCU_LIMIT ec2t_mcu_limit
#endif
#endif
