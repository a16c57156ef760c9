#include "dsp.h"

#if defined(EC2T_MCU_DSP)

/* Sums of four neighbouring pixels over `count` / 4 runs of four neighbouring taps; a run lies at
 * one offset. */
static inline __attribute__((always_inline)) void four_pixels(const uint8_t *input,
                                                              const uint16_t *offsets,
                                                              uint32_t count, const int8_t *weights,
                                                              uint32_t stride, int32_t *sums) {
    int32_t a0 = sums[0], a1 = sums[1], a2 = sums[2], a3 = sums[3];
    const int8_t *const end = weights + count;
    for (; weights != end; weights += 4) {
        const uint8_t *p = input + *offsets++;
        const uint32_t w = ec2t_mcu_word_at((const uint8_t *)weights);
        const uint32_t w02 = ec2t_mcu_even_bytes(w), w13 = ec2t_mcu_odd_bytes(w);
        /* x02 holds the inputs 0 and 2 of the run, and so on; at stride 1 runs overlap by halves.
         */
        uint32_t word = ec2t_mcu_word_at(p);
        uint32_t x02 = ec2t_mcu_even_bytes(word), x13 = ec2t_mcu_odd_bytes(word);
        a0 = ec2t_mcu_multiply_add(x13, w13, ec2t_mcu_multiply_add(x02, w02, a0));
        word = ec2t_mcu_word_at(p + 2);
        const uint32_t x24 = ec2t_mcu_even_bytes(word), x35 = ec2t_mcu_odd_bytes(word);
        if (stride == 1) {
            a1 = ec2t_mcu_multiply_add(x24, w13, ec2t_mcu_multiply_add(x13, w02, a1));
            a2 = ec2t_mcu_multiply_add(x35, w13, ec2t_mcu_multiply_add(x24, w02, a2));
            const uint32_t x46 = ec2t_mcu_even_bytes(ec2t_mcu_word_at(p + 4));
            a3 = ec2t_mcu_multiply_add(x46, w13, ec2t_mcu_multiply_add(x35, w02, a3));
        } else {
            a1 = ec2t_mcu_multiply_add(x35, w13, ec2t_mcu_multiply_add(x24, w02, a1));
            word = ec2t_mcu_word_at(p + 4);
            x02 = ec2t_mcu_even_bytes(word), x13 = ec2t_mcu_odd_bytes(word);
            a2 = ec2t_mcu_multiply_add(x13, w13, ec2t_mcu_multiply_add(x02, w02, a2));
            word = ec2t_mcu_word_at(p + 6);
            x02 = ec2t_mcu_even_bytes(word), x13 = ec2t_mcu_odd_bytes(word);
            a3 = ec2t_mcu_multiply_add(x13, w13, ec2t_mcu_multiply_add(x02, w02, a3));
        }
    }
    sums[0] = a0, sums[1] = a1, sums[2] = a2, sums[3] = a3;
}

EC2T_MCU_DEPTHWISE_RUN(ec2t_mcu_dense_conv_run, four_pixels)

#endif
