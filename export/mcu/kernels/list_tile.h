/* Tiles of a list convolution. A generated model instantiates the shapes it needs:
 *   EC2T_MCU_TILE(name, second, third, fourth, stride, out_second, out_third, out_fourth)
 * (EC2T_MCU_TILE_BY_PLACE for lists by place)
 * defines name_sums, and name_fast where the core has one. Groups start 0, second, third and fourth
 * bytes from the tile's first input byte, and 0, out_second, ... from its first output byte;
 * `stride` (1 or 2) is the distance of neighbouring pixels. All are literal numbers. */
#ifndef EC2T_MCU_LIST_TILE_H
#define EC2T_MCU_LIST_TILE_H
#include "list_places.h"
#include "requantise.h"

#if defined(EC2T_MCU_SWAR)

static inline void ec2t_mcu_add_lanes(uint32_t lanes, int32_t bias, int32_t value, int32_t *low,
                                      int32_t *high) {
    *low += value * ((int32_t)(lanes & 0xffffu) - bias);
    *high += value * ((int32_t)(lanes >> 16) - bias);
}
static inline __attribute__((unused)) void ec2t_mcu_add_group_1(ec2t_mcu_lanes lanes, int32_t bias,
                                                                int32_t value, int32_t *sums) {
    ec2t_mcu_add_lanes(lanes.even, bias, value, &sums[0], &sums[2]);
    ec2t_mcu_add_lanes(lanes.odd, bias, value, &sums[1], &sums[3]);
}
static inline __attribute__((unused)) void ec2t_mcu_add_group_2(ec2t_mcu_lanes lanes, int32_t bias,
                                                                int32_t value, int32_t *sums) {
    ec2t_mcu_add_lanes(lanes.even, bias, value, &sums[0], &sums[1]);
    ec2t_mcu_add_lanes(lanes.odd, bias, value, &sums[2], &sums[3]);
}

static inline uint8_t ec2t_mcu_pixel(uint32_t minus, uint32_t plus, const ec2t_mcu_fast *c) {
    const int32_t sum = (int32_t)((uint32_t)c->bias + minus * (uint32_t)c->minus_scale +
                                  plus * (uint32_t)c->plus_scale);
    return ec2t_mcu_saturated(ec2t_mcu_fast_shifted(sum, c->multiplier, c->rounding, c->right));
}
static inline __attribute__((unused)) void
ec2t_mcu_store_1(ec2t_mcu_lanes minus, ec2t_mcu_lanes plus, const ec2t_mcu_fast *c, uint8_t *to) {
    to[0] = ec2t_mcu_pixel(minus.even & 0xffffu, plus.even & 0xffffu, c);
    to[1] = ec2t_mcu_pixel(minus.odd & 0xffffu, plus.odd & 0xffffu, c);
    to[2] = ec2t_mcu_pixel(minus.even >> 16, plus.even >> 16, c);
    to[3] = ec2t_mcu_pixel(minus.odd >> 16, plus.odd >> 16, c);
}
static inline __attribute__((unused)) void
ec2t_mcu_store_2(ec2t_mcu_lanes minus, ec2t_mcu_lanes plus, const ec2t_mcu_fast *c, uint8_t *to) {
    to[0] = ec2t_mcu_pixel(minus.even & 0xffffu, plus.even & 0xffffu, c);
    to[1] = ec2t_mcu_pixel(minus.even >> 16, plus.even >> 16, c);
    to[2] = ec2t_mcu_pixel(minus.odd & 0xffffu, plus.odd & 0xffffu, c);
    to[3] = ec2t_mcu_pixel(minus.odd >> 16, plus.odd >> 16, c);
}

