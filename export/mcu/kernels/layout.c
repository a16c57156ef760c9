#include "planar.h"

#if defined(EC2T_MCU_HELIUM)
#include <arm_mve.h>
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

/* `flip` is what stored bytes differ in. */
static inline void from_nhwc(const uint8_t *nhwc, const ec2t_mcu_planar *layout, uint8_t *tensor,
                             uint32_t flip) {
    const uint32_t channels = layout->channels, width = layout->width;
    ec2t_mcu_lead(layout, tensor);
    if (layout->plane == 1u) {
        for (uint32_t c = 0; c < channels; ++c)
            tensor[c] = (uint8_t)(nhwc[c] ^ flip);
        return;
    }
    for (uint32_t c = 0; c < channels; ++c) {
        uint8_t *plane = tensor + c * layout->plane;
        const uint8_t *from = nhwc + c;
        for (uint32_t y = 0; y < layout->height; ++y) {
            uint8_t *row = plane + y * layout->pitch;
            for (uint32_t x = 0; x < width; ++x, from += channels)
                row[x] = (uint8_t)(*from ^ flip);
        }
        ec2t_mcu_border(layout, tensor, c);
    }
}

static inline void to_nhwc(const ec2t_mcu_planar *layout, const uint8_t *tensor, uint8_t *nhwc,
                           uint32_t flip) {
    const uint32_t channels = layout->channels;
    for (uint32_t c = 0; c < channels; ++c) {
        const uint8_t *plane = tensor + c * layout->plane;
        uint8_t *to = nhwc + c;
        for (uint32_t y = 0; y < layout->height; ++y) {
            const uint8_t *row = plane + y * layout->pitch;
            for (uint32_t x = 0; x < layout->width; ++x, to += channels)
                *to = (uint8_t)(row[x] ^ flip);
        }
    }
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
void ec2t_mcu_limit(const ec2t_mcu_planar *layout, uint8_t *plane, const ec2t_mcu_clamp *clamp) {
    if (clamp->minimum == -128 && clamp->maximum == 127)
        return;
    for (uint32_t y = layout->height; y; --y, plane += layout->pitch) {
        uint32_t x = 0;
        /* Aligned words whose bytes, as halfwords, go beyond no limit: bit 15 would say so. */
        const uint32_t mask = 0x00ff00ffu;
        const uint32_t above = (0x7fffu - (uint32_t)(clamp->maximum + 128)) * 0x00010001u;
        const uint32_t below = (uint32_t)(clamp->minimum + 128) * 0x00010001u;
        while (x < layout->width) {
            uint32_t most = layout->width - x;
            if (!((uintptr_t)(plane + x) & 3u) && most >= 4u) {
                const uint32_t *from = (const uint32_t *)(const void *)(plane + x);
                const uint32_t *const end = from + most / 4u;
                for (; from != end; ++from) {
                    const uint32_t even = *from & mask, odd = *from >> 8 & mask;
                    if (((even + above) | (odd + above) | (even - below) | (odd - below)) &
                        0x80008000u)
                        break;
                }
                x = (uint32_t)((const uint8_t *)from - plane);
                most = from == end ? layout->width - x : 4u;
            } else {
                const uint32_t head = (0u - (uint32_t)(uintptr_t)(plane + x)) & 3u;
                most = head && head < most ? head : most;
            }
            for (; most; --most, ++x) {
                const int32_t value = ec2t_mcu_value(plane[x]);
                if (value < clamp->minimum)
                    plane[x] = ec2t_mcu_byte(clamp->minimum);
                if (value > clamp->maximum)
                    plane[x] = ec2t_mcu_byte(clamp->maximum);
            }
        }
    }
}
#endif
