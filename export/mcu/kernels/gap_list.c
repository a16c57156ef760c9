#include "planar.h"

#if defined(EC2T_MCU_HELIUM)

/* clang-format off */
/* Eight weights a turn. A low byte below the one before means that 256 taps have begun anew: all
 * lanes from there on are 256 greater. VSHLC moves lanes up, lets the register's halfword in below
 * and keeps the last lane for the next turn: r5 for low bytes, r6 for offsets; r7 is 256 times the
 * blocks begun. */
__attribute__((naked)) int ec2t_mcu_gap_list(const uint8_t *gaps __attribute__((unused)),
                                             uint32_t count __attribute__((unused)),
                                             const uint16_t *where __attribute__((unused)),
                                             uint32_t taps __attribute__((unused)),
                                             uint16_t *list __attribute__((unused))) {
    __asm volatile("push {r4-r8,lr}\n ldr r4,[sp,#24]\n mov r12,#256\n"
                   "movs r5,#0\n movs r6,#0\n movs r7,#0\n wlstp.16 lr,r1,4f\n"
                   "1: vldrb.u16 q0,[r0],#8\n vmov q1,q0\n vshlc q1,r5,#16\n"
                   "vcmp.u16 hi,q1,q0\n vmrs r1,p0\n vadd.i16 q0,q0,r7\n cbnz r1,3f\n"
                   "2: vcmp.u16 cs,q0,r3\n vmrs r1,p0\n cbnz r1,5f\n"
                   "vldrh.u16 q1,[r2,q0,uxtw #1]\n vmov q2,q1\n vshlc q2,r6,#16\n"
                   "vsub.i16 q1,q1,q2\n vstrh.16 q1,[r4],#16\n letp lr,1b\n"
                   "4: movs r0,#1\n pop {r4-r8,pc}\n"
                   /* P0 has two bits a lane: from the lowest that is set on, all */
                   "3: rsbs r8,r1,#0\n and r8,r8,r1\n rsb r8,r8,#0\n vmsr p0,r8\n"
                   "vpst\n vaddt.i16 q0,q0,r12\n add r7,r7,#256\n"
                   "sub r8,r1,#1\n and r1,r1,r8\n sub r8,r1,#1\n ands r1,r1,r8\n bne 3b\n b 2b\n"
                   "5: lctp\n movs r0,#0\n pop {r4-r8,pc}\n");
}
/* clang-format on */

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

#if defined(EC2T_MCU_BY_PLACE)
int ec2t_mcu_gap_offsets(const uint8_t *gaps, uint32_t count, const uint16_t *where, uint32_t taps,
                         uint16_t *list) {
    const uint16_t *const end = where + taps;
    for (; count; --count) {
        const uint32_t gap = *gaps++;
        if (gap >= (uint32_t)(end - where))
            return 0;
        where += gap;
        *list++ = *where;
    }
    return 1;
}
#endif

#endif