#define EC2T_MCU_TILE(name, second, third, fourth, stride, out_second, out_third, out_fourth)      \
    static __attribute__((noinline)) void name##_lanes(const uint8_t *p, const uint16_t *list,     \
                                                       uint32_t count, ec2t_mcu_lanes *lanes) {    \
        EC2T_MCU_LANES(p, list, count, lanes, second, third, fourth, stride);                      \
    }                                                                                              \
    static void name##_sums(const uint8_t *input, const uint16_t *list, uint32_t count,            \
                            int32_t value, int32_t *sums) {                                        \
        ec2t_mcu_lanes lanes[4];                                                                   \
        name##_lanes(input, list, count, lanes);                                                   \
        for (int i = 0; i < 4; ++i) {                                                              \
            ec2t_mcu_add_group_##stride(lanes[i], (int32_t)(count * EC2T_MCU_FLIP), value,         \
                                        sums + 4 * i);                                             \
        }                                                                                          \
    }                                                                                              \
    static void name##_fast(const uint8_t *input, const ec2t_mcu_fast *channel, uint8_t *output) { \
        static const uint16_t places[4] = {0, out_second, out_third, out_fourth};                  \
        ec2t_mcu_lanes both[8]; /* one address instead of two */                                   \
        const ec2t_mcu_fast constants = *channel;                                                  \
        name##_lanes(input, constants.minus_list, constants.minus_count, both);                    \
        name##_lanes(input, constants.plus_list, constants.plus_count, both + 4);                  \
        for (int i = 0; i < 4; ++i) {                                                              \
            ec2t_mcu_store_##stride(both[i], both[i + 4], &constants, output + places[i]);         \
        }                                                                                          \
    }
#if defined(EC2T_MCU_BY_PLACE)
/* The same for lists by place; the second and the fourth group follow the first and the third. */
#define EC2T_MCU_TILE_BY_PLACE(name, second, third, fourth, stride, out_second, out_third,         \
                               out_fourth)                                                         \
    static inline void name##_lanes(const uint8_t *p, const ec2t_mcu_part *parts,                  \
                                    ec2t_mcu_lanes *lanes) {                                       \
        if ((third) == 8 * (stride)) {                                                             \
            ec2t_mcu_sixteen_places_##stride(p, parts, lanes);                                     \
        } else {                                                                                   \
            ec2t_mcu_eight_places_##stride(p, parts, lanes);                                       \
            ec2t_mcu_eight_places_##stride(p + (third), parts, lanes + 2);                         \
        }                                                                                          \
    }                                                                                              \
    static void name##_sums(const uint8_t *input, const uint16_t *list, uint32_t count,            \
                            int32_t value, int32_t *sums) {                                        \
        ec2t_mcu_part parts[EC2T_MCU_PARTS];                                                       \
        ec2t_mcu_lanes lanes[4];                                                                   \
        ec2t_mcu_split(list, count, parts);                                                        \
        name##_lanes(input, parts, lanes);                                                         \
        for (int i = 0; i < 4; ++i) {                                                              \
            ec2t_mcu_add_group_##stride(lanes[i], (int32_t)(count * EC2T_MCU_FLIP), value,         \
                                        sums + 4 * i);                                             \
        }                                                                                          \
    }                                                                                              \
    static void name##_fast(const uint8_t *input, const ec2t_mcu_fast *channel, uint8_t *output) { \
        static const uint16_t places[4] = {0, out_second, out_third, out_fourth};                  \
        ec2t_mcu_lanes minus[4], plus[4];                                                          \
        name##_lanes(input, channel->minus_parts, minus);                                          \
        name##_lanes(input, channel->plus_parts, plus);                                            \
        const ec2t_mcu_fast constants = *channel;                                                  \
        for (int i = 0; i < 4; ++i) {                                                              \
            ec2t_mcu_store_##stride(minus[i], plus[i], &constants, output + places[i]);            \
        }                                                                                          \
    }
#endif
#define EC2T_MCU_TILE_FAST(name) name##_fast

#elif defined(EC2T_MCU_DSP)

