/* Planar convolution with AVX2: activations lowered to int16, so that one instruction loads and
 * adds 16 of them. */
#include <immintrin.h>
#include <string.h>

#include "ec2t_planar.h"

#define PLANAR_KERNEL avx2
#define PLANAR_TARGET __attribute__((target("avx2")))
#define PLANAR_TILE 64
#define PLANAR_GRAIN 16
#define ALWAYS_INLINE static inline __attribute__((always_inline, target("avx2")))
typedef int16_t planar_element;

enum { CHUNK = 255 }; /* activations that an int16 sum holds for certain */

ALWAYS_INLINE uint32_t offset_at(const void *offsets, uint32_t index, int wide) {
    return wide ? ((const uint32_t *)offsets)[index] : ((const uint16_t *)offsets)[index];
}

ALWAYS_INLINE __m256i load16(const int16_t *from) {
    return _mm256_loadu_si256((const __m256i *)(const void *)from);
}

ALWAYS_INLINE void add_places(__m256i *sums, const int16_t *base, const void *offsets,
                              uint32_t first, uint32_t count, int blocks, int wide) {
    for (uint32_t t = first; t < first + count; ++t) {
        const int16_t *const from = base + offset_at(offsets, t, wide);
        for (int b = 0; b < blocks; ++b) {
            sums[b] = _mm256_add_epi16(sums[b], load16(from + 16 * b));
        }
    }
}

/* What the requantisation of one channel needs, in registers. */
typedef struct {
    __m256i multiplier, mask, threshold, zero_point, low, high;
    __m256 factor, most;
    __m128i left, right;
} requant_vectors;

ALWAYS_INLINE requant_vectors load_requant(const ec2t_requant *requant, int32_t entry) {
    requant_vectors v;
    memset(&v, 0, sizeof v);
    if (requant->mode == EC2T_REQUANT_FP32) {
        v.factor = _mm256_set1_ps(requant->factors[entry]);
        v.most = _mm256_set1_ps((float)(requant->output_max - requant->output_zero_point));
    } else {
        const int32_t shift = requant->shifts[entry];
        const int32_t left = shift > 0 ? shift : 0, right = shift > 0 ? 0 : -shift;
        const int32_t mask = (int32_t)((INT64_C(1) << right) - 1);
        v.multiplier = _mm256_set1_epi32(requant->multipliers[entry]);
        v.mask = _mm256_set1_epi32(mask);
        v.threshold = _mm256_set1_epi32(mask >> 1);
        v.left = _mm_cvtsi32_si128(left);
        v.right = _mm_cvtsi32_si128(right);
    }
    v.zero_point = _mm256_set1_epi16((int16_t)requant->output_zero_point);
    v.low = _mm256_set1_epi8((int8_t)requant->output_min);
    v.high = _mm256_set1_epi8((int8_t)requant->output_max);
    return v;
}

ALWAYS_INLINE __m256i scale(__m256i accumulator, const requant_vectors *v, int fp32) {
    if (fp32) {
        const __m256 scaled = _mm256_mul_ps(_mm256_cvtepi32_ps(accumulator), v->factor);
        /* The conversion gives INT32_MIN for all that is too large: right below, not above. */
        return _mm256_cvtps_epi32(_mm256_min_ps(scaled, v->most));
    }
    const __m256i shifted = _mm256_sll_epi32(accumulator, v->left);
    const __m256i nudge = _mm256_set1_epi64x(INT64_C(1) << 30);
    const __m256i even = _mm256_add_epi64(_mm256_mul_epi32(shifted, v->multiplier), nudge);
    const __m256i odd =
        _mm256_add_epi64(_mm256_mul_epi32(_mm256_srli_epi64(shifted, 32), v->multiplier), nudge);
    const __m256i high =
        _mm256_blend_epi32(_mm256_srli_epi64(even, 31), _mm256_slli_epi64(odd, 1), 0xaa);
    const __m256i remainder = _mm256_and_si256(high, v->mask);
    const __m256i threshold = _mm256_sub_epi32(v->threshold, _mm256_srai_epi32(high, 31));
    const __m256i up = _mm256_cmpgt_epi32(remainder, threshold);
    return _mm256_sub_epi32(_mm256_sra_epi32(high, v->right), up);
}

/* 16 accumulators as (low, high) halves of either 128-bit lane to 16 int16. */
ALWAYS_INLINE __m256i narrow(__m256i low, __m256i high, const requant_vectors *v, int fp32) {
    return _mm256_adds_epi16(_mm256_packs_epi32(scale(low, v, fp32), scale(high, v, fp32)),
                             v->zero_point);
}

ALWAYS_INLINE void store16(int8_t *output, __m256i words, const requant_vectors *v) {
    __m256i bytes = _mm256_packs_epi16(words, words);
    bytes = _mm256_min_epi8(_mm256_max_epi8(bytes, v->low), v->high);
    bytes = _mm256_permute4x64_epi64(bytes, 0x08);
    _mm_storeu_si128((__m128i *)(void *)output, _mm256_castsi256_si128(bytes));
}

