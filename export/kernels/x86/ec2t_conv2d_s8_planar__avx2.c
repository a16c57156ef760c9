/* Planar convolution with AVX2: 64 outputs at a time; one instruction loads and adds 16
 * activations. */
#define PLANAR_KERNEL avx2
#define PLANAR_TARGET __attribute__((target("avx2")))
#define PLANAR_TILE 64
#define PLANAR_GRAIN 16
#include "planar_avx2.h"

/* Sums of the activations at the listed places. Four named vectors, not an array in the loop:
 * compilers keep these in registers. */
ALWAYS_INLINE void sum_places(__m256i *sums, const int16_t *base, const void *list, uint32_t count,
                              int blocks, int wide) {
    __m256i s0 = _mm256_setzero_si256(), s1 = s0, s2 = s0, s3 = s0;
    for (; count > 0; --count, list = list_at(list, 1, wide)) {
        const int16_t *const from = base + offset_at(list, 0, wide);
        s0 = _mm256_add_epi16(s0, load16(from));
        if (blocks > 1) {
            s1 = _mm256_add_epi16(s1, load16(from + 16));
        }
        if (blocks > 2) {
            s2 = _mm256_add_epi16(s2, load16(from + 32));
        }
        if (blocks > 3) {
            s3 = _mm256_add_epi16(s3, load16(from + 48));
        }
    }
    sums[0] = s0;
    if (blocks > 1) {
        sums[1] = s1;
    }
    if (blocks > 2) {
        sums[2] = s2;
    }
    if (blocks > 3) {
        sums[3] = s3;
    }
}

ALWAYS_INLINE void tiles_in_registers(const ec2t_planar_conv2d *conv,
                                      const ec2t_planar_channel *channel, int32_t entry,
                                      const int16_t *base, int32_t count, int8_t *output,
                                      int blocks, int wide, int fp32) {
    const void *const plus_list = list_at(conv->offsets, channel->first, wide);
    const void *const minus_list = list_at(plus_list, channel->plus_count, wide);
    const requant_vectors v = load_requant(&conv->requant, entry, fp32);
    const __m256i bias = _mm256_set1_epi32(channel->bias);
    const __m256i values = value_pairs(channel);
    for (; count > 0; --count, base += 16 * blocks, output += 16 * blocks) {
        __m256i plus[4], minus[4];
        sum_places(plus, base, plus_list, channel->plus_count, blocks, wide);
        sum_places(minus, base, minus_list, channel->minus_count, blocks, wide);
        for (int b = 0; b < blocks; ++b) {
            weigh16(output + 16 * b, plus[b], minus[b], values, bias, &v, fp32);
        }
    }
}

#include "planar_channels.h"

#include "../portable/planar_cases.h"

#include "../portable/planar_body.h"

int ec2t_has__avx2(void) {
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") != 0;
}