static inline uint32_t ec2t_mcu_word(const uint8_t *p) {
    uint32_t word;
    __builtin_memcpy(&word, p, 4);
    return word;
}
static inline uint32_t ec2t_mcu_add_even(uint32_t sums, uint32_t bytes) {
    uint32_t result;
    __asm("sxtab16 %0,%1,%2" : "=r"(result) : "r"(sums), "r"(bytes));
    return result;
}
static inline uint32_t ec2t_mcu_add_odd(uint32_t sums, uint32_t bytes) {
    uint32_t result;
    __asm("sxtab16 %0,%1,%2,ror #8" : "=r"(result) : "r"(sums), "r"(bytes));
    return result;
}
static inline void ec2t_mcu_lanes(uint32_t pair, int32_t value, int32_t *low, int32_t *high) {
    *low += value * (int16_t)(uint16_t)pair;
    *high += value * ((int32_t)pair >> 16);
}
static inline __attribute__((always_inline)) void ec2t_mcu_half_1(const uint8_t *p,
                                                                  const uint16_t *list,
                                                                  uint32_t count, int32_t value,
                                                                  int32_t *sums, uint32_t second) {
    uint32_t a = 0, b = 0, c = 0, d = 0;
    for (const uint16_t *end = list + count; list != end;) {
        p += *list++;
        const uint32_t u = ec2t_mcu_word(p), v = ec2t_mcu_word(p + second);
        a = ec2t_mcu_add_even(a, u), b = ec2t_mcu_add_odd(b, u);
        c = ec2t_mcu_add_even(c, v), d = ec2t_mcu_add_odd(d, v);
    }
    ec2t_mcu_lanes(a, value, &sums[0], &sums[2]);
    ec2t_mcu_lanes(b, value, &sums[1], &sums[3]);
    ec2t_mcu_lanes(c, value, &sums[4], &sums[6]);
    ec2t_mcu_lanes(d, value, &sums[5], &sums[7]);
}
static inline __attribute__((always_inline)) void ec2t_mcu_half_2(const uint8_t *p,
                                                                  const uint16_t *list,
                                                                  uint32_t count, int32_t value,
                                                                  int32_t *sums, uint32_t second) {
    uint32_t a = 0, b = 0, c = 0, d = 0;
    for (const uint16_t *end = list + count; list != end;) {
        p += *list++;
        a = ec2t_mcu_add_even(a, ec2t_mcu_word(p)), b = ec2t_mcu_add_even(b, ec2t_mcu_word(p + 4));
        c = ec2t_mcu_add_even(c, ec2t_mcu_word(p + second)),
        d = ec2t_mcu_add_even(d, ec2t_mcu_word(p + second + 4));
    }
    ec2t_mcu_lanes(a, value, &sums[0], &sums[1]);
    ec2t_mcu_lanes(b, value, &sums[2], &sums[3]);
    ec2t_mcu_lanes(c, value, &sums[4], &sums[5]);
    ec2t_mcu_lanes(d, value, &sums[6], &sums[7]);
}
/* The fast tile in assembly: the compiler runs out of registers. Sixteen pixels live in r4 to r11,
 * two 16-bit lanes each; r0 walks over the input, r1 over the list up to r2; r3 holds two
 * distances. The minus list comes first, its sums wait on the stack. Offsets of the stack: 0 pass,
 * 8 minus sums, 40 input, 44 channel, 48 output. */
#define EC2T_MCU_HALF_1(first, second)                                                             \
    "ldr r12," first "\n ldr lr," second "\n"                                                      \
    "sxtab16 r4,r4,r12\n sxtab16 r5,r5,r12,ror #8\n"                                               \
    "sxtab16 r6,r6,lr\n sxtab16 r7,r7,lr,ror #8\n"
#define EC2T_MCU_LAST_1                                                                            \
    "sxtab16 r8,r8,r12\n sxtab16 r9,r9,r12,ror #8\n"                                               \
    "sxtab16 r10,r10,lr\n sxtab16 r11,r11,lr,ror #8\n"
