/* Pools whose windows are all inside the input, one or two columns apart, on cores with DSP
 * instructions: four bytes of a row at once, which are a column of four windows side by side or two
 * columns of two windows (`apart` 1 or 2). Words are read up to three bytes beyond the last window.
 */
#include "dsp.h"
#include "pool.h"

#if defined(EC2T_MCU_DSP)

static inline uint32_t greater_bytes(uint32_t a, uint32_t b) {
    uint32_t unused;
    __asm("ssub8 %1,%0,%2\n sel %0,%0,%2" : "+&r"(a), "=&r"(unused) : "r"(b) : "cc");
    return a;
}
static inline uint32_t smaller_bytes(uint32_t a, uint32_t b) {
    uint32_t unused;
    __asm("ssub8 %1,%2,%0\n sel %0,%0,%2" : "+&r"(a), "=&r"(unused) : "r"(b) : "cc");
    return a;
}
/* Adds bytes 0 and 2, or 1 and 3. */
static inline uint32_t plus_even(uint32_t sums, uint32_t word) {
    __asm("sxtab16 %0,%0,%1" : "+r"(sums) : "r"(word));
    return sums;
}
static inline uint32_t plus_odd(uint32_t sums, uint32_t word) {
    __asm("sxtab16 %0,%0,%1,ror #8" : "+r"(sums) : "r"(word));
    return sums;
}

typedef struct {
    uint32_t high, wide, pitch;
} Window;

/* Greatest bytes of four windows, or of two in bytes 0 and 2. */
static inline __attribute__((always_inline)) uint32_t greatest(const uint8_t *row, Window window,
                                                               uint32_t apart) {
    uint32_t found = 0x80808080u, last = 0x80808080u;
    for (uint32_t i = window.high; i; --i, row += window.pitch) {
        if (apart == 1u) {
            for (uint32_t j = 0; j < window.wide; ++j)
                found = greater_bytes(found, ec2t_mcu_word_at(row + j));
        } else {
            for (uint32_t j = 0; j + 1u < window.wide; j += 2u)
                found = greater_bytes(found, ec2t_mcu_word_at(row + j));
            if (window.wide & 1u)
                last = greater_bytes(last, ec2t_mcu_word_at(row + window.wide - 1u));
        }
    }
    if (apart == 2u)
        found = greater_bytes(greater_bytes(found, found >> 8), last);
    return found;
}

static inline __attribute__((always_inline)) void row_of_maxima(const ec2t_mcu_pool *layer,
                                                                const uint8_t *row, uint8_t *to,
                                                                Window window, uint32_t apart) {
    const uint32_t least = ((uint32_t)layer->clamp.minimum & 0xffu) * 0x01010101u;
    const uint32_t most = ((uint32_t)layer->clamp.maximum & 0xffu) * 0x01010101u;
    const uint32_t together = 4u / apart;
    for (uint32_t left = layer->out.width; left; to += together, row += 4) {
        uint32_t found = greatest(row, window, apart);
        found = smaller_bytes(greater_bytes(found, least), most);
        if (apart == 2u)
            found = (found & 0xffu) | (found >> 8 & 0xff00u);
        if (left < together) {
            for (; left; --left, found >>= 8)
                *to++ = (uint8_t)found;
            return;
        }
        __builtin_memcpy(to, &found, 4u / apart);
        left -= together;
    }
}

/* Sums of bytes 0 and 2 and of bytes 1 and 3 of four windows, or the first alone of two. */
static inline __attribute__((always_inline)) void sums_of(const uint8_t *row, Window window,
                                                          uint32_t apart, uint32_t sums[2]) {
    uint32_t even = 0, odd = 0;
    for (uint32_t i = window.high; i; --i, row += window.pitch) {
        if (apart == 1u) {
            for (uint32_t j = 0; j < window.wide; ++j) {
                const uint32_t word = ec2t_mcu_word_at(row + j);
                even = plus_even(even, word), odd = plus_odd(odd, word);
            }
        } else {
            for (uint32_t j = 0; j + 1u < window.wide; j += 2u) {
                const uint32_t word = ec2t_mcu_word_at(row + j);
                even = plus_odd(plus_even(even, word), word);
            }
            if (window.wide & 1u)
                even = plus_even(even, ec2t_mcu_word_at(row + window.wide - 1u));
        }
    }
    sums[0] = even, sums[1] = odd;
}

static inline __attribute__((always_inline)) void row_of_means(const ec2t_mcu_pool *layer,
                                                               const uint8_t *row, uint8_t *to,
                                                               const ec2t_mcu_mean_value *mean,
                                                               Window window, uint32_t apart) {
    uint8_t *const end = to + layer->out.width;
    for (; to != end; row += 4) {
        uint32_t sums[2];
        sums_of(row, window, apart, sums);
        for (uint32_t i = 0; i < 2u && to != end; ++i) {
            *to++ = ec2t_mcu_mean_byte((int16_t)sums[0], mean);
            if (apart == 1u && to != end)
                *to++ = ec2t_mcu_mean_byte((int16_t)sums[1], mean);
            sums[0] >>= 16, sums[1] >>= 16;
        }
    }
}

#define EACH_ROW(BODY)                                                                             \
    const ec2t_mcu_planar *in = &layer->in, *out = &layer->out;                                    \
    const Window any = {layer->height, layer->width, in->pitch}, two = {any.high, 2, any.pitch};   \
    const uint32_t step = (uint32_t)layer->stride_y * in->pitch;                                   \
    ec2t_mcu_lead(out, output);                                                                    \
    for (uint32_t c = out->channels; c; --c, input += in->plane, output += out->plane) {           \
        const uint8_t *row = input;                                                                \
        uint8_t *to = output;                                                                      \
        for (uint32_t y = out->height; y; --y, row += step, to += out->pitch) {                    \
            BODY                                                                                   \
        }                                                                                          \
        ec2t_mcu_border(out, output, 0);                                                           \
    }

void ec2t_mcu_pool_maxima_run(const ec2t_mcu_pool *layer, const uint8_t *input, uint8_t *output) {
    EACH_ROW({
        if (layer->stride_x == 1u)
            row_of_maxima(layer, row, to, any, 1);
        else if (any.wide == 2u)
            row_of_maxima(layer, row, to, two, 2);
        else
            row_of_maxima(layer, row, to, any, 2);
    })
}

void ec2t_mcu_pool_means_run(const ec2t_mcu_pool *layer, const uint8_t *input, uint8_t *output) {
    const ec2t_mcu_mean_value mean = ec2t_mcu_mean_value_of(layer);
    EACH_ROW({
        if (layer->stride_x == 1u)
            row_of_means(layer, row, to, &mean, any, 1);
        else if (any.wide == 2u)
            row_of_means(layer, row, to, &mean, two, 2);
        else
            row_of_means(layer, row, to, &mean, any, 2);
    })
}

#endif
