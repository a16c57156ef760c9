#include "planar.h"

#if defined(EC2T_MCU_HELIUM)
#include <arm_mve.h>

int ec2t_mcu_gap_list(const uint8_t *gaps, uint32_t count, const uint16_t *where, uint32_t taps,
                      uint16_t *list) {
    uint32_t at = 0, last = 0; /* tap and byte offset of the weight before */
    for (int32_t left = (int32_t)count; left > 0; left -= 8, gaps += 8, list += 8) {
        /* Running sum of eight gaps; behind the end gaps are 0. VSHLC moves lanes up and lets the
         * register's halfword in below. */
        uint16x8_t tap = vldrbq_z_u16(gaps, vctp16q((uint32_t)left));
        uint32_t in = 0;
        tap = vsetq_lane_u16((uint16_t)(vgetq_lane_u16(tap, 0) + at), tap, 0);
        tap = vaddq_u16(tap, vshlcq_u16(tap, &in, 16)), in = 0;
        tap = vaddq_u16(tap, vshlcq_u16(tap, &in, 32)), in = 0;
        uint16x8_t upper = vshlcq_u16(tap, &in, 32);
        in = 0;
        tap = vaddq_u16(tap, vshlcq_u16(upper, &in, 32));
        at = vgetq_lane_u16(tap, 7);
        if (at >= taps)
            return 0;
        const uint16x8_t offset = vldrhq_gather_shifted_offset_u16(where, tap);
        const uint32_t next = vgetq_lane_u16(offset, 7);
        in = last;
        vst1q_u16(list, vsubq_u16(offset, vshlcq_u16(offset, &in, 16)));
        last = next;
    }
    return 1;
}

#else

int ec2t_mcu_gap_list(const uint8_t *gaps, uint32_t count, const uint16_t *where, uint32_t taps,
                      uint16_t *list) {
    uint32_t at = 0, last = 0; /* tap and byte offset of the weight before */
    for (; count; --count) {
        at += *gaps++;
        if (at >= taps)
            return 0;
        const uint32_t offset = where[at];
        *list++ = (uint16_t)(offset - last);
        last = offset;
    }
    return 1;
}

#endif