#define EC2T_MCU_TAP_1(second, third, fourth)                                                      \
    EC2T_MCU_HALF_1("[r0]", "[r0,#" #second "]")                                                   \
    "ldr r12,[r0,#" #third "]\n ldr lr,[r0,#" #fourth "]\n" EC2T_MCU_LAST_1
#define EC2T_MCU_TAP_2(second, third, fourth)                                                      \
    "ldr r12,[r0]\n ldr lr,[r0,#4]\n sxtab16 r4,r4,r12\n sxtab16 r5,r5,lr\n"                       \
    "ldr r12,[r0,#" #second "]\n ldr lr,[r0,#" #second "+4]\n"                                     \
    "sxtab16 r6,r6,r12\n sxtab16 r7,r7,lr\n"                                                       \
    "ldr r12,[r0,#" #third "]\n ldr lr,[r0,#" #third "+4]\n"                                       \
    "sxtab16 r8,r8,r12\n sxtab16 r9,r9,lr\n"                                                       \
    "ldr r12,[r0,#" #fourth "]\n ldr lr,[r0,#" #fourth "+4]\n"                                     \
    "sxtab16 r10,r10,r12\n sxtab16 r11,r11,lr\n"
/* The first tap of a list: loaded, not added. */
#define EC2T_MCU_FIRST_1(second, third, fourth)                                                    \
    "ldr r12,[r0]\n ldr lr,[r0,#" #second "]\n"                                                    \
    "sxtb16 r4,r12\n sxtb16 r5,r12,ror #8\n sxtb16 r6,lr\n sxtb16 r7,lr,ror #8\n"                  \
    "ldr r12,[r0,#" #third "]\n ldr lr,[r0,#" #fourth "]\n"                                        \
    "sxtb16 r8,r12\n sxtb16 r9,r12,ror #8\n sxtb16 r10,lr\n sxtb16 r11,lr,ror #8\n"
#define EC2T_MCU_FIRST_2(second, third, fourth)                                                    \
    "ldr r12,[r0]\n ldr lr,[r0,#4]\n sxtb16 r4,r12\n sxtb16 r5,lr\n"                               \
    "ldr r12,[r0,#" #second "]\n ldr lr,[r0,#" #second "+4]\n sxtb16 r6,r12\n sxtb16 r7,lr\n"      \
    "ldr r12,[r0,#" #third "]\n ldr lr,[r0,#" #third "+4]\n sxtb16 r8,r12\n sxtb16 r9,lr\n"        \
    "ldr r12,[r0,#" #fourth "]\n ldr lr,[r0,#" #fourth "+4]\n sxtb16 r10,r12\n sxtb16 r11,lr\n"
/* Four pixels from the registers `even` and `odd` and the minus sums at `place` of the stack;
 * x1, x2 and y1, y2 name the registers of the pixels 0, 2 and 1, 3 after the multiplications. */
#define EC2T_MCU_REQUANTISE(even, odd, place, x2, y1, free, out)                                   \
    "ldrd r8,r9,[sp,#" place "]\n"                                                                 \
    "smlabb r10,r8,r1,r0\n smlatb r8,r8,r1,r0\n smlabb r11,r9,r1,r0\n smlatb r9,r9,r1,r0\n"        \
    "smlabt r10," even ",r2,r10\n smlatt r8," even ",r2,r8\n"                                      \
    "smlabt r11," odd ",r2,r11\n smlatt r9," odd ",r2,r9\n"                                        \
    "smmlar " even ",r10,r3,r12\n add " even "," even ",r10,asr #31\n"                             \
    "smmlar " odd "," x2 ",r3,r12\n add " odd "," odd "," x2 ",asr #31\n"                          \
    "asr " even "," even ",r2\n asr " odd "," odd ",r2\n"                                          \
    "pkhbt " even "," even "," odd ",lsl #16\n"                                                    \
    "smmlar r10," y1 ",r3,r12\n add r10,r10," y1 ",asr #31\n"                                      \
    "smmlar " free ",r9,r3,r12\n add " free "," free ",r9,asr #31\n"                               \
    "asr r10,r10,r2\n asr " free "," free ",r2\n pkhbt r10,r10," free ",lsl #16\n"                 \
    "ssat16 " even ",#8," even "\n ssat16 r10,#8,r10\n"                                            \
    "uxtb16 " even "," even "\n uxtb16 r10,r10\n orr " even "," even ",r10,lsl #8\n"               \
    "str " even ",[lr,#" out "]\n"
#define EC2T_MCU_REQUANTISE_1(even, odd, place, out)                                               \
    EC2T_MCU_REQUANTISE(even, odd, place, "r8", "r11", "r8", out)
#define EC2T_MCU_REQUANTISE_2(even, odd, place, out)                                               \
    EC2T_MCU_REQUANTISE(even, odd, place, "r11", "r8", "r11", out)

/* clang-format off */
#define EC2T_MCU_TILE(name, second, third, fourth, stride, out_second, out_third, out_fourth)      \
    static void name##_sums(const uint8_t *input, const uint16_t *list, uint32_t count,            \
                            int32_t value, int32_t *sums) {                                        \
        ec2t_mcu_half_##stride(input, list, count, value, sums, second);                           \
        ec2t_mcu_half_##stride(input + (third), list, count, value, sums + 8,                      \
                               (fourth) - (third));                                                \
    }                                                                                              \
    static __attribute__((naked, noinline)) void name##_fast(                                      \
        const uint8_t *input __attribute__((unused)),                                              \
        const ec2t_mcu_fast *channel __attribute__((unused)),                                      \
        uint8_t *output __attribute__((unused))) {                                                 \
        __asm volatile("push {r0-r2,r4-r11,lr}\n sub sp,#40\n"                                     \
                       "ldrd r1,r2,[r1]\n movs r3,#0\n str r3,[sp]\n"                              \
                       "1: cbnz r2,7f\n movs r4,#0\n movs r5,#0\n movs r6,#0\n movs r7,#0\n"        \
                       "mov r8,r4\n mov r9,r4\n mov r10,r4\n mov r11,r4\n b 5f\n"                 \
                       "7: add r2,r1,r2,lsl #1\n ldrh r3,[r1],#2\n add r0,r3\n"                   \
                       EC2T_MCU_FIRST_##stride(second, third, fourth)                              \
                       "sub r3,r2,r1\n lsls r3,r3,#30\n bpl 2f\n"                                 \
                       "ldrh r3,[r1],#2\n add r0,r3\n"                                            \
                       EC2T_MCU_TAP_##stride(second, third, fourth)                                \
                       "2: sub r3,r2,r1\n lsls r3,r3,#29\n bpl 3f\n"                               \
                       EC2T_MCU_TWO_TAPS_##stride(second, third, fourth)                           \
                       "3: cmp r1,r2\n beq 5f\n 4:\n"                                              \
                       EC2T_MCU_TWO_TAPS_##stride(second, third, fourth)                           \
                       EC2T_MCU_TWO_TAPS_##stride(second, third, fourth)                           \
                       "cmp r1,r2\n bne 4b\n"                                                      \
                       "5: ldr r3,[sp]\n cbnz r3,6f\n add r12,sp,#8\n stm r12,{r4-r11}\n"          \
                       "str sp,[sp]\n ldrd r0,r1,[sp,#40]\n ldrd r1,r2,[r1,#8]\n"                 \
                       "b 1b\n"                                                                    \
                       "6: ldrd r0,lr,[sp,#44]\n push {r8-r11}\n"                                  \
                       "add r0,#16\n ldm r0,{r0-r3,r12}\n"                                         \
                       EC2T_MCU_REQUANTISE_##stride("r4", "r5", "24", "0")                         \
                       EC2T_MCU_REQUANTISE_##stride("r6", "r7", "32", #out_second)                 \
                       "pop {r4-r7}\n"                                                             \
                       EC2T_MCU_REQUANTISE_##stride("r4", "r5", "24", #out_third)                  \
                       EC2T_MCU_REQUANTISE_##stride("r6", "r7", "32", #out_fourth)                 \
                       "add sp,#52\n pop {r4-r11,pc}\n");                                          \
    }
