#include "planar.h"

#if defined(EC2T_MCU_HELIUM)
#include <arm_mve.h>
enum { MOST_SCATTERED = 255 / 15 }; /* channels whose sixteen places fit bytes */
#endif

void ec2t_mcu_fill(const ec2t_mcu_planar *layout, uint8_t *tensor, int32_t value) {
    const uint8_t byte = ec2t_mcu_byte(value);
    const uint8_t *end = tensor + layout->channels * layout->plane;
    for (uint8_t *p = tensor - layout->lead; p < end; ++p)
        *p = byte;
}

void ec2t_mcu_lead(const ec2t_mcu_planar *layout, uint8_t *tensor) {
    const uint8_t byte = ec2t_mcu_byte(layout->zero_point);
    for (uint8_t *p = tensor - layout->lead; p < tensor; ++p)
        *p = byte;
}

void ec2t_mcu_border(const ec2t_mcu_planar *layout, uint8_t *tensor, uint32_t channel) {
    const uint32_t width = layout->width, pitch = layout->pitch, plane = layout->plane;
    const uint8_t byte = ec2t_mcu_byte(layout->zero_point);
    if (plane == (uint32_t)layout->height * width)
        return;
    uint8_t *row = tensor + channel * plane;
    uint8_t *const end = row + plane;
#if defined(EC2T_MCU_HELIUM)
    /* Scattered stores down the columns, eight rows each; then whole rows. */
    const uint16x8_t bytes = vdupq_n_u16(byte);
    const uint16x8_t places = vmulq_n_u16(vidupq_n_u16(0, 1), (uint16_t)pitch);
    if (pitch <= 0xffffu / 7u) {
        for (uint32_t x = width; x < pitch; ++x) {
            uint8_t *p = row + x;
            for (uint32_t y = 0; y < layout->height; y += 8u, p += 8u * pitch)
                vstrbq_scatter_offset_p_u16(p, places, bytes, vctp16q(layout->height - y));
        }
    } else {
        for (uint32_t y = 0; y < layout->height; ++y) {
            for (uint32_t x = width; x < pitch; ++x)
                row[y * pitch + x] = byte;
        }
    }
    row += (uint32_t)layout->height * pitch;
    for (; row < end; row += 16)
        vstrbq_p_u8(row, vdupq_n_u8(byte), vctp8q((uint32_t)(end - row)));
#else
    if (pitch - width == 1) {
        for (uint32_t y = layout->height; y; --y, row += pitch)
            row[width] = byte;
    } else {
        for (uint32_t y = layout->height; y; --y, row += pitch) {
            for (uint32_t x = width; x < pitch; ++x)
                row[x] = byte;
        }
    }
    for (; row < end; ++row)
        *row = byte;
#endif
}

void ec2t_mcu_frame(const ec2t_mcu_planar *layout, uint8_t *tensor) {
    ec2t_mcu_lead(layout, tensor);
    for (uint32_t c = 0; c < layout->channels; ++c)
        ec2t_mcu_border(layout, tensor, c);
}

void ec2t_mcu_spread(const ec2t_mcu_planar *layout, uint8_t *tensor) {
    for (uint32_t c = layout->channels; c--;) {
        tensor[c * layout->plane] = tensor[c];
        ec2t_mcu_border(layout, tensor, c);
    }
    ec2t_mcu_lead(layout, tensor);
}

/* What is copied as one run of bytes: all channels where a plane is one pixel, a plane where
 * nothing lies between its rows, else a row. The bytes of a run are `step` apart in NHWC; `flip` is
 * what stored bytes differ in. */
typedef struct {
    uint32_t planes, rows, width, step, pitch, flip;
} runs;

static inline runs runs_of(const ec2t_mcu_planar *layout, uint32_t flip) {
    const uint32_t channels = layout->channels, height = layout->height, width = layout->width;
    const uint32_t pitch = layout->pitch;
    if (layout->plane == 1u)
        return (runs){1, 1, channels, 1, 0, flip};
    if (pitch == width)
        return (runs){channels, 1, height * width, channels, 0, flip};
    return (runs){channels, height, width, channels, pitch, flip};
}

/* Compiled by themselves: M0 has too few registers for them inside another loop. */
#define ALONE __attribute__((noinline))

