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
 * neighbouring taps. `stride` is the distance of neighbouring pixels. Runs of one tap come in
 * fours, some perhaps without weight. Literal numbers. */
#if defined(EC2T_MCU_ALIGNED)

/* ARMv6-M: at most eight pixels, all of whose inputs lie within 31 bytes. r0 input, r1 taps, r3
 * weights, r4 one of them, r5 a product, r7 the run's first input; sums in the other registers. */
/* Assembly is laid out by hand. */
/* clang-format off */
#define EC2T_MCU_DENSE_PIXEL(number, sum, pixels, stride)                                          \
    ".if " #number " < " #pixels "\n ldrb r5,[r7,#.Ltap+" #number "*" #stride "]\n muls r5,r4\n"   \
    " add " sum ",r5\n .endif\n"
#define EC2T_MCU_DENSE_RUN(pixels, run, stride)                                                    \
    " ldrh r5,[r1]\n adds r1,#2\n adds r7,r0,r5\n .set .Ltap,0\n .rept " #run "\n"                 \
    " movs r5,#.Lweight\n ldrsb r4,[r3,r5]\n"                                                      \
    EC2T_MCU_DENSE_PIXEL(0, "r8", pixels, stride) EC2T_MCU_DENSE_PIXEL(1, "r9", pixels, stride)    \
    EC2T_MCU_DENSE_PIXEL(2, "r10", pixels, stride) EC2T_MCU_DENSE_PIXEL(3, "r11", pixels, stride)  \
    EC2T_MCU_DENSE_PIXEL(4, "r12", pixels, stride) EC2T_MCU_DENSE_PIXEL(5, "lr", pixels, stride)   \
    EC2T_MCU_DENSE_PIXEL(6, "r6", pixels, stride) EC2T_MCU_DENSE_PIXEL(7, "r2", pixels, stride)    \
    ".set .Ltap,.Ltap+1\n .set .Lweight,.Lweight+1\n .endr\n"
#define EC2T_MCU_DENSE_SUM(number, move, pixels, load)                                         \
    ".if " #number " < " #pixels "\n " load " r5,[r4,#4*" #number "]\n" move "\n .endif\n"
#define EC2T_MCU_DENSE_TILE(name, pixels, run, stride)                                             \
    static __attribute__((naked, noinline)) void name(                                             \
        const uint8_t *input __attribute__((unused)), const uint16_t *taps __attribute__((unused)),\
        uint32_t runs __attribute__((unused)), const int8_t *weights __attribute__((unused)),      \
        int32_t *sums __attribute__((unused))) {                                                   \
        __asm volatile(                                                                            \
            ".syntax unified\n push {r4-r7,lr}\n mov r4,r8\n mov r5,r9\n mov r6,r10\n"             \
            " mov r7,r11\n lsls r2,r2,#1\n adds r2,r2,r1\n push {r2,r4-r7}\n ldr r4,[sp,#40]\n"    \
            EC2T_MCU_DENSE_SUM(0, "mov r8,r5", pixels, "ldr")                                      \
            EC2T_MCU_DENSE_SUM(1, "mov r9,r5", pixels, "ldr")                                      \
            EC2T_MCU_DENSE_SUM(2, "mov r10,r5", pixels, "ldr")                                     \
            EC2T_MCU_DENSE_SUM(3, "mov r11,r5", pixels, "ldr")                                     \
            EC2T_MCU_DENSE_SUM(4, "mov r12,r5", pixels, "ldr")                                     \
            EC2T_MCU_DENSE_SUM(5, "mov lr,r5", pixels, "ldr")                                      \
            EC2T_MCU_DENSE_SUM(6, "mov r6,r5", pixels, "ldr")                                      \
            EC2T_MCU_DENSE_SUM(7, "mov r2,r5", pixels, "ldr")                                      \
            "1:.set .Lweight,0\n" EC2T_MCU_DENSE_RUN(pixels, run, stride)                          \
            ".if " #run " == 1\n" EC2T_MCU_DENSE_RUN(pixels, run, stride)                          \
            EC2T_MCU_DENSE_RUN(pixels, run, stride) EC2T_MCU_DENSE_RUN(pixels, run, stride)        \
            ".endif\n adds r3,#.Lweight\n ldr r4,[sp]\n cmp r1,r4\n"                               \
            ".if .Lweight*(6*" #pixels "+8) <= 224\n bne 1b\n .else\n beq 2f\n b 1b\n .endif\n"    \
            "2: ldr r4,[sp,#40]\n"   \
            ".macro ec2t_put number, sum\n .if \\number < " #pixels "\n mov r5,\\sum\n"            \
            " str r5,[r4,#4*\\number]\n .endif\n .endm\n"                                          \
            "ec2t_put 0,r8\n ec2t_put 1,r9\n ec2t_put 2,r10\n ec2t_put 3,r11\n ec2t_put 4,r12\n"   \
            "ec2t_put 5,lr\n ec2t_put 6,r6\n ec2t_put 7,r2\n .purgem ec2t_put\n"                   \
            " pop {r2,r4-r7}\n mov r8,r4\n mov r9,r5\n mov r10,r6\n mov r11,r7\n pop {r4-r7,pc}\n");\
    }
