#include "planar.h"

#if defined(EC2T_MCU_HELIUM)
#include <arm_mve.h>
#endif

/* Towards lower addresses; the two may overlap. */
static void forward(uint8_t *to, const uint8_t *from, uint32_t count) {
#if defined(EC2T_MCU_HELIUM)
    for (uint32_t n = count / 64u; n; --n, to += 64, from += 64) {
        const uint8x16_t a = vldrbq_u8(from), b = vldrbq_u8(from + 16);
        const uint8x16_t c = vldrbq_u8(from + 32), d = vldrbq_u8(from + 48);
        vstrbq_u8(to, a), vstrbq_u8(to + 16, b), vstrbq_u8(to + 32, c), vstrbq_u8(to + 48, d);
    }
    for (uint32_t n = count % 64u / 16u; n; --n, to += 16, from += 16)
        vstrbq_u8(to, vldrbq_u8(from));
    const mve_pred16_t rest = vctp8q(count % 16u);
    vstrbq_p_u8(to, vldrbq_z_u8(from, rest), rest);
    count = 0;
#elif !defined(EC2T_MCU_ALIGNED)
    for (; count >= 32u; count -= 32u, to += 32, from += 32) {
        uint32_t words[8]; /* all are read before one is written */
        __builtin_memcpy(words, from, 32);
        __builtin_memcpy(to, words, 32);
    }
    for (; count >= 4u; count -= 4u, to += 4, from += 4) {
        uint32_t word;
        __builtin_memcpy(&word, from, 4);
        __builtin_memcpy(to, &word, 4);
    }
#endif
    for (; count; --count)
        *to++ = *from++;
}

void ec2t_mcu_slide_run(const ec2t_mcu_slide *layer, const uint8_t *input, uint8_t *window) {
    const ec2t_mcu_planar *in = &layer->in, *out = &layer->window;
    const uint32_t pitch = out->pitch, plane = out->plane, channels = out->channels;
    const uint32_t columns = (uint32_t)out->width - layer->columns;
    const uint32_t rows = (uint32_t)out->height - layer->rows;
    /* Where the new ones go: below the rows that move, or right of the columns. */
    uint8_t *to = window + (layer->rows ? rows * pitch : columns);
    const uint32_t by = layer->rows ? layer->rows * pitch : layer->columns;
    if (plane == out->height * pitch && (layer->rows || rows == 1u)) {
        /* Without borders in between all channels move at once: what comes from the next one is
         * where the new ones go. */
        forward(window, window + by, channels * plane - by);
    } else if (layer->rows) {
        for (uint32_t c = channels; c; --c, window += plane)
            forward(window, window + by, rows * pitch);
    } else {
        for (uint32_t c = channels; c; --c, window += plane) {
            for (uint32_t y = 0; y < rows; ++y)
                forward(window + y * pitch, window + y * pitch + by, columns);
        }
    }
    if (in->height == 1u && in->width == 1u && in->plane == 1u) {
#if defined(EC2T_MCU_HELIUM)
        if (7u * plane <= 0xffffu) {
            const uint16x8_t places = vmulq_n_u16(vidupq_n_u16(0, 1), (uint16_t)plane);
            uint32_t left = channels;
            for (; left >= 8u; left -= 8u, input += 8, to += 8u * plane)
                vstrbq_scatter_offset_u16(to, places, vldrbq_u16(input));
            const mve_pred16_t rest = vctp16q(left);
            vstrbq_scatter_offset_p_u16(to, places, vldrbq_z_u16(input, rest), rest);
            return;
        }
#endif
        for (const uint8_t *const end = input + (channels & ~3u); input != end; input += 4) {
            uint8_t *const second = to + plane, *const third = second + plane;
            const uint8_t a = input[0], b = input[1], c = input[2], d = input[3];
            *to = a, *second = b, *third = c, third[plane] = d;
            to = third + 2u * plane;
        }
        for (uint32_t left = channels & 3u; left; --left, to += plane)
            *to = *input++;
        return;
    }
    for (uint32_t c = channels; c; --c, input += in->plane, to += plane) {
        for (uint32_t y = 0; y < in->height; ++y) {
            for (uint32_t x = 0; x < in->width; ++x)
                to[y * pitch + x] = input[y * in->pitch + x];
        }
    }
}
