/* Tiles of a list convolution. A generated model instantiates the shapes it needs:
 *   EC2T_MCU_TILE(name, second, third, fourth, stride, out_second, out_third, out_fourth)
 * defines name_sums, and name_fast where the core has one. Groups start 0, second, third and fourth
 * bytes from the tile's first input byte, and 0, out_second, ... from its first output byte;
 * `stride` (1 or 2) is the distance of neighbouring pixels. All are literal numbers. */
#ifndef EC2T_MCU_LIST_TILE_H
#define EC2T_MCU_LIST_TILE_H
#include "requantise.h"

#if defined(EC2T_MCU_SWAR)

static inline uint32_t ec2t_mcu_word(const uint8_t *p) {
#if defined(EC2T_MCU_ALIGNED)
    const uint32_t *aligned = (const uint32_t *)((uintptr_t)p & ~(uintptr_t)3);
    const uint32_t shift = ((uint32_t)(uintptr_t)p & 3u) * 8u;
    if (!shift)
        return aligned[0];
    return aligned[0] >> shift | aligned[1] << (32u - shift);
#else
    uint32_t word;
    __builtin_memcpy(&word, p, 4);
    return word;
#endif
}

/* Sums of four pixels as two registers of two 16-bit lanes each. Pixels 0 and 2 lie in `even`, 1
 * and 3 in `odd` where neighbours are neighbouring bytes (stride 1); else 0 and 1 in `even`, 2 and
 * 3 in `odd`. Inputs are value + 128, so lanes never go below zero. */
typedef struct {
    uint32_t even, odd;
} ec2t_mcu_lanes;

/* Stride 1: each word is added whole and its odd bytes once more; the even bytes are what is left.
 */
#define EC2T_MCU_TAP_1(p, mask, group)                                                             \
    {                                                                                              \
        const uint32_t word = ec2t_mcu_word(p);                                                    \
        (group).even += word;                                                                      \
        (group).odd += mask & (word >> 8);                                                         \
    }
#define EC2T_MCU_DONE_1(group) (group).even -= (group).odd << 8
#define EC2T_MCU_TAP_2(p, mask, group)                                                             \
    {                                                                                              \
        (group).even += ec2t_mcu_word(p) & mask;                                                   \
        (group).odd += ec2t_mcu_word((p) + 4) & mask;                                              \
    }
#define EC2T_MCU_DONE_2(group) (void)0

#if defined(EC2T_MCU_ALIGNED)
/* Sums of 16 or 8 pixels in neighbouring bytes out of aligned words; what is not aligned is put
 * together the same way for all words of a tap. r0 walks over the input, r1 over the list; r5 is
 * the mask of the even bytes. `lanes`: even bytes (less the odd ones, which their words carried
 * along) and odd bytes of every four. Assembly is laid out by hand. */
/* clang-format off */
#define EC2T_MCU_WORD_SUMS(even, odd)                                                              \
    " add " even ",r2\n lsrs r2,r2,#8\n ands r2,r5\n add " odd ",r2\n"
#define EC2T_MCU_FIRST_WORD(a, b, even, odd)                                                       \
    " ldr r3,[r0]\n ldr r4,[r0,#4]\n push {r4}\n lsrs r2,r3,#" a "\n lsls r4,r4,#" b "\n"          \
    " orrs r2,r4\n" EC2T_MCU_WORD_SUMS(even, odd)
#define EC2T_MCU_NEXT_WORD(offset, a, b, even, odd)                                                \
    " pop {r3}\n ldr r4,[r0,#" offset "]\n push {r4}\n lsrs r2,r3,#" a "\n lsls r4,r4,#" b "\n"    \
    " orrs r2,r4\n" EC2T_MCU_WORD_SUMS(even, odd)
#define EC2T_MCU_LAST_WORD(offset, a, b, even, odd)                                                \
    " pop {r3}\n ldr r4,[r0,#" offset "]\n lsrs r2,r3,#" a "\n lsls r4,r4,#" b "\n orrs r2,r4\n"   \
    EC2T_MCU_WORD_SUMS(even, odd)
#define EC2T_MCU_STORE_SUMS(even, odd)                                                             \
    " mov r0," odd "\n lsls r1,r0,#8\n mov r2," even "\n subs r2,r2,r1\n stm r3!,{r2}\n"           \
    " stm r3!,{r0}\n"
