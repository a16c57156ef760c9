#include "log_mel.h"

#include <stddef.h>

/* Right shifts of negative numbers round down: arithmetic, as every compiler has them. The NumPy
   twin is ec2t_tf/export/features/fixed_point.py, equal bit for bit. */

#define POINTS (EC2T_LOG_MEL_FFT / 2) /* of the complex transform: even samples + i odd samples */

typedef union {
    struct {
        int32_t re, im;
    } z;
    uint64_t power;
} cell;

/* The product's upper half, and that plus a sum. GCC takes two registers for it without being told.
 */
#if defined(__ARM_FEATURE_DSP) && defined(__ARM_ARCH) && __ARM_ARCH >= 7
static inline int32_t upper(int32_t a, int32_t b) {
    int32_t r;
    __asm("smmul %0,%1,%2" : "=r"(r) : "r"(a), "r"(b));
    return r;
}
static inline int32_t plus_upper(int32_t sum, int32_t a, int32_t b) {
    int32_t r;
    __asm("smmla %0,%1,%2,%3" : "=r"(r) : "r"(a), "r"(b), "r"(sum));
    return r;
}
#else
static inline int32_t upper(int32_t a, int32_t b) {
    return (int32_t)(((int64_t)a * b) >> 32);
}
static inline int32_t plus_upper(int32_t sum, int32_t a, int32_t b) {
    return sum + upper(a, b);
}
#endif
/* exp(-2 pi i k / FFT) is (cosine, -sine), Q31; k below three quarters of FFT. */
static inline int32_t cosine(uint32_t k) {
    return ec2t_log_mel_sine[k + EC2T_LOG_MEL_FFT / 4];
}
static inline int32_t sine(uint32_t k) {
    return ec2t_log_mel_sine[k];
}
/* Half of a exp(-2 pi i k / FFT) */
static inline cell turned(cell a, uint32_t k) {
    const int32_t c = cosine(k), s = sine(k);
    cell r;
    r.z.re = plus_upper(upper(a.z.re, c), a.z.im, s);
    r.z.im = upper(a.z.im, c) - upper(a.z.re, s);
    return r;
}

/* Four transforms of `quarter` points, side by side, become one: for each of their points, at z[0],
   z[quarter], ..., b, c and d turned by k, 2k and 3k. Where these three are halves, times is 2. */
static inline void join(cell *z, uint32_t quarter, cell b, cell c, cell d, int32_t times) {
    const cell a = z[0];
    const int32_t even_re = a.z.re + c.z.re * times, even_im = a.z.im + c.z.im * times;
    const int32_t odd_re = a.z.re - c.z.re * times, odd_im = a.z.im - c.z.im * times;
    const int32_t sum_re = (b.z.re + d.z.re) * times, sum_im = (b.z.im + d.z.im) * times;
    const int32_t gap_re = (b.z.re - d.z.re) * times, gap_im = (b.z.im - d.z.im) * times;
    z[0].z.re = even_re + sum_re;
    z[0].z.im = even_im + sum_im;
    z[quarter].z.re = odd_re + gap_im;
    z[quarter].z.im = odd_im - gap_re;
    z[2 * quarter].z.re = even_re - sum_re;
    z[2 * quarter].z.im = even_im - sum_im;
    z[3 * quarter].z.re = odd_re - gap_im;
    z[3 * quarter].z.im = odd_im + gap_re;
}

/* In place; z is in the order of ec2t_log_mel_order. */
static void transform(cell *z) {
    uint32_t quarter;
#if EC2T_LOG_MEL_TWO /* POINTS is twice a power of 4 */
    for (cell *p = z; p != z + POINTS; p += 2) {
        const cell a = p[0], b = p[1];
        p[0].z.re = a.z.re + b.z.re;
        p[0].z.im = a.z.im + b.z.im;
        p[1].z.re = a.z.re - b.z.re;
        p[1].z.im = a.z.im - b.z.im;
    }
    quarter = 2;
#else
    for (cell *p = z; p != z + POINTS; p += 4)
        join(p, 1, p[1], p[2], p[3], 1);
    quarter = 4;
#endif
    for (; quarter != POINTS; quarter *= 4) {
        const uint32_t step = EC2T_LOG_MEL_FFT / (4 * quarter);
        for (uint32_t k = 0; k < quarter; ++k) {
            const uint32_t at = k * step;
            for (cell *p = z + k; p < z + POINTS; p += 4 * quarter)
                join(p, quarter, turned(p[quarter], at), turned(p[2 * quarter], 2 * at),
                     turned(p[3 * quarter], 3 * at), 2);
        }
    }
}

