/* Private: what the AVX2 and AVX-512 planar kernels share: activations lowered to int16, and the
 * requantisation of 16 sums at a time. */
#include <immintrin.h>
#include <string.h>

#include "ec2t_planar.h"

#define ALWAYS_INLINE static inline __attribute__((always_inline, target("avx2")))
typedef int16_t planar_element;

#include "../portable/planar_offsets.h"

ALWAYS_INLINE __m256i load16(const int16_t *from) {
    return _mm256_loadu_si256((const __m256i *)(const void *)from);
}

/* What the requantisation of one channel needs, in registers. */
typedef struct {
    __m256i multiplier, mask, threshold, zero_point, low, high;
    __m256 factor, most;
    __m128i left, right;
} requant_vectors;

ALWAYS_INLINE requant_vectors load_requant(const ec2t_requant *requant, int32_t entry, int fp32) {
    requant_vectors v;
    memset(&v, 0, sizeof v);
    if (fp32) {
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

/* 16 outputs from plus and minus sums. `values` are pairs (value_plus, value_minus): one
 * multiply-add does both. */
ALWAYS_INLINE void weigh16(int8_t *output, __m256i plus, __m256i minus, __m256i values,
                           __m256i bias, const requant_vectors *v, int fp32) {
    const __m256i low = _mm256_madd_epi16(_mm256_unpacklo_epi16(plus, minus), values);
    const __m256i high = _mm256_madd_epi16(_mm256_unpackhi_epi16(plus, minus), values);
    store16(output, narrow(_mm256_add_epi32(low, bias), _mm256_add_epi32(high, bias), v, fp32), v);
}

ALWAYS_INLINE __m256i value_pairs(const ec2t_planar_channel *channel) {
    return _mm256_set1_epi32(
        (int32_t)((uint32_t)(uint16_t)channel->value_plus | (uint32_t)channel->value_minus << 16));
}

/* Sums of 16 activations at the listed places. */
ALWAYS_INLINE __m256i sum16(const int16_t *base, const void *list, uint32_t count, int wide) {
    __m256i sum = _mm256_setzero_si256();
    for (; count > 0; --count, list = list_at(list, 1, wide)) {
        sum = _mm256_add_epi16(sum, load16(base + offset_at(list, 0, wide)));
    }
    return sum;
}

/* Long lists: int16 sums of a chunk at a time go into int32 accumulators. */
__attribute__((target("avx2"))) static void tile_in_chunks(const ec2t_planar_conv2d *conv,
                                                           const ec2t_planar_channel *channel,
                                                           int32_t entry, const int16_t *base,
                                                           int32_t size, int8_t *output) {
    const int wide = conv->offset_size == 4, fp32 = conv->requant.mode == EC2T_REQUANT_FP32;
    const requant_vectors v = load_requant(&conv->requant, entry, fp32);
    for (int b = 0; b < size / 16; ++b) {
        __m256i low = _mm256_set1_epi32(channel->bias), high = low;
        uint32_t first = channel->first;
        for (int symbol = 0; symbol < 2; ++symbol) {
            uint32_t count = symbol == 0 ? channel->plus_count : channel->minus_count;
            const int32_t value = symbol == 0 ? channel->value_plus : channel->value_minus;
            const __m256i values = _mm256_set1_epi32((uint16_t)value);
            while (count > 0) {
                const uint32_t chunk = count < CHUNK ? count : CHUNK;
                const void *const list = list_at(conv->offsets, first, wide);
                const __m256i sums = wide ? sum16(base + 16 * b, list, chunk, 1)
                                          : sum16(base + 16 * b, list, chunk, 0);
                const __m256i zero = _mm256_setzero_si256();
                low = _mm256_add_epi32(
                    low, _mm256_madd_epi16(_mm256_unpacklo_epi16(sums, zero), values));
                high = _mm256_add_epi32(
                    high, _mm256_madd_epi16(_mm256_unpackhi_epi16(sums, zero), values));
                first += chunk;
                count -= chunk;
            }
        }
        store16(output + 16 * b, narrow(low, high, &v, fp32), &v);
    }
}

__attribute__((target("avx2"))) static void
tiles_in_chunks(const ec2t_planar_conv2d *conv, const ec2t_planar_channel *channel, int32_t entry,
                const int16_t *base, int32_t size, int32_t count, int8_t *output) {
    for (; count > 0; --count, base += size, output += size) {
        tile_in_chunks(conv, channel, entry, base, size, output);
    }
}

ALWAYS_INLINE __m256i widen(const int8_t *from) {
    return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)from));
}

ALWAYS_INLINE void store_words(int16_t *to, __m256i words) {
    _mm256_storeu_si256((__m256i *)(void *)to, words);
}

__attribute__((target("avx2"))) static void planar_fill(int16_t *to, int16_t value, int32_t count) {
    for (; count > 0; count -= 16, to += 16) {
        store_words(to, _mm256_set1_epi16(value));
    }
}

__attribute__((target("avx2"))) static void planar_copy_blocks(int16_t *to, const int8_t *from,
                                                               int32_t blocks) {
    for (; blocks > 0; --blocks, to += 16, from += 16) {
        store_words(to, widen(from));
    }
}

__attribute__((target("avx2"))) static void planar_copy(int16_t *to, const int8_t *from,
                                                        int32_t count) {
    for (; count >= 16; count -= 16, to += 16, from += 16) {
        store_words(to, widen(from));
    }
    for (; count > 0; --count) {
        *to++ = *from++;
    }
}

__attribute__((target("avx2"))) static void planar_copy_masked(int16_t *to, const int8_t *from,
                                                               int32_t blocks, const int8_t *masks,
                                                               int32_t mask_count, int16_t zero) {
    const __m256i zeros = _mm256_set1_epi16(zero);
    const int8_t *const masks_end = masks + 16 * mask_count, *mask = masks;
    for (; blocks > 0; --blocks, to += 16, from += 16) {
        store_words(to, _mm256_blendv_epi8(widen(from), zeros, widen(mask)));
        mask = mask + 16 == masks_end ? masks : mask + 16;
    }
}

__attribute__((target("avx2"))) static void
planar_copy_alternate(int16_t *to, const int8_t *from, int32_t rows, int32_t count, int32_t room,
                      int32_t to_pitch, int32_t from_pitch, const int8_t *end) {
    for (; rows > 0; --rows, to += to_pitch, from += from_pitch) {
        int32_t x = 0;
        for (; x < count && x + 16 <= room && end - from >= 2 * x + 32; x += 16) {
            const __m256i bytes = _mm256_loadu_si256((const __m256i *)(const void *)(from + 2 * x));
            store_words(to + x, _mm256_srai_epi16(_mm256_slli_epi16(bytes, 8), 8));
        }
        for (; x < count; ++x) {
            to[x] = from[2 * x];
        }
    }
}
