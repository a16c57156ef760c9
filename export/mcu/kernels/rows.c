/* Copies of some rows of every plane, between memories that do not overlap: nets in strips. */
#include "planar.h"

#if defined(EC2T_MCU_HELIUM)
#include <arm_mve.h>
#endif

static inline void copy(const uint8_t *from, uint8_t *to, uint32_t count) {
#if defined(EC2T_MCU_HELIUM)
    for (int32_t left = (int32_t)count; left > 0; left -= 16, from += 16, to += 16) {
        const mve_pred16_t inside = vctp8q((uint32_t)left);
        vstrbq_p_u8(to, vldrbq_z_u8(from, inside), inside);
    }
#else
#if !defined(EC2T_MCU_ALIGNED)
    for (; count >= 4u; count -= 4u, from += 4, to += 4) {
        uint32_t word;
        __builtin_memcpy(&word, from, 4);
        __builtin_memcpy(to, &word, 4);
    }
#endif
    while (count--)
        *to++ = *from++;
#endif
}

void ec2t_mcu_rows_run(const ec2t_mcu_rows *layer, const uint8_t *input, uint8_t *output) {
    const uint32_t width = layer->width;
    for (uint32_t c = layer->channels; c; --c) {
        const uint8_t *from = input;
        uint8_t *to = output;
        for (uint32_t y = layer->rows; y; --y, from += layer->in_pitch, to += layer->out_pitch)
            copy(from, to, width);
        input += layer->in_plane, output += layer->out_plane;
    }
}