ALWAYS_INLINE void tile_in_registers(const ec2t_planar_conv2d *conv,
                                     const ec2t_planar_channel *channel, int32_t entry,
                                     const int16_t *base, int8_t *output, int blocks, int wide,
                                     int fp32) {
    __m256i plus[4], minus[4];
    for (int b = 0; b < blocks; ++b) {
        plus[b] = minus[b] = _mm256_setzero_si256();
    }
    add_places(plus, base, conv->offsets, channel->first, channel->plus_count, blocks, wide);
    add_places(minus, base, conv->offsets, channel->first + channel->plus_count,
               channel->minus_count, blocks, wide);
    const requant_vectors v = load_requant(&conv->requant, entry);
    const __m256i bias = _mm256_set1_epi32(channel->bias);
    /* Pairs (value_plus, value_minus): one multiply-add does plus and minus sums together. */
    const __m256i values = _mm256_set1_epi32(
        (int32_t)((uint32_t)(uint16_t)channel->value_plus | (uint32_t)channel->value_minus << 16));
    for (int b = 0; b < blocks; ++b) {
        const __m256i low = _mm256_madd_epi16(_mm256_unpacklo_epi16(plus[b], minus[b]), values);
        const __m256i high = _mm256_madd_epi16(_mm256_unpackhi_epi16(plus[b], minus[b]), values);
        store16(output + 16 * b,
                narrow(_mm256_add_epi32(low, bias), _mm256_add_epi32(high, bias), &v, fp32), &v);
    }
}

PLANAR_TARGET static void tile_in_chunks(const ec2t_planar_conv2d *conv,
                                         const ec2t_planar_channel *channel, int32_t entry,
                                         const int16_t *base, int32_t size, int8_t *output) {
    const requant_vectors v = load_requant(&conv->requant, entry);
    const int wide = conv->offset_size == 4;
    for (int b = 0; b < size / 16; ++b) {
        __m256i low = _mm256_set1_epi32(channel->bias), high = low;
        uint32_t first = channel->first;
        for (int list = 0; list < 2; ++list) {
            uint32_t count = list == 0 ? channel->plus_count : channel->minus_count;
            const int32_t value = list == 0 ? channel->value_plus : channel->value_minus;
            const __m256i values = _mm256_set1_epi32((uint16_t)value);
            while (count > 0) {
                const uint32_t chunk = count < CHUNK ? count : CHUNK;
                __m256i sums = _mm256_setzero_si256();
                if (wide) {
                    add_places(&sums, base + 16 * b, conv->offsets, first, chunk, 1, 1);
                } else {
                    add_places(&sums, base + 16 * b, conv->offsets, first, chunk, 1, 0);
                }
                const __m256i zero = _mm256_setzero_si256();
                low = _mm256_add_epi32(
                    low, _mm256_madd_epi16(_mm256_unpacklo_epi16(sums, zero), values));
                high = _mm256_add_epi32(
                    high, _mm256_madd_epi16(_mm256_unpackhi_epi16(sums, zero), values));
                first += chunk;
                count -= chunk;
            }
        }
        const __m256i words = conv->requant.mode == EC2T_REQUANT_FP32 ? narrow(low, high, &v, 1)
                                                                      : narrow(low, high, &v, 0);
        store16(output + 16 * b, words, &v);
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

PLANAR_TARGET static void planar_tile(const ec2t_planar_conv2d *conv,
                                      const ec2t_planar_channel *channel, int32_t entry,
                                      const int16_t *base, int32_t size, int8_t *output) {
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

ALWAYS_INLINE __m256i widen(const int8_t *from) {
    return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)from));
}

ALWAYS_INLINE void store_words(int16_t *to, __m256i words) {
    _mm256_storeu_si256((__m256i *)(void *)to, words);
}

PLANAR_TARGET static void planar_copy(int16_t *to, const int8_t *from, int32_t count) {
    for (; count >= 16; count -= 16, to += 16, from += 16) {
        store_words(to, widen(from));
    }
    for (; count > 0; --count) {
        *to++ = *from++;
    }
}

ALWAYS_INLINE void planar_copy_masked(int16_t *to, const int8_t *from, const int8_t *mask,
                                      int16_t zero) {
    store_words(to, _mm256_blendv_epi8(widen(from), _mm256_set1_epi16(zero), widen(mask)));
}

PLANAR_TARGET static void planar_copy_alternate(int16_t *to, const int8_t *from, int32_t count,
                                                const int8_t *end) {
    for (; count >= 16 && end - from >= 32; count -= 16, to += 16, from += 32) {
        const __m256i bytes = _mm256_loadu_si256((const __m256i *)(const void *)from);
        store_words(to, _mm256_srai_epi16(_mm256_slli_epi16(bytes, 8), 8));
    }
    for (; count > 0; --count, from += 2) {
        *to++ = *from;
    }
}

#include "../portable/planar_body.h"

int ec2t_has__avx2(void) {
    __builtin_cpu_init();
    return __builtin_cpu_supports("avx2") != 0;
}