#define EC2T_MCU_ALIGNED_SUMS(name, aligned, words, store)                                         \
    static __attribute__((naked, noinline, unused)) void name(                                     \
        const uint8_t *p __attribute__((unused)), const uint16_t *list __attribute__((unused)),    \
        uint32_t count __attribute__((unused)), ec2t_mcu_lanes *lanes __attribute__((unused))) {   \
        __asm volatile(                                                                            \
            ".syntax unified\n push {r4-r7,lr}\n mov r4,r8\n mov r5,r9\n mov r6,r10\n"             \
            " mov r7,r11\n push {r3-r7}\n lsls r2,r2,#1\n adds r2,r1,r2\n push {r2}\n"             \
            " movs r2,#0\n mov r8,r2\n mov r9,r2\n mov r10,r2\n mov r11,r2\n mov r12,r2\n"         \
            " mov lr,r2\n movs r6,#0\n movs r7,#0\n"                                               \
            " movs r5,#255\n lsls r2,r5,#16\n orrs r5,r2\n b 9f\n"                                 \
            "1: ldrh r3,[r1]\n adds r1,#2\n adds r0,r0,r3\n lsls r2,r0,#30\n beq 2f\n"             \
            " lsrs r2,r2,#30\n subs r0,r0,r2\n cmp r2,#2\n beq 4f\n bhi 5f\n"                      \
            words("8", "24") " adds r0,#1\n"                                                       \
            "9: ldr r2,[sp]\n cmp r1,r2\n bne 1b\n b 8f\n"                                         \
            "2:" aligned " b 9b\n"                                                                 \
            "4:" words("16", "16") " adds r0,#2\n b 9b\n"                                          \
            "5:" words("24", "8") " adds r0,#3\n b 9b\n"                                           \
            "8: pop {r2,r3}\n" store                                                               \
            " pop {r4-r7}\n mov r8,r4\n mov r9,r5\n mov r10,r6\n mov r11,r7\n pop {r4-r7,pc}\n");  \
    }
#define EC2T_MCU_FOUR_WORDS(a, b)                                                                  \
    EC2T_MCU_FIRST_WORD(a, b, "r8", "r9") EC2T_MCU_NEXT_WORD("8", a, b, "r10", "r11")              \
    EC2T_MCU_NEXT_WORD("12", a, b, "r12", "lr") EC2T_MCU_LAST_WORD("16", a, b, "r6", "r7")
#define EC2T_MCU_TWO_WORDS(a, b)                                                                   \
    EC2T_MCU_FIRST_WORD(a, b, "r8", "r9") EC2T_MCU_LAST_WORD("8", a, b, "r6", "r7")
EC2T_MCU_ALIGNED_SUMS(
    ec2t_mcu_sixteen,
    " ldr r2,[r0]\n" EC2T_MCU_WORD_SUMS("r8", "r9") " ldr r2,[r0,#4]\n"
    EC2T_MCU_WORD_SUMS("r10", "r11") " ldr r2,[r0,#8]\n" EC2T_MCU_WORD_SUMS("r12", "lr")
    " ldr r2,[r0,#12]\n" EC2T_MCU_WORD_SUMS("r6", "r7"),
    EC2T_MCU_FOUR_WORDS,
    EC2T_MCU_STORE_SUMS("r8", "r9") EC2T_MCU_STORE_SUMS("r10", "r11")
    EC2T_MCU_STORE_SUMS("r12", "lr") EC2T_MCU_STORE_SUMS("r6", "r7"))
EC2T_MCU_ALIGNED_SUMS(
    ec2t_mcu_eight,
    " ldr r2,[r0]\n" EC2T_MCU_WORD_SUMS("r8", "r9") " ldr r2,[r0,#4]\n"
    EC2T_MCU_WORD_SUMS("r6", "r7"),
    EC2T_MCU_TWO_WORDS,
    EC2T_MCU_STORE_SUMS("r8", "r9") EC2T_MCU_STORE_SUMS("r6", "r7"))
/* clang-format on */
#endif