/* |re + i im|^2 / 2^16 */
static inline uint64_t power(int32_t re, int32_t im) {
    return (uint64_t)((int64_t)re * re + (int64_t)im * im) >> 16;
}

/* Transform of a frame's even + i odd samples -> power of bins 0 to POINTS - 1, in place. */
static void spectrum(cell *z) {
    z[0].power = power(z[0].z.re + z[0].z.im, 0);
    for (uint32_t k = 1; k < POINTS / 2; ++k) {
        cell *const other = &z[POINTS - k];
        const cell a = z[k], b = *other;
        cell odd;
        odd.z.re = a.z.im + b.z.im;
        odd.z.im = b.z.re - a.z.re;
        odd = turned(odd, k);
        const int32_t re = (a.z.re + b.z.re) >> 1, im = (a.z.im - b.z.im) >> 1;
        z[k].power = power(re + odd.z.re, im + odd.z.im);
        other->power = power(re - odd.z.re, im - odd.z.im);
    }
    z[POINTS / 2].power = power(z[POINTS / 2].z.re, z[POINTS / 2].z.im);
}

/* log2(v) in Q16, v > 0 */
static int32_t log2_q16(uint64_t v) {
    const uint32_t zeros = (uint32_t)__builtin_clzll(v);
    const uint32_t mantissa = (uint32_t)((v << zeros) >> 47) & 0xffffu;
    const int32_t *const at = ec2t_log_mel_log2 + (mantissa >> 8);
    const int32_t part = ((at[1] - at[0]) * (int32_t)(mantissa & 255u) + 128) >> 8;
    return (int32_t)(63u - zeros) * 65536 + at[0] + part;
}

int32_t ec2t_log_mel_get_buffer_size(void) {
    return (int32_t)(POINTS * sizeof(cell));
}

int32_t ec2t_log_mel(const int16_t *samples, int8_t *codes, void *scratch) {
    if (samples == NULL || codes == NULL || scratch == NULL)
        return EC2T_LOG_MEL_MISSING;
    cell *const z = (cell *)scratch;
    int32_t peak = EC2T_LOG_MEL_LEAST_PEAK;
    for (uint32_t i = 0; i < EC2T_LOG_MEL_SAMPLES; ++i) {
        const int32_t size = samples[i] < 0 ? -samples[i] : samples[i];
        peak = size > peak ? size : peak;
    }
    int32_t scale = 1; /* a power of two that leaves the peak 14 bits or 15 */
    while (peak * scale < 16384)
        scale *= 2;
    const int32_t gain = (int32_t)((INT64_C(1) << 44) / (peak * scale));
    for (uint32_t frame = 0; frame < EC2T_LOG_MEL_FRAMES; ++frame, samples += EC2T_LOG_MEL_HOP) {
        for (uint32_t i = 0; i < POINTS; ++i) {
            const uint32_t at = 2u * ec2t_log_mel_order[i];
            int32_t pair[2] = {0, 0};
            for (uint32_t j = 0; j < 2u && at + j < EC2T_LOG_MEL_WINDOW; ++j)
                pair[j] = upper(samples[at + j] * scale * ec2t_log_mel_window[at + j], gain) >> 6;
            z[i].z.re = pair[0];
            z[i].z.im = pair[1];
        }
        transform(z);
        spectrum(z);
        const uint16_t *weight = ec2t_log_mel_weights;
        for (uint32_t band = 0; band < EC2T_LOG_MEL_BANDS; ++band) {
            const cell *bin = z + ec2t_log_mel_first[band];
            const uint16_t *const end = weight + ec2t_log_mel_count[band];
            uint64_t sum = EC2T_LOG_MEL_FLOOR;
            for (; weight != end; ++weight, ++bin)
                sum += bin->power * *weight;
            const int64_t code =
                (log2_q16(sum) * (int64_t)EC2T_LOG_MEL_SCALE + EC2T_LOG_MEL_OFFSET) >> 32;
            codes[band * EC2T_LOG_MEL_FRAMES + frame] = (int8_t)(code < -128  ? -128
                                                                 : code > 127 ? 127
                                                                              : code);
        }
    }
    return EC2T_LOG_MEL_OK;
}
