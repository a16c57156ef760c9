/* Tiles of an int8 convolution on cores without DSP instructions and on Helium. A generated model
 * instantiates the shapes it needs. */
#ifndef EC2T_MCU_DENSE_TILE_H
#define EC2T_MCU_DENSE_TILE_H
#include "planar.h"

#if defined(EC2T_MCU_HELIUM)

/* EC2T_MCU_DENSE_TILE(name, second, third, stride, out_second, out_third, out_fourth): sixteen
 * pixels in four groups that start 0, second, third and second + third bytes from the tile's first
 * input byte. `stride` (1 or 2) is the distance of neighbouring pixels. Literal numbers.
 *
 * Sums lie in q0 to q3; r0 walks over the input, r3 over the distances of the taps, r4 over the
 * weights. With stride 2 bytes are gathered, q6 and q7 hold their places. */
/* Assembly is laid out by hand. */
/* clang-format off */
#define EC2T_MCU_DENSE_START_1(second, third)
#define EC2T_MCU_DENSE_START_2(second, third)                                                      \
    "movs r6,#0\n vidup.u32 q6,r6,#2\n movw r6,#" #second "\n vadd.i32 q7,q6,r6\n"                 \
    "movw r1,#" #third "\n"
#define EC2T_MCU_DENSE_TAP_1(second, third)                                                        \
    "ldrsb r12,[r4],#1\n vldrb.s32 q4,[r0]\n vldrb.s32 q5,[r0,#" #second "]\n"                     \
    "vmla.s32 q0,q4,r12\n vldrb.s32 q4,[r0,#" #third "]\n vmla.s32 q1,q5,r12\n"                    \
    "vldrb.s32 q5,[r0,#" #second "+" #third "]\n vmla.s32 q2,q4,r12\n vmla.s32 q3,q5,r12\n"
#define EC2T_MCU_DENSE_TAP_2(second, third)                                                        \
    "ldrsb r12,[r4],#1\n add r2,r0,r1\n vldrb.s32 q4,[r0,q6]\n vldrb.s32 q5,[r0,q7]\n"             \
    "vmla.s32 q0,q4,r12\n vldrb.s32 q4,[r2,q6]\n vmla.s32 q1,q5,r12\n vldrb.s32 q5,[r2,q7]\n"      \
    "vmla.s32 q2,q4,r12\n vmla.s32 q3,q5,r12\n"
/* Less one where negative, shifted with rounding by r9, the zero point r8 added. */
#define EC2T_MCU_DENSE_PUT(sums, out)                                                              \
    "vshr.s32 q4," sums ",#31\n vqrdmlah.s32 q4," sums ",r7\n vrshl.s32 q4,r9\n"                   \
    "vqmovnb.s32 q4,q4\n vqadd.s16 q4,q4,r8\n vqmovnb.s16 q4,q4\n vstrb.32 q4,[r2,#" out "]\n"
#define EC2T_MCU_DENSE_TILE(name, second, third, stride, out_second, out_third, out_fourth)        \
    static __attribute__((naked, noinline)) void name(                                             \
        const uint8_t *input __attribute__((unused)),                                              \
        const ec2t_mcu_dense_fast *channel __attribute__((unused)),                                \
        uint8_t *output __attribute__((unused))) {                                                 \
        __asm volatile("push {r2,r4-r9,lr}\n vpush {d8-d15}\n"                                     \
                       "ldm r1,{r3-r9}\n vdup.32 q0,r6\n vmov q1,q0\n vmov q2,q0\n vmov q3,q0\n"   \
                       EC2T_MCU_DENSE_START_##stride(second, third)                                \
                       "lsls r6,r5,#31\n bpl 1f\n ldrh r6,[r3],#2\n add r0,r6\n"                   \
                       EC2T_MCU_DENSE_TAP_##stride(second, third)                                  \
                       "1: lsrs r5,r5,#1\n wls lr,r5,3f\n"                                         \
                       "2: ldr r6,[r3],#4\n uxtah r0,r0,r6\n"                                      \
                       EC2T_MCU_DENSE_TAP_##stride(second, third)                                  \
                       "uxtah r0,r0,r6,ror #16\n"                                                  \
                       EC2T_MCU_DENSE_TAP_##stride(second, third)                                  \
                       "le lr,2b\n 3: ldr r2,[sp,#64]\n"                                           \
                       EC2T_MCU_DENSE_PUT("q0", "0")                                               \
                       EC2T_MCU_DENSE_PUT("q1", #out_second)                                       \
                       EC2T_MCU_DENSE_PUT("q2", #out_third)                                        \
                       EC2T_MCU_DENSE_PUT("q3", #out_fourth)                                       \
                       "vpop {d8-d15}\n pop {r2,r4-r9,pc}\n");                                     \
    }
/* clang-format on */

#else

/* EC2T_MCU_DENSE_TILE(name, pixels, run, stride): neighbouring pixels of a row, over runs of
 * neighbouring taps. `stride` is the distance of neighbouring pixels. Literal numbers. */
#define EC2T_MCU_DENSE_TILE(name, pixels, run, stride)                                             \
    static __attribute__((noinline)) void name(const uint8_t *input, const uint16_t *taps,         \
                                               uint32_t runs, const int8_t *weights,               \
                                               int32_t *sums) {                                    \
        int32_t sum[pixels];                                                                       \
        _Pragma("GCC unroll 8") for (uint32_t i = 0; i < (pixels); ++i) sum[i] = sums[i];          \
        for (const uint16_t *const end = taps + runs; taps != end;) {                              \
            const uint8_t *p = input + *taps++;                                                    \
            _Pragma("GCC unroll 8") for (uint32_t k = 0; k < (run); ++k) {                         \
                const int32_t w = *weights++;                                                      \
                _Pragma("GCC unroll 8") for (uint32_t i = 0; i < (pixels); ++i) {                  \
                    sum[i] += w * p[k + i * (stride)];                                             \
                }                                                                                  \
                /* Without this the compiler keeps inputs of several taps, and runs out of         \
                 * registers. */                                                                   \
                __asm volatile("" ::: "memory");                                                   \
            }                                                                                      \
        }                                                                                          \
        _Pragma("GCC unroll 8") for (uint32_t i = 0; i < (pixels); ++i) sums[i] = sum[i];          \
    }

#endif
#endif
