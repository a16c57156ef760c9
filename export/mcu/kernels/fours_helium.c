#include "fours_helium.h"

#include "requantise.h"

#if defined(EC2T_MCU_HELIUM)

/* Writes the first `rows` of four outputs. */
static inline void finish(const ec2t_mcu_four *four, int32_t s0, int32_t s1, int32_t s2, int32_t s3,
                          uint32_t once, const ec2t_mcu_clamp *clamp, uint8_t *output,
                          uint32_t rows) {
    int32x4_t sums;
    __asm("vmov %q0[2],%q0[0],%1,%3\n vmov %q0[3],%q0[1],%2,%4"
          : "=&w"(sums)
          : "r"(s0), "r"(s1), "r"(s2), "r"(s3));
    sums = vaddq_s32(sums, vldrwq_s32(four->bias));
    const int32x4_t multiplier = vldrwq_s32(four->multiplier), shift = vldrwq_s32(four->shift);
    if (once) {
        sums = vrshrq_n_s32(vshlq_s32(vmulhq_s32(sums, multiplier), shift), 1);
    } else { /* below zero one less, as TensorFlow Lite rounds */
        const int32x4_t high = vqrdmulhq_s32(sums, multiplier);
        sums = vrshlq_s32(vaddq_s32(high, vshrq_n_s32(sums, 31)), shift);
    }
    sums = vaddq_n_s32(sums, clamp->zero_point);
    sums = vmaxq_s32(sums, vdupq_n_s32(clamp->minimum));
    sums = vminq_s32(sums, vdupq_n_s32(clamp->maximum));
    if (rows >= 4u)
        vstrbq_s32((int8_t *)output, sums);
    else
        vstrbq_p_s32((int8_t *)output, sums, vctp32q(rows));
}

/* Rows that are not there repeat the first of their four; their sums go nowhere. The loop's tail is
 * predicated: `count` need not be a multiple of sixteen. */
static inline void dense(const ec2t_mcu_dense_fours *layer, const uint8_t *input, uint8_t *output,
                         uint32_t once) {
    const uint32_t count = layer->inputs;
    const ec2t_mcu_clamp clamp = layer->clamp;
    const int8_t *weights = layer->weights;
    const ec2t_mcu_four *four = layer->fours;
    for (uint32_t rows = layer->outputs;; rows -= 4u, output += 4, ++four) {
        const uint8_t *x = input;
        const int8_t *w0 = weights, *w1 = w0 + count, *w2 = w1 + count, *w3 = w2 + count;
        if (rows < 4u) {
            w1 = rows > 1u ? w1 : w0, w2 = rows > 2u ? w2 : w0;
            w3 = w0;
        }
        int32_t s0 = 0, s1 = 0, s2 = 0, s3 = 0;
        __asm volatile("dlstp.8 lr,%[count]\n1: vldrb.8 q0,[%[x]],#16\n"
                       "vldrb.8 q1,[%[w0]],#16\n vmladava.s8 %[s0],q0,q1\n"
                       "vldrb.8 q2,[%[w1]],#16\n vmladava.s8 %[s1],q0,q2\n"
                       "vldrb.8 q1,[%[w2]],#16\n vmladava.s8 %[s2],q0,q1\n"
                       "vldrb.8 q2,[%[w3]],#16\n vmladava.s8 %[s3],q0,q2\n letp lr,1b"
                       : [s0] "+Te"(s0), [s1] "+Te"(s1), [s2] "+Te"(s2), [s3] "+Te"(s3),
                         [x] "+r"(x), [w0] "+r"(w0), [w1] "+r"(w1), [w2] "+r"(w2), [w3] "+r"(w3)
                       : [count] "r"(count)
                       : "lr", "q0", "q1", "q2", "cc", "memory");
        finish(four, s0, s1, s2, s3, once, &clamp, output, rows);
        if (rows <= 4u)
            return;
        weights += 4u * count;
    }
}

void ec2t_mcu_dense_fours_run(const ec2t_mcu_dense_fours *layer, const uint8_t *input,
                              uint8_t *output) {
    if (layer->rounds_once)
        dense(layer, input, output, 1);
    else
        dense(layer, input, output, 0);
}

/* Products of one channel. */
static inline int32_t products(const uint8_t *x, const int8_t *w, uint32_t taps) {
    int32_t sum = 0;
    for (;; x += 16, w += 16, taps -= 16u) {
        const mve_pred16_t inside = vctp8q(taps);
        const int8x16_t values = vldrbq_z_s8((const int8_t *)x, inside);
        sum = vmladavaq_s8(sum, values, vldrbq_z_s8(w, inside));
        if (taps <= 16u)
            return sum;
    }
}

void ec2t_mcu_whole_fours_run(const ec2t_mcu_whole_fours *layer, const uint8_t *input,
                              uint8_t *output) {
    const uint32_t taps = layer->taps, plane = layer->plane, each = layer->depth_multiplier;
    const ec2t_mcu_clamp clamp = layer->clamp;
    const mve_pred16_t inside = vctp8q(taps);
    const ec2t_mcu_four *four = layer->fours;
    const int8_t *w = layer->weights;
    uint32_t turn = 0; /* outputs that the input channel has had */
    for (uint32_t rows = layer->count;; rows -= 4u, output += 4, ++four) {
        int32_t sums[4] = {0, 0, 0, 0};
        if (each == 1u && taps <= 16u && rows >= 4u) {
#define PRODUCTS(i)                                                                                \
    sums[i] = vmladavq_s8(vldrbq_z_s8((const int8_t *)input, inside), vldrbq_z_s8(w, inside)),     \
    input += plane, w += taps
            PRODUCTS(0), PRODUCTS(1), PRODUCTS(2), PRODUCTS(3);
        } else {
            for (uint32_t i = 0; i < 4u && i < rows; ++i, w += taps) {
                sums[i] = products(input, w, taps);
                if (++turn == each)
                    turn = 0, input += plane;
            }
        }
        finish(four, sums[0], sums[1], sums[2], sums[3], 0, &clamp, output, rows);
        if (rows <= 4u)
            return;
    }
}

#endif