/* A plane from NHWC. */
ALONE static void gather(const uint8_t *from, uint8_t *row, const runs *run) {
    const uint32_t step = run->step, width = run->width, flip = run->flip;
#if defined(EC2T_MCU_HELIUM)
    if (step <= MOST_SCATTERED) {
        const uint8x16_t flips = vdupq_n_u8((uint8_t)flip);
        const uint8x16_t places = vmulq_n_u8(vidupq_n_u8(0, 1), (uint8_t)step);
        const mve_pred16_t rest = vctp8q(width % 16u);
        for (uint32_t y = run->rows; y; --y, row += run->pitch, from += step * (width % 16u)) {
            uint8_t *to = row;
            for (uint32_t n = width / 16u; n; --n, from += 16u * step, to += 16)
                vstrbq_u8(to, veorq_u8(vldrbq_gather_offset_u8(from, places), flips));
            const uint8x16_t bytes = vldrbq_gather_offset_z_u8(from, places, rest);
            vstrbq_p_u8(to, veorq_u8(bytes, flips), rest);
        }
        return;
    }
    const uint32x4_t flips = vdupq_n_u32(flip), places = vmulq_n_u32(vidupq_n_u32(0, 1), step);
    const mve_pred16_t rest = vctp32q(width % 4u);
    for (uint32_t y = run->rows; y; --y, row += run->pitch, from += step * (width % 4u)) {
        uint8_t *to = row;
        for (uint32_t n = width / 4u; n; --n, from += 4u * step, to += 4)
            vstrbq_u32(to, veorq_u32(vldrbq_gather_offset_u32(from, places), flips));
        const uint32x4_t bytes = vldrbq_gather_offset_z_u32(from, places, rest);
        vstrbq_p_u32(to, veorq_u32(bytes, flips), rest);
    }
#else
    for (uint32_t y = run->rows; y; --y, row += run->pitch) {
        uint8_t *to = row;
#if defined(__ARM_FEATURE_UNALIGNED)
        const uint32_t flips = flip * 0x01010101u;
        for (uint32_t n = width / 4u; n; --n, from += 4u * step, to += 4) {
            const uint32_t a = from[0], b = from[step], c = from[2u * step], d = from[3u * step];
            const uint32_t word = (a | b << 8 | c << 16 | d << 24) ^ flips;
            __builtin_memcpy(to, &word, 4);
        }
#else
        for (uint32_t n = width / 4u; n; --n, from += 4u * step, to += 4) {
            to[0] = (uint8_t)(from[0] ^ flip), to[1] = (uint8_t)(from[step] ^ flip);
            to[2] = (uint8_t)(from[2u * step] ^ flip), to[3] = (uint8_t)(from[3u * step] ^ flip);
        }
#endif
        for (uint32_t n = width % 4u; n; --n, from += step)
            *to++ = (uint8_t)(*from ^ flip);
    }
#endif
}

/* A plane to NHWC; outputs are small. */
ALONE static void scatter(const uint8_t *row, uint8_t *to, const runs *run) {
    const uint32_t step = run->step, width = run->width, flip = run->flip;
#if defined(EC2T_MCU_HELIUM)
    if (step <= MOST_SCATTERED) {
        const uint8x16_t flips = vdupq_n_u8((uint8_t)flip);
        const uint8x16_t places = vmulq_n_u8(vidupq_n_u8(0, 1), (uint8_t)step);
        const mve_pred16_t rest = vctp8q(width % 16u);
        for (uint32_t y = run->rows; y; --y, row += run->pitch, to += step * (width % 16u)) {
            const uint8_t *from = row;
            for (uint32_t n = width / 16u; n; --n, from += 16, to += 16u * step)
                vstrbq_scatter_offset_u8(to, places, veorq_u8(vldrbq_u8(from), flips));
            const uint8x16_t bytes = veorq_u8(vldrbq_z_u8(from, rest), flips);
            vstrbq_scatter_offset_p_u8(to, places, bytes, rest);
        }
        return;
    }
#endif
    for (uint32_t y = run->rows; y; --y, row += run->pitch) {
        for (const uint8_t *from = row, *const end = row + width; from != end; to += step)
            *to = (uint8_t)(*from++ ^ flip);
    }
}

static void from_nhwc(const uint8_t *nhwc, const ec2t_mcu_planar *layout, uint8_t *tensor,
                      uint32_t flip) {
    const runs run = runs_of(layout, flip);
    ec2t_mcu_lead(layout, tensor);
    for (uint32_t c = 0; c < run.planes; ++c) {
        gather(nhwc + c, tensor + c * layout->plane, &run);
        ec2t_mcu_border(layout, tensor, c);
    }
}

