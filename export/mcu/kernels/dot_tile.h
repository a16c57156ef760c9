/* Tile of an int8 convolution on Helium: four pixels of two output channels by VMLADAVA.S8, over
 * input whose channels lie side by side (see dot_conv.c). */
#ifndef EC2T_MCU_DOT_TILE_H
#define EC2T_MCU_DOT_TILE_H
#include "planar.h"

/* Two output channels: their biases, four times each as the tile's sums begin, and multipliers. */
typedef struct {
    int32_t sums[8];
    struct {
        int32_t multiplier, shift;
    } scale[2];
} ec2t_mcu_dot_pair;

/* What a tile works on. Order and size are known to the assembly. */
typedef struct {
    const int8_t *weights; /* [pair of channels][row][block][2][16] */
    const ec2t_mcu_dot_pair *pair;
    uint8_t *output;
    const uint8_t *const *rows; /* of the first pixel, one a kernel row, then a null pointer */
    const ec2t_mcu_dot_pair *end;
    uint32_t planes;     /* bytes of two output planes */
    int32_t zero_point;  /* of the output */
    uint16_t offsets[8]; /* pixel 0 of the pair's first, of its second plane, pixel 1 ... */
} ec2t_mcu_dot_args;
typedef void (*ec2t_mcu_dot_tile)(const ec2t_mcu_dot_args *args);

/* EC2T_MCU_DOT_TILE(name, step, rows, unroll, passes, any): neighbouring pixels are `step` bytes
 * apart, a multiple of 4, at most 174, or 524 where rows is 1; a tile reads one run of taps, or
 * (rows 2) as many as the list holds, of unroll * passes blocks of sixteen taps. `any` 0: every
 * shift is negative. Literal numbers.
 *
 * Sums of the first channel live in r0, r2, r4, r6, of the second in r8, r10, r12, lr. r1 walks
 * over the weights, r3 over the first pixel, r7 over the pairs, r9 over the output, r11 over the
 * rows, or over the third pixel if far; r5 counts passes; q6 and q7 hold the output's offsets and
 * zero point. Stack: 0 rows, or the only one, 4 end, 8 planes. */
/* Assembly is laid out by hand. */
/* clang-format off */
#define EC2T_MCU_DOT_BLOCK(step)                                                                   \
    "vldrb.8 q0,[r1],#16\n vldrw.32 q2,[r3],#16\n"                                                 \
    "vmladava.s8 r0,q0,q2\n vldrb.8 q1,[r1],#16\n"                                                 \
    "vmladava.s8 r8,q1,q2\n vldrw.32 q3,[r3,#" #step "-16]\n vmladava.s8 r2,q0,q3\n"               \
    ".if 3*" #step "-16 <= 508\n vldrw.32 q2,[r3,#2*" #step "-16]\n"                               \
    ".else\n vldrw.32 q2,[r11],#16\n .endif\n"                                                     \
    "vmladava.s8 r10,q1,q3\n vmladava.s8 r4,q0,q2\n"                                               \
    ".if 3*" #step "-16 <= 508\n vldrw.32 q3,[r3,#3*" #step "-16]\n"                               \
    ".else\n vldrw.32 q3,[r11,#" #step "-16]\n .endif\n"                                           \
    "vmladava.s8 r12,q1,q2\n vmladava.s8 r6,q0,q3\n vmladava.s8 lr,q1,q3\n"
/* Sums in q0 and q1 to 32-bit outputs in q2 and q3: multipliers r0 and r4, shifts r2 and r6. Sums
 * below zero are rounded as TensorFlow Lite does by taking one off before the shift. */
#define EC2T_MCU_DOT_SCALE_0                                                                       \
    "vshr.s32 q2,q0,#31\n vshr.s32 q3,q1,#31\n vqrdmlah.s32 q2,q0,r0\n vqrdmlah.s32 q3,q1,r4\n"    \
    "vrshl.s32 q2,r2\n vrshl.s32 q3,r6\n"
/* A shift of 0 or more comes before, and then nothing is rounded a second time. */
#define EC2T_MCU_DOT_SCALE_1                                                                       \
    "asr r8,r2,#31\n bic r10,r2,r8\n and r2,r8\n vshl.s32 q0,r10\n"                                \
    "vshr.s32 q2,q0,#31\n vdup.32 q3,r8\n vand q2,q2,q3\n vqrdmlah.s32 q2,q0,r0\n"                 \
    "asr r8,r6,#31\n bic r10,r6,r8\n and r6,r8\n vshl.s32 q1,r10\n"                                \
    "vshr.s32 q3,q1,#31\n vdup.32 q0,r8\n vand q3,q3,q0\n vqrdmlah.s32 q3,q1,r4\n"                 \
    "vrshl.s32 q2,r2\n vrshl.s32 q3,r6\n"
#define EC2T_MCU_DOT_TILE(name, step, rows, unroll, passes, any)                                   \
    static __attribute__((naked, noinline)) void name(                                             \
        const ec2t_mcu_dot_args *args __attribute__((unused))) {                                   \
        __asm volatile("push {r4-r11,lr}\n vpush {d12-d15}\n sub sp,#12\n"                         \
                       "ldm r0!,{r1,r7,r9,r10,r11,r12}\n ldr r2,[r0],#4\n vldrh.16 q6,[r0]\n"      \
                       "vdup.16 q7,r2\n"                                                           \
                       ".if " #rows " == 1\n ldr r10,[r10]\n .endif\n"                             \
                       "str r10,[sp]\n strd r11,r12,[sp,#4]\n"                                     \
                       "1: ldm r7!,{r0,r2,r4,r6,r8,r10,r12,lr}\n"                                  \
                       ".if " #rows " == 1\n ldr r3,[sp]\n"                                        \
                       ".else\n ldr r11,[sp]\n ldr r3,[r11],#4\n .endif\n"                         \
                       ".if 3*" #step "-16 > 508\n addw r11,r3,#2*" #step "\n .endif\n"            \
                       "2:\n .if " #passes " > 1\n movs r5,#" #passes "\n .endif\n"                \
                       "3:\n .rept " #unroll "\n" EC2T_MCU_DOT_BLOCK(step) ".endr\n"               \
                       ".if " #passes " > 1\n subs r5,#1\n bne.w 3b\n .endif\n"                    \
                       ".if " #rows " > 1\n ldr r3,[r11],#4\n cmp r3,#0\n bne.w 2b\n .endif\n"     \
                       "vmov q0[2],q0[0],r0,r4\n vmov q0[3],q0[1],r2,r6\n"                         \
                       "vmov q1[2],q1[0],r8,r12\n vmov q1[3],q1[1],r10,lr\n"                       \
                       "ldm r7!,{r0,r2,r4,r6}\n ldrd r11,r12,[sp,#4]\n"                            \
                       EC2T_MCU_DOT_SCALE_##any                                                    \
                       "vqmovnb.s32 q2,q2\n vqmovnt.s32 q2,q3\n vqadd.s16 q2,q2,q7\n"              \
                       "vqmovnb.s16 q2,q2\n vstrb.16 q2,[r9,q6]\n add r9,r12\n"                    \
                       "cmp r7,r11\n bne.w 1b\n"                                                   \
                       "add sp,#12\n vpop {d12-d15}\n pop {r4-r11,pc}\n");                         \
    }
/* clang-format on */
#endif
