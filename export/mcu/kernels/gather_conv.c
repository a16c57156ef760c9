#include "dsp.h"

#if defined(EC2T_MCU_DSP)

typedef struct {
    uint32_t p0, p1, p2, p3; /* one pixel's input at two taps, 16 bits each */
} Pairs;

static inline Pairs pairs(const uint8_t *a, const uint8_t *b, uint32_t stride) {
    const uint32_t ua = ec2t_mcu_word_at(a), ub = ec2t_mcu_word_at(b);
    const uint32_t ea = ec2t_mcu_even_bytes(ua), eb = ec2t_mcu_even_bytes(ub);
    if (stride == 1) {
        const uint32_t oa = ec2t_mcu_odd_bytes(ua), ob = ec2t_mcu_odd_bytes(ub);
        return (Pairs){ec2t_mcu_low_halves(ea, eb), ec2t_mcu_low_halves(oa, ob),
                       ec2t_mcu_high_halves(ea, eb), ec2t_mcu_high_halves(oa, ob)};
    }
    const uint32_t fa = ec2t_mcu_even_bytes(ec2t_mcu_word_at(a + 4));
    const uint32_t fb = ec2t_mcu_even_bytes(ec2t_mcu_word_at(b + 4));
    return (Pairs){ec2t_mcu_low_halves(ea, eb), ec2t_mcu_high_halves(ea, eb),
                   ec2t_mcu_low_halves(fa, fb), ec2t_mcu_high_halves(fa, fb)};
}

/* Sums of four neighbouring pixels: `count` taps, a multiple of four, at `offsets`. */
static inline __attribute__((always_inline)) void four_pixels(const uint8_t *input,
                                                              const uint16_t *offsets,
                                                              uint32_t count, const int8_t *weights,
                                                              uint32_t stride, int32_t *sums) {
    int32_t a0 = sums[0], a1 = sums[1], a2 = sums[2], a3 = sums[3];
    for (const uint16_t *end = offsets + count; offsets != end; offsets += 4, weights += 4) {
        const uint32_t w = ec2t_mcu_word_at((const uint8_t *)weights);
        Pairs p = pairs(input + offsets[0], input + offsets[2], stride);
        uint32_t pair = ec2t_mcu_even_bytes(w);
        a0 = ec2t_mcu_multiply_add(p.p0, pair, a0), a1 = ec2t_mcu_multiply_add(p.p1, pair, a1);
        a2 = ec2t_mcu_multiply_add(p.p2, pair, a2), a3 = ec2t_mcu_multiply_add(p.p3, pair, a3);
        p = pairs(input + offsets[1], input + offsets[3], stride);
        pair = ec2t_mcu_odd_bytes(w);
        a0 = ec2t_mcu_multiply_add(p.p0, pair, a0), a1 = ec2t_mcu_multiply_add(p.p1, pair, a1);
        a2 = ec2t_mcu_multiply_add(p.p2, pair, a2), a3 = ec2t_mcu_multiply_add(p.p3, pair, a3);
    }
    sums[0] = a0, sums[1] = a1, sums[2] = a2, sums[3] = a3;
}

EC2T_MCU_DEPTHWISE_RUN(ec2t_mcu_gather_conv_run, four_pixels)

#endif