static void to_nhwc(const ec2t_mcu_planar *layout, const uint8_t *tensor, uint8_t *nhwc,
                    uint32_t flip) {
    const runs run = runs_of(layout, flip);
    for (uint32_t c = 0; c < run.planes; ++c)
        scatter(tensor + c * layout->plane, nhwc + c, &run);
}

void ec2t_mcu_from_nhwc(const int8_t *nhwc, const ec2t_mcu_planar *layout, uint8_t *tensor) {
    from_nhwc((const uint8_t *)nhwc, layout, tensor, EC2T_MCU_FLIP);
}

void ec2t_mcu_to_nhwc(const ec2t_mcu_planar *layout, const uint8_t *tensor, int8_t *nhwc) {
    to_nhwc(layout, tensor, (uint8_t *)nhwc, EC2T_MCU_FLIP);
}

void ec2t_mcu_from_nhwc_u8(const uint8_t *nhwc, const ec2t_mcu_planar *layout, uint8_t *tensor) {
    from_nhwc(nhwc, layout, tensor, EC2T_MCU_FLIP ^ 0x80u);
}

void ec2t_mcu_to_nhwc_u8(const ec2t_mcu_planar *layout, const uint8_t *tensor, uint8_t *nhwc) {
    to_nhwc(layout, tensor, nhwc, EC2T_MCU_FLIP ^ 0x80u);
}

void ec2t_mcu_place(const ec2t_mcu_planar *layout_in, const uint8_t *input,
                    const ec2t_mcu_planar *layout_out, uint8_t *output, uint32_t row,
                    uint32_t column, uint32_t channel) {
    for (uint32_t c = 0; c < layout_in->channels; ++c) {
        for (uint32_t y = 0; y < layout_in->height; ++y) {
            const uint8_t *from = input + c * layout_in->plane + y * layout_in->pitch;
            uint8_t *to =
                output + (c + channel) * layout_out->plane + (y + row) * layout_out->pitch + column;
            for (uint32_t x = 0; x < layout_in->width; ++x)
                to[x] = from[x];
        }
    }
}

#if defined(EC2T_MCU_SWAR)
/* Four bytes `x` at once: bit 7 of each byte of `over` says whether that byte is the threshold or
 * more. The sum says so of its lower seven bits; with a threshold of 128 or more bit 7 of the byte
 * must be set as well (&), with a lower one that alone is enough (|). As many instructions whatever
 * the values are. */
#define LIMIT_WORDS(COMBINED, KEPT)                                                                \
    for (; word != words_end; ++word) {                                                            \
        const uint32_t x = *word;                                                                  \
        const uint32_t over = (((x & low) + complement) COMBINED x) & ~low;                        \
        const uint32_t mask = (over << 1) - (over >> 7);                                           \
        *word = ((x ^ limits) & mask) ^ (KEPT);                                                    \
    }

/* One limit, of stored bytes: `above` 1 means that no byte is greater, 0 that none is less. */
static void limit_on_one_side(const ec2t_mcu_planar *layout, uint8_t *plane, uint32_t limit,
                              uint32_t above) {
    const uint32_t threshold = limit + above, low = 0x7f7f7f7fu;
    const uint32_t complement = (0x80u - (threshold & 0x7fu)) * 0x01010101u;
    const uint32_t limits = limit * 0x01010101u;
    for (uint32_t y = layout->height; y; --y, plane += layout->pitch) {
        uint8_t *at = plane, *const end = plane + layout->width;
        for (; at != end && ((uintptr_t)at & 3u); ++at) {
            if ((*at - threshold) >> 31 != above)
                *at = (uint8_t)limit;
        }
        uint32_t *word = (uint32_t *)(void *)at, *const words_end =
                                                     word + (uint32_t)(end - at) / 4u;
        if (above) {
            if (threshold & 0x80u)
                LIMIT_WORDS(&, x)
            else
                LIMIT_WORDS(|, x)
        } else {
            if (threshold & 0x80u)
                LIMIT_WORDS(&, limits)
            else
                LIMIT_WORDS(|, limits)
        }
        for (at = (uint8_t *)words_end; at != end; ++at) {
            if ((*at - threshold) >> 31 != above)
                *at = (uint8_t)limit;
        }
    }
}

void ec2t_mcu_limit(const ec2t_mcu_planar *layout, uint8_t *plane, const ec2t_mcu_clamp *clamp) {
    if (clamp->minimum > -128)
        limit_on_one_side(layout, plane, (uint32_t)(clamp->minimum + 128), 0);
    if (clamp->maximum < 127)
        limit_on_one_side(layout, plane, (uint32_t)(clamp->maximum + 128), 1);
}
#endif