/* Cores that need aligned words have eight registers that matter, the others have thirteen. */
#if defined(EC2T_MCU_ALIGNED)
#define EC2T_MCU_LANES(p, list, count, lanes, second, third, fourth, stride)                       \
    if ((stride) == 1 && (second) == 4 && (third) == 8 && (fourth) == 12) {                        \
        ec2t_mcu_sixteen(p, list, count, lanes);                                                   \
    } else if ((stride) == 1 && (second) == 4 && (fourth) - (third) == 4) {                        \
        ec2t_mcu_eight(p, list, count, lanes);                                                     \
        ec2t_mcu_eight((p) + (third), list, count, (lanes) + 2);                                   \
    } else {                                                                                       \
        ec2t_mcu_half_##stride(p, list, count, lanes, second);                                     \
        ec2t_mcu_half_##stride((p) + (third), list, count, (lanes) + 2, (fourth) - (third));       \
    }
#else
#define EC2T_MCU_LANES(p, list, count, lanes, second, third, fourth, stride)                       \
    ec2t_mcu_whole_##stride(p, list, count, lanes, second, third, fourth)
#endif

#define EC2T_MCU_LANE_FUNCTIONS(stride)                                                            \
    static inline __attribute__((always_inline, unused)) void ec2t_mcu_half_##stride(              \
        const uint8_t *p, const uint16_t *list, uint32_t count, ec2t_mcu_lanes *lanes,             \
        uint32_t second) {                                                                         \
        uint32_t mask = 0x00ff00ffu;                                                               \
        ec2t_mcu_lanes a = {0, 0}, b = {0, 0};                                                     \
        __asm("" : "+r"(mask));                                                                    \
        for (const uint16_t *end = list + count; list != end;) {                                   \
            p += *list++;                                                                          \
            EC2T_MCU_TAP_##stride(p, mask, a) EC2T_MCU_TAP_##stride(p + second, mask, b)           \
        }                                                                                          \
        EC2T_MCU_DONE_##stride(a), EC2T_MCU_DONE_##stride(b);                                      \
        lanes[0] = a, lanes[1] = b;                                                                \
    }                                                                                              \
    static inline __attribute__((always_inline, unused)) void ec2t_mcu_whole_##stride(             \
        const uint8_t *p, const uint16_t *list, uint32_t count, ec2t_mcu_lanes *lanes,             \
        uint32_t second, uint32_t third, uint32_t fourth) {                                        \
        uint32_t mask = 0x00ff00ffu;                                                               \
        ec2t_mcu_lanes a = {0, 0}, b = {0, 0}, c = {0, 0}, d = {0, 0};                             \
        __asm("" : "+r"(mask));                                                                    \
        for (const uint16_t *end = list + count; list != end;) {                                   \
            p += *list++;                                                                          \
            EC2T_MCU_TAP_##stride(p, mask, a) EC2T_MCU_TAP_##stride(p + second, mask, b)           \
                EC2T_MCU_TAP_##stride(p + third, mask, c)                                          \
                    EC2T_MCU_TAP_##stride(p + fourth, mask, d)                                     \
        }                                                                                          \
        EC2T_MCU_DONE_##stride(a), EC2T_MCU_DONE_##stride(b);                                      \
        EC2T_MCU_DONE_##stride(c), EC2T_MCU_DONE_##stride(d);                                      \
        lanes[0] = a, lanes[1] = b, lanes[2] = c, lanes[3] = d;                                    \
    }
EC2T_MCU_LANE_FUNCTIONS(1)
EC2T_MCU_LANE_FUNCTIONS(2)

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
    return ec2t_mcu_saturated((ec2t_mcu_high(sum, c->multiplier, c->rounding) + (sum >> 31)) >>
                              c->right);
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
        ec2t_mcu_lanes minus[4], plus[4];                                                          \
        const ec2t_mcu_fast constants = *channel;                                                  \
        name##_lanes(input, constants.minus_list, constants.minus_count, minus);                   \
        name##_lanes(input, constants.plus_list, constants.plus_count, plus);                      \
        for (int i = 0; i < 4; ++i) {                                                              \
            ec2t_mcu_store_##stride(minus[i], plus[i], &constants, output + places[i]);            \
        }                                                                                          \
    }
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
                       "ldr r2,[r1,#8]\n ldr r1,[r1]\n movs r3,#0\n str r3,[sp]\n"                 \
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
                       "str sp,[sp]\n ldrd r0,r1,[sp,#40]\n ldr r2,[r1,#12]\n ldr r1,[r1,#4]\n"    \
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
/* The fast tile in assembly: constants stay in registers and nothing is spilled. r0 walks over the
 * input, r3 over a list of r6 distances; the first tap is loaded, the others are added. The sums of
 * the minus list wait on the stack at r7. */