/* Two taps; with a stride of 1 the second one's address is made before the sums of the first: a load
 * right behind it would wait. */
#define EC2T_MCU_TWO_TAPS_1(second, third, fourth)                                                 \
    "ldr r3,[r1],#4\n uxtah r0,r0,r3\n" EC2T_MCU_HALF_1("[r0]", "[r0,#" #second "]")               \
    "ldr r12,[r0,#" #third "]\n ldr lr,[r0,#" #fourth "]\n uxtah r0,r0,r3,ror #16\n"               \
    EC2T_MCU_LAST_1 EC2T_MCU_TAP_1(second, third, fourth)
#define EC2T_MCU_TWO_TAPS_2(second, third, fourth)                                                 \
    "ldr r3,[r1],#4\n uxtah r0,r0,r3\n" EC2T_MCU_TAP_2(second, third, fourth)                      \
    "uxtah r0,r0,r3,ror #16\n" EC2T_MCU_TAP_2(second, third, fourth)
/* clang-format on */
#define EC2T_MCU_TILE_FAST(name) name##_fast

#else /* Helium */

#include <arm_mve.h>

/* Thirty-two pixels in q0 to q3, 16-bit lanes; two distances a turn of the loop. */
#define EC2T_MCU_TAP_1(second, third, fourth)                                                      \
    "vldrb.s16 q4,[%[p]]\n vldrb.s16 q5,[%[p],#" #second "]\n"                                     \
    "vadd.i16 %q[a],%q[a],q4\n vldrb.s16 q4,[%[p],#" #third "]\n vadd.i16 %q[b],%q[b],q5\n"        \
    "vldrb.s16 q5,[%[p],#" #fourth "]\n vadd.i16 %q[c],%q[c],q4\n vadd.i16 %q[d],%q[d],q5\n"
#define EC2T_MCU_TAP_2(second, third, fourth)                                                      \
    "vldrb.u8 q4,[%[p]]\n vldrb.u8 q5,[%[p],#" #second "]\n"                                       \
    "vmovlb.s8 q4,q4\n vmovlb.s8 q5,q5\n vadd.i16 %q[a],%q[a],q4\n vadd.i16 %q[b],%q[b],q5\n"      \
    "vldrb.u8 q4,[%[p],#" #third "]\n vldrb.u8 q5,[%[p],#" #fourth "]\n"                           \
    "vmovlb.s8 q4,q4\n vmovlb.s8 q5,q5\n vadd.i16 %q[c],%q[c],q4\n vadd.i16 %q[d],%q[d],q5\n"

static inline void ec2t_mcu_lanes(int16x8_t lanes, int32_t value, int32_t *sums) {
    int16_t values[8];
    vst1q_s16(values, lanes);
    for (int i = 0; i < 8; ++i)
        sums[i] += value * values[i];
}

/* Assembly is laid out by hand. */
/* clang-format off */
/* The fast tiles of a row in assembly: r4 is the input of one, r2 its output, r9 how many are left,
 * r10 and r11 the steps to the next. r0 walks over the input, r3 over a list of r6 distances; the first
 * tap is loaded, the others are added, four a turn: lists end at multiples of four bytes. The minus list comes first (r1 is 0), its sums
 * wait in q6 and on the stack at r7. */
#define EC2T_MCU_LIST(stride, second, third, fourth)                                               \
    "cbnz r6,2f\n vmov.i32 q0,#0\n vmov.i32 q1,#0\n vmov.i32 q2,#0\n vmov.i32 q3,#0\n b 6f\n"      \
    "2: ldrh r8,[r3],#2\n add r0,r8\n"                                                             \
    EC2T_MCU_FIRST_##stride(second, third, fourth)                                                 \
    "subs r6,r6,#1\n lsrs r6,r6,#1\n bcc 3f\n ldrh r8,[r3],#2\n add r0,r8\n"                       \
    EC2T_MCU_TURN_##stride(second, third, fourth)                                                  \
    "3: lsrs r6,r6,#1\n bcc 4f\n ldr r8,[r3],#4\n"                                                   \
    EC2T_MCU_PAIR_OF_TURNS("r8", stride, second, third, fourth)                                    \
    "4: wls lr,r6,6f\n 5: ldrd r8,r12,[r3],#8\n"                                                   \
    EC2T_MCU_PAIR_OF_TURNS("r8", stride, second, third, fourth)                                    \
    EC2T_MCU_PAIR_OF_TURNS("r12", stride, second, third, fourth)                                   \
    "le lr,5b\n6:\n"
#define EC2T_MCU_PAIR_OF_TURNS(two, stride, second, third, fourth)                                 \
    "uxtah r0,r0," two "\n" EC2T_MCU_TURN_##stride(second, third, fourth)                          \
    "uxtah r0,r0," two ",ror #16\n" EC2T_MCU_TURN_##stride(second, third, fourth)
#define EC2T_MCU_FIRST_1(second, third, fourth)                                                    \
    "vldrb.s16 q0,[r0]\n vldrb.s16 q1,[r0,#" #second "]\n"                                         \
    "vldrb.s16 q2,[r0,#" #third "]\n vldrb.s16 q3,[r0,#" #fourth "]\n"
#define EC2T_MCU_FIRST_2(second, third, fourth)                                                    \
    "vldrb.u8 q0,[r0]\n vldrb.u8 q1,[r0,#" #second "]\n"                                           \
    "vldrb.u8 q2,[r0,#" #third "]\n vldrb.u8 q3,[r0,#" #fourth "]\n"                               \
    "vmovlb.s8 q0,q0\n vmovlb.s8 q1,q1\n vmovlb.s8 q2,q2\n vmovlb.s8 q3,q3\n"
#define EC2T_MCU_TURN_1(second, third, fourth)                                                     \
    "vldrb.s16 q4,[r0]\n vldrb.s16 q5,[r0,#" #second "]\n vadd.i16 q0,q0,q4\n"                     \
    "vldrb.s16 q4,[r0,#" #third "]\n vadd.i16 q1,q1,q5\n"                                          \
    "vldrb.s16 q5,[r0,#" #fourth "]\n vadd.i16 q2,q2,q4\n vadd.i16 q3,q3,q5\n"
#define EC2T_MCU_TURN_2(second, third, fourth)                                                     \
    "vldrb.u8 q4,[r0]\n vldrb.u8 q5,[r0,#" #second "]\n vmovlb.s8 q4,q4\n vmovlb.s8 q5,q5\n"       \
    "vadd.i16 q0,q0,q4\n vldrb.u8 q4,[r0,#" #third "]\n vadd.i16 q1,q1,q5\n"                       \
    "vldrb.u8 q5,[r0,#" #fourth "]\n vmovlb.s8 q4,q4\n vmovlb.s8 q5,q5\n"                          \
    "vadd.i16 q2,q2,q4\n vadd.i16 q3,q3,q5\n"
/* Eight pixels: sums of 32 bits (bias r0, minus scale q7, plus scale r3), the high half of the
 * doubled product with the multiplier r6, less one where negative, shifted with rounding by r12, the
 * zero point r8 added in 16 bits, saturated to bytes. */
#define EC2T_MCU_REQUANTISE(plus, place, out)                                                      \
    place "vmovlb.s16 q4,q6\n vmovlt.s16 q5,q6\n"                                                 \
    "vmlas.s32 q4,q7,r0\n vmlas.s32 q5,q7,r0\n"                                                    \
    "vmovlb.s16 q6," plus "\n vmovlt.s16 " plus "," plus "\n"                                      \
    "vmla.s32 q4,q6,r3\n vmla.s32 q5," plus ",r3\n"                                                \
    "vshr.s32 q6,q4,#31\n vqrdmlah.s32 q6,q4,r6\n"                                                 \
    "vshr.s32 " plus ",q5,#31\n vqrdmlah.s32 " plus ",q5,r6\n"                                     \
    "vrshl.s32 q6,r12\n vrshl.s32 " plus ",r12\n vqmovnb.s32 q6,q6\n vqmovnt.s32 q6," plus "\n"    \
    "vqadd.s16 q6,q6,r8\n vqmovnb.s16 q6,q6\n vstrb.16 q6,[r2,#" out "]\n"

#define EC2T_MCU_TILE(name, second, third, fourth, stride, out_second, out_third, out_fourth)      \
    static __attribute__((noinline)) void name##_sums(                                             \
        const uint8_t *p, const uint16_t *list, uint32_t count, int32_t value, int32_t *sums) {    \
        int16x8_t a = vdupq_n_s16(0), b = a, c = a, d = a;                                         \
        for (; count; --count) {                                                                   \
            p += *list++;                                                                          \
            __asm volatile(EC2T_MCU_TAP_##stride(second, third, fourth)                            \
                           : [a] "+w"(a), [b] "+w"(b), [c] "+w"(c), [d] "+w"(d)                    \
                           : [p] "r"(p)                                                            \
                           : "q4", "q5", "memory");                                                \
        }                                                                                          \
        ec2t_mcu_lanes(a, value, sums);                                                            \
        ec2t_mcu_lanes(b, value, sums + 8);                                                        \
        ec2t_mcu_lanes(c, value, sums + 16);                                                       \
        ec2t_mcu_lanes(d, value, sums + 24);                                                       \
    }                                                                                              \
    static __attribute__((naked, noinline)) void name##_fast(                                      \
        const uint8_t *input __attribute__((unused)),                                              \
        const ec2t_mcu_fast *channel __attribute__((unused)),                                      \
        uint8_t *output __attribute__((unused))) {                                                 \
        __asm volatile("push {r3-r11,lr}\n vpush {d8-d15}\n sub sp,#64\n mov r7,sp\n"              \
                       "mov r4,r0\n mov r5,r1\n add r12,r5,#40\n ldm r12,{r9,r10,r11}\n"           \
                       "ldr r1,[r5,#20]\n vdup.32 q7,r1\n"                                        \
                       "1: movs r1,#0\n mov r0,r4\n ldrd r3,r6,[r5]\n 7:\n"                        \
                       EC2T_MCU_LIST(stride, second, third, fourth)                                \
                       "cbnz r1,8f\n vmov q6,q0\n vstrw.32 q1,[r7,#16]\n"                          \
                       "vstrw.32 q2,[r7,#32]\n vstrw.32 q3,[r7,#48]\n"                             \
                       "movs r1,#1\n mov r0,r4\n ldrd r3,r6,[r5,#8]\n b 7b\n"                      \
                       "8: add r12,r5,#16\n ldm r12,{r0,r1,r3,r6,r8,r12}\n vdup.32 q7,r1\n"        \
                       EC2T_MCU_REQUANTISE("q0", "", "0")                                         \
                       EC2T_MCU_REQUANTISE("q1", "vldrw.u32 q6,[r7,#16]\n ", #out_second)                                \
                       EC2T_MCU_REQUANTISE("q2", "vldrw.u32 q6,[r7,#32]\n ", #out_third)                                 \
                       EC2T_MCU_REQUANTISE("q3", "vldrw.u32 q6,[r7,#48]\n ", #out_fourth)                                \
                       "subs r9,r9,#1\n add r4,r10\n add r2,r11\n bne 1b\n"                        \
                       "add sp,#64\n vpop {d8-d15}\n pop {r3-r11,pc}\n");                          \
    }
/* clang-format on */
#define EC2T_MCU_TILE_FAST(name) name##_fast

#endif
#endif