/* clang-format on */

#elif defined(__thumb2__)

/* ARMv7-M: r0 input, r1 taps, r3 weights, r12 one of them, lr an input, r2 the run's first; sums in
 * r4 to r11, whatever the number of pixels. */
/* clang-format off */
#define EC2T_MCU_DENSE_PIXEL(number, sum, pixels, stride)                                          \
    ".if " #number " < " #pixels "\n ldrb lr,[r2,#.Ltap+" #number "*" #stride "]\n"                \
    " mla " sum ",lr,r12," sum "\n .endif\n"
#define EC2T_MCU_DENSE_RUN(pixels, run, stride)                                                    \
    " ldrh lr,[r1],#2\n add r2,r0,lr\n .set .Ltap,0\n .rept " #run "\n ldrsb r12,[r3],#1\n"         \
    EC2T_MCU_DENSE_PIXEL(0, "r4", pixels, stride) EC2T_MCU_DENSE_PIXEL(1, "r5", pixels, stride)    \
    EC2T_MCU_DENSE_PIXEL(2, "r6", pixels, stride) EC2T_MCU_DENSE_PIXEL(3, "r7", pixels, stride)    \
    EC2T_MCU_DENSE_PIXEL(4, "r8", pixels, stride) EC2T_MCU_DENSE_PIXEL(5, "r9", pixels, stride)    \
    EC2T_MCU_DENSE_PIXEL(6, "r10", pixels, stride) EC2T_MCU_DENSE_PIXEL(7, "r11", pixels, stride)  \
    ".set .Ltap,.Ltap+1\n .endr\n"
#define EC2T_MCU_DENSE_TILE(name, pixels, run, stride)                                             \
    static __attribute__((naked, noinline)) void name(                                             \
        const uint8_t *input __attribute__((unused)), const uint16_t *taps __attribute__((unused)),\
        uint32_t runs __attribute__((unused)), const int8_t *weights __attribute__((unused)),      \
        int32_t *sums __attribute__((unused))) {                                                   \
        __asm volatile(                                                                            \
            "push {r4-r11,lr}\n ldr r12,[sp,#36]\n ldm r12,{r4-r11}\n add r2,r1,r2,lsl #1\n"       \
            " push {r2}\n1:" EC2T_MCU_DENSE_RUN(pixels, run, stride)                               \
            ".if " #run " == 1\n" EC2T_MCU_DENSE_RUN(pixels, run, stride)                          \
            EC2T_MCU_DENSE_RUN(pixels, run, stride) EC2T_MCU_DENSE_RUN(pixels, run, stride)        \
            ".endif\n ldr lr,[sp]\n cmp r1,lr\n bne.w 1b\n"                                        \
            " ldr r12,[sp,#40]\n stm r12,{r4-r11}\n add sp,#4\n pop {r4-r11,pc}\n");               \
    }
/* clang-format on */

#else

#define EC2T_MCU_DENSE_TILE(name, pixels, run, stride)                                             \
    static __attribute__((noinline)) void name(const uint8_t *input, const uint16_t *taps,         \
                                               uint32_t runs, const int8_t *weights,               \
                                               int32_t *sums) {                                    \
        int32_t sum[pixels];                                                                       \
        _Pragma("GCC unroll 8") for (uint32_t i = 0; i < (pixels); ++i) sum[i] = sums[i];          \
        for (const uint16_t *const end = taps + runs; taps != end; weights += (run)) {             \
            const uint8_t *p = input + *taps++;                                                    \
            int32_t w[run];                                                                        \
            _Pragma("GCC unroll 8") for (uint32_t k = 0; k < (run); ++k) w[k] = weights[k];        \
            /* Every input once, to all pixels that see it. */                                     \
            _Pragma("GCC unroll 32") for (uint32_t j = 0; j < (run) + ((pixels) - 1u) * (stride);  \
                                          ++j) {                                                   \
                const int32_t x = p[j];                                                            \
                _Pragma("GCC unroll 8") for (uint32_t k = 0; k < (run); ++k) {                     \
                    if (j >= k && (j - k) % (stride) == 0u && (j - k) / (stride) < (pixels))       \
                        sum[(j - k) / (stride)] += w[k] * x;                                       \
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
#endif