#define EC2T_MCU_LIST(stride, second, third, fourth)                                               \
    "cbnz r6,1f\n vmov.i32 q0,#0\n vmov.i32 q1,#0\n vmov.i32 q2,#0\n vmov.i32 q3,#0\n b 4f\n"      \
    "1: ldrh r8,[r3],#2\n add r0,r8\n"                                                             \
    EC2T_MCU_FIRST_##stride(second, third, fourth)                                                 \
    "lsrs r6,r6,#1\n bcs 2f\n subs r6,r6,#1\n ldrh r8,[r3],#2\n add r0,r8\n"                       \
    EC2T_MCU_TURN_##stride(second, third, fourth)                                                  \
    "2: wls lr,r6,4f\n 3: ldr r8,[r3],#4\n uxtah r0,r0,r8\n"                                       \
    EC2T_MCU_TURN_##stride(second, third, fourth)                                                  \
    "uxtah r0,r0,r8,ror #16\n"                                                                     \
    EC2T_MCU_TURN_##stride(second, third, fourth)                                                  \
    "le lr,3b\n4:\n"
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
 * doubled product with the multiplier r4, less one where negative, shifted with rounding by r6, the
 * zero point r5 added in 16 bits, saturated to bytes. */
#define EC2T_MCU_REQUANTISE(plus, place, out)                                                      \
    "vldrw.u32 q6,[r7,#" place "]\n vmovlb.s16 q4,q6\n vmovlt.s16 q5,q6\n"                         \
    "vmlas.s32 q4,q7,r0\n vmlas.s32 q5,q7,r0\n"                                                    \
    "vmovlb.s16 q6," plus "\n vmovlt.s16 " plus "," plus "\n"                                      \
    "vmla.s32 q4,q6,r3\n vmla.s32 q5," plus ",r3\n"                                                \
    "vshr.s32 q6,q4,#31\n vqrdmlah.s32 q6,q4,r4\n"                                                 \
    "vshr.s32 " plus ",q5,#31\n vqrdmlah.s32 " plus ",q5,r4\n"                                     \
    "vrshl.s32 q6,r6\n vrshl.s32 " plus ",r6\n vqmovnb.s32 q6,q6\n vqmovnt.s32 q6," plus "\n"      \
    "vqadd.s16 q6,q6,r5\n vqmovnb.s16 q6,q6\n vstrb.16 q6,[r2,#" out "]\n"

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
        __asm volatile("push {r3-r8,r9,lr}\n vpush {d8-d15}\n sub sp,#64\n mov r7,sp\n"            \
                       "mov r4,r0\n mov r5,r1\n ldr r3,[r1]\n ldr r6,[r1,#8]\n"                    \
                       EC2T_MCU_LIST(stride, second, third, fourth)                                \
                       "vstrw.32 q0,[r7]\n vstrw.32 q1,[r7,#16]\n"                                 \
                       "vstrw.32 q2,[r7,#32]\n vstrw.32 q3,[r7,#48]\n"                             \
                       "mov r0,r4\n ldr r3,[r5,#4]\n ldr r6,[r5,#12]\n"                            \
                       EC2T_MCU_LIST(stride, second, third, fourth)                                \
                       "add r5,#16\n ldm r5,{r0,r1,r3,r4,r5,r6}\n vdup.32 q7,r1\n"                 \
                       EC2T_MCU_REQUANTISE("q0", "0", "0")                                         \
                       EC2T_MCU_REQUANTISE("q1", "16", #out_second)                                \
                       EC2T_MCU_REQUANTISE("q2", "32", #out_third)                                 \
                       EC2T_MCU_REQUANTISE("q3", "48", #out_fourth)                                \
                       "add sp,#64\n vpop {d8-d15}\n pop {r3-r8,r9,pc}\n");                        \
    }
/* clang-format on */
#define EC2T_MCU_TILE_FAST(name) name##_fast

#endif
#endif
