/* Planar convolution with AVX-512BW: 128 outputs at a time; one instruction loads and adds 32
 * activations. Lowering and requantisation are AVX2's.
 *
 * With EC2T_EMULATE_AVX512 pairs of AVX2 vectors stand for the four AVX-512 instructions used, so
 * that the kernel can be tested on processors without them. */
#define PLANAR_KERNEL avx512bw
#if defined(EC2T_EMULATE_AVX512)
#define PLANAR_TARGET __attribute__((target("avx2")))
#else
#define PLANAR_TARGET __attribute__((target("avx2,avx512f,avx512bw")))
#endif
#define PLANAR_TILE 128
#define PLANAR_GRAIN 32
#include "planar_avx2.h"
#undef ALWAYS_INLINE
#define ALWAYS_INLINE static inline __attribute__((always_inline)) PLANAR_TARGET

#if defined(EC2T_EMULATE_AVX512)
typedef struct {
    __m256i low, high;
} words32;
ALWAYS_INLINE words32 zero32(void) {
    return (words32){_mm256_setzero_si256(), _mm256_setzero_si256()};
}
ALWAYS_INLINE words32 add32(words32 sum, const int16_t *from) {
    return (words32){_mm256_add_epi16(sum.low, load16(from)),
                     _mm256_add_epi16(sum.high, load16(from + 16))};
}
ALWAYS_INLINE __m256i low_half(words32 x) {
    return x.low;
}
ALWAYS_INLINE __m256i high_half(words32 x) {
    return x.high;
}
#else
typedef __m512i words32;
ALWAYS_INLINE words32 zero32(void) {
    return _mm512_setzero_si512();
}
ALWAYS_INLINE words32 add32(words32 sum, const int16_t *from) {
    return _mm512_add_epi16(sum, _mm512_loadu_si512(from));
}
ALWAYS_INLINE __m256i low_half(words32 x) {
    return _mm512_castsi512_si256(x);
}
ALWAYS_INLINE __m256i high_half(words32 x) {
    return _mm512_extracti64x4_epi64(x, 1);
}
#endif

/* Sums of the activations at the listed places. Four named vectors, not an array in the loop:
 * compilers keep these in registers. */
ALWAYS_INLINE void sum_places(words32 *sums, const int16_t *base, const void *list, uint32_t count,
                              int blocks, int wide) {
    words32 s0 = zero32(), s1 = s0, s2 = s0, s3 = s0;
    for (; count > 0; --count, list = list_at(list, 1, wide)) {
        const int16_t *const from = base + offset_at(list, 0, wide);
        s0 = add32(s0, from);
        if (blocks > 1) {
            s1 = add32(s1, from + 32);
        }
        if (blocks > 2) {
            s2 = add32(s2, from + 64);
        }
        if (blocks > 3) {
            s3 = add32(s3, from + 96);
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
    for (; count > 0; --count, base += 32 * blocks, output += 32 * blocks) {
        words32 plus[4], minus[4];
        sum_places(plus, base, plus_list, channel->plus_count, blocks, wide);
        sum_places(minus, base, minus_list, channel->minus_count, blocks, wide);
        for (int b = 0; b < blocks; ++b) {
            weigh16(output + 32 * b, low_half(plus[b]), low_half(minus[b]), values, bias, &v, fp32);
            weigh16(output + 32 * b + 16, high_half(plus[b]), high_half(minus[b]), values, bias, &v,
                    fp32);
        }
    }
}

#include "planar_channels.h"

#include "../portable/planar_cases.h"

#include "../portable/planar_body.h"

int ec2t_has__avx512bw(void) {
    __builtin_cpu_init();
#if defined(EC2T_EMULATE_AVX512)
    return __builtin_cpu_supports("avx2") != 0;
#else
    return __builtin_cpu_supports("avx2") != 0 && __builtin_cpu_supports("avx512bw") != 0;
#endif
}
