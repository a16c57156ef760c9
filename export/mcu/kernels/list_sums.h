/* Sums of the taps of a list in ordinary registers, sixteen pixels at once; see list_tile.h. */
#ifndef EC2T_MCU_LIST_SUMS_H
#define EC2T_MCU_LIST_SUMS_H
#include "planar.h"

#if defined(EC2T_MCU_SWAR)

static inline uint32_t ec2t_mcu_word(const uint8_t *p) {
#if defined(EC2T_MCU_ALIGNED)
    const uint32_t *aligned = (const uint32_t *)((uintptr_t)p & ~(uintptr_t)3);
    const uint32_t shift = ((uint32_t)(uintptr_t)p & 3u) * 8u;
    if (!shift)
        return aligned[0];
    return aligned[0] >> shift | aligned[1] << (32u - shift);
#elif defined(EC2T_MCU_RISCV_UNALIGNED)
    uint32_t word; /* the compiler would load bytes */
    __asm("lw %0,%1" : "=r"(word) : "m"(*(const uint8_t (*)[4])p));
    return word;
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
/* Sums of 16 or 8 pixels out of aligned words. r0 walks over the input, r1 over the list; r5 is the
 * mask of the even bytes. There is code for each place of a tap in its word, 0 to 3. Assembly is
 * laid out by hand. */
/* clang-format off */
#define EC2T_MCU_ALIGNED_SUMS(name, zero, one, two, three, store)                                  \
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
            one " adds r0,#1\n"                                                                    \
            "9: ldr r2,[sp]\n cmp r1,r2\n bne 1b\n b 8f\n"                                         \
            "2:" zero " b 9b\n"                                                                    \
            "4:" two " adds r0,#2\n b 9b\n"                                                        \
            "5:" three " adds r0,#3\n b 9b\n"                                                      \
            "8: pop {r2,r3}\n" store                                                               \
            " pop {r4-r7}\n mov r8,r4\n mov r9,r5\n mov r10,r6\n mov r11,r7\n pop {r4-r7,pc}\n");  \
    }
/* Neighbouring bytes: what is not aligned is put together the same way for all words of a tap.
 * `lanes`: even bytes (less the odd ones, which their words carried along) and odd bytes of every
 * four. */
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
#define EC2T_MCU_FOUR_WORDS(a, b)                                                                  \
    EC2T_MCU_FIRST_WORD(a, b, "r8", "r9") EC2T_MCU_NEXT_WORD("8", a, b, "r10", "r11")              \
    EC2T_MCU_NEXT_WORD("12", a, b, "r12", "lr") EC2T_MCU_LAST_WORD("16", a, b, "r6", "r7")
#define EC2T_MCU_TWO_WORDS(a, b)                                                                   \
    EC2T_MCU_FIRST_WORD(a, b, "r8", "r9") EC2T_MCU_LAST_WORD("8", a, b, "r6", "r7")
EC2T_MCU_ALIGNED_SUMS(
    ec2t_mcu_sixteen_1,
    " ldr r2,[r0]\n" EC2T_MCU_WORD_SUMS("r8", "r9") " ldr r2,[r0,#4]\n"
    EC2T_MCU_WORD_SUMS("r10", "r11") " ldr r2,[r0,#8]\n" EC2T_MCU_WORD_SUMS("r12", "lr")
    " ldr r2,[r0,#12]\n" EC2T_MCU_WORD_SUMS("r6", "r7"),
    EC2T_MCU_FOUR_WORDS("8", "24"), EC2T_MCU_FOUR_WORDS("16", "16"), EC2T_MCU_FOUR_WORDS("24", "8"),
    EC2T_MCU_STORE_SUMS("r8", "r9") EC2T_MCU_STORE_SUMS("r10", "r11")
    EC2T_MCU_STORE_SUMS("r12", "lr") EC2T_MCU_STORE_SUMS("r6", "r7"))
EC2T_MCU_ALIGNED_SUMS(
    ec2t_mcu_eight_1,
    " ldr r2,[r0]\n" EC2T_MCU_WORD_SUMS("r8", "r9") " ldr r2,[r0,#4]\n"
    EC2T_MCU_WORD_SUMS("r6", "r7"),
    EC2T_MCU_TWO_WORDS("8", "24"), EC2T_MCU_TWO_WORDS("16", "16"), EC2T_MCU_TWO_WORDS("24", "8"),
    EC2T_MCU_STORE_SUMS("r8", "r9") EC2T_MCU_STORE_SUMS("r6", "r7"))
/* Every second byte: two of a word, or of two neighbours the last and the first. `lanes`: pairs. */
#define EC2T_MCU_EVEN_PAIR(offset, sum) " ldr r2,[r0,#" offset "]\n ands r2,r5\n add " sum ",r2\n"
#define EC2T_MCU_ODD_PAIR(offset, sum)                                                             \
    " ldr r2,[r0,#" offset "]\n lsrs r2,r2,#8\n ands r2,r5\n add " sum ",r2\n"
#define EC2T_MCU_SPLIT_PAIR(offset, a, b, sum)                                                     \
    " lsrs r2,r3,#" a "\n ldr r3,[r0,#" offset "]\n lsls r4,r3,#" b "\n orrs r2,r4\n ands r2,r5\n" \
    " add " sum ",r2\n"
#define EC2T_MCU_EIGHT_PAIRS(pair)                                                                 \
    pair("0", "r8") pair("4", "r9") pair("8", "r10") pair("12", "r11")                             \
    pair("16", "r12") pair("20", "lr") pair("24", "r6") pair("28", "r7")
#define EC2T_MCU_EIGHT_SPLITS(a, b)                                                                \
    " ldr r3,[r0]\n" EC2T_MCU_SPLIT_PAIR("4", a, b, "r8") EC2T_MCU_SPLIT_PAIR("8", a, b, "r9")     \
    EC2T_MCU_SPLIT_PAIR("12", a, b, "r10") EC2T_MCU_SPLIT_PAIR("16", a, b, "r11")                  \
    EC2T_MCU_SPLIT_PAIR("20", a, b, "r12") EC2T_MCU_SPLIT_PAIR("24", a, b, "lr")                   \
    EC2T_MCU_SPLIT_PAIR("28", a, b, "r6") EC2T_MCU_SPLIT_PAIR("32", a, b, "r7")
#define EC2T_MCU_FOUR_PAIRS(pair)                                                                  \
    pair("0", "r8") pair("4", "r9") pair("8", "r6") pair("12", "r7")
#define EC2T_MCU_FOUR_SPLITS(a, b)                                                                 \
    " ldr r3,[r0]\n" EC2T_MCU_SPLIT_PAIR("4", a, b, "r8") EC2T_MCU_SPLIT_PAIR("8", a, b, "r9")     \
    EC2T_MCU_SPLIT_PAIR("12", a, b, "r6") EC2T_MCU_SPLIT_PAIR("16", a, b, "r7")
EC2T_MCU_ALIGNED_SUMS(
    ec2t_mcu_sixteen_2,
    EC2T_MCU_EIGHT_PAIRS(EC2T_MCU_EVEN_PAIR), EC2T_MCU_EIGHT_PAIRS(EC2T_MCU_ODD_PAIR),
    EC2T_MCU_EIGHT_SPLITS("16", "16"), EC2T_MCU_EIGHT_SPLITS("24", "8"),
    " mov r0,r8\n mov r1,r9\n mov r2,r10\n mov r4,r11\n stm r3!,{r0,r1,r2,r4}\n"
    " mov r0,r12\n mov r1,lr\n stm r3!,{r0,r1,r6,r7}\n")
EC2T_MCU_ALIGNED_SUMS(
    ec2t_mcu_eight_2,
    EC2T_MCU_FOUR_PAIRS(EC2T_MCU_EVEN_PAIR), EC2T_MCU_FOUR_PAIRS(EC2T_MCU_ODD_PAIR),
    EC2T_MCU_FOUR_SPLITS("16", "16"), EC2T_MCU_FOUR_SPLITS("24", "8"),
    " mov r0,r8\n mov r1,r9\n stm r3!,{r0,r1,r6,r7}\n")
/* clang-format on */
#endif

/* Cores that need aligned words have eight registers that matter, the others have thirteen. */
#if defined(EC2T_MCU_ALIGNED)
#define EC2T_MCU_LANES(p, list, count, lanes, second, third, fourth, stride)                       \
    if ((second) == 4 * (stride) && (third) == 8 * (stride) && (fourth) == 12 * (stride)) {        \
        ec2t_mcu_sixteen_##stride(p, list, count, lanes);                                          \
    } else if ((second) == 4 * (stride) && (fourth) - (third) == 4 * (stride)) {                   \
        ec2t_mcu_eight_##stride(p, list, count, lanes);                                            \
        ec2t_mcu_eight_##stride((p) + (third), list, count, (lanes) + 2);                          \
    } else {                                                                                       \
        ec2t_mcu_half_##stride(p, list, count, lanes, second);                                     \
        ec2t_mcu_half_##stride((p) + (third), list, count, (lanes) + 2, (fourth) - (third));       \
    }
#elif defined(EC2T_MCU_RISCV_ALIGNED)
#define EC2T_MCU_LANES(p, list, count, lanes, second, third, fourth, stride)                       \
    if ((second) == 4 * (stride) && (third) == 8 * (stride) && (fourth) == 12 * (stride)) {        \
        ec2t_mcu_straight_##stride(p, list, count, lanes, 4);                                      \
    } else if ((second) == 4 * (stride) && (fourth) - (third) == 4 * (stride)) {                   \
        ec2t_mcu_straight_##stride(p, list, count, lanes, 2);                                      \
        ec2t_mcu_straight_##stride((p) + (third), list, count, (lanes) + 2, 2);                    \
    } else {                                                                                       \
        ec2t_mcu_whole_##stride(p, list, count, lanes, second, third, fourth);                     \
    }
#else
#define EC2T_MCU_LANES(p, list, count, lanes, second, third, fourth, stride)                       \
    ec2t_mcu_whole_##stride(p, list, count, lanes, second, third, fourth)
#endif

#if defined(EC2T_MCU_RISCV_ALIGNED)
/* `groups` times four neighbouring pixels out of aligned words, each loaded once. */
static inline __attribute__((always_inline, unused)) void
ec2t_mcu_straight_1(const uint8_t *p, const uint16_t *list, uint32_t count, ec2t_mcu_lanes *lanes,
                    const uint32_t groups) {
    uint32_t mask = 0x00ff00ffu, even[4] = {0}, odd[4] = {0};
    __asm("" : "+r"(mask));
    for (const uint16_t *end = list + count; list != end;) {
        p += *list++;
        const uint32_t *from = (const uint32_t *)((uintptr_t)p & ~(uintptr_t)3);
        const uint32_t right = ((uint32_t)(uintptr_t)p & 3u) * 8u;
        uint32_t words[5];
#pragma GCC unroll 4
        for (uint32_t i = 0; i < groups; ++i)
            words[i] = from[i];
        if (right) {
            const uint32_t left = 32u - right;
            words[groups] = from[groups];
#pragma GCC unroll 4
            for (uint32_t i = 0; i < groups; ++i)
                words[i] = words[i] >> right | words[i + 1] << left;
        }
#pragma GCC unroll 4
        for (uint32_t i = 0; i < groups; ++i) {
            even[i] += words[i];
            odd[i] += mask & (words[i] >> 8);
        }
    }
#pragma GCC unroll 4
    for (uint32_t i = 0; i < groups; ++i)
        lanes[i] = (ec2t_mcu_lanes){even[i] - (odd[i] << 8), odd[i]};
}
/* The pairs of bytes are in one word or in two; code for each place of a tap, which the compiler is
 * kept from computing ahead for all of them. */
#define EC2T_MCU_EVERY_PAIR(value)                                                                 \
    {                                                                                              \
        uint32_t word = *from++;                                                                   \
        _Pragma("GCC unroll 8") for (uint32_t i = 0; i < 2u * groups; ++i) {                       \
            const uint32_t next = i + 1u < 2u * groups || split ? from[i] : 0u;                    \
            sums[i] += value;                                                                      \
            word = next;                                                                           \
        }                                                                                          \
    }
static inline __attribute__((always_inline, unused)) void
ec2t_mcu_straight_2(const uint8_t *p, const uint16_t *list, uint32_t count, ec2t_mcu_lanes *lanes,
                    const uint32_t groups) {
    uint32_t mask = 0x00ff00ffu, sums[8] = {0};
    __asm("" : "+r"(mask));
    for (const uint16_t *end = list + count; list != end;) {
        p += *list++;
        const uint32_t place = (uint32_t)(uintptr_t)p & 3u;
        const uint32_t *from = (const uint32_t *)(const void *)(p - place);
        if (place & 2u) {
            const uint32_t split = 1;
            __asm volatile("" : "+r"(from));
            if (place & 1u) {
                __asm volatile("" : "+r"(from));
                EC2T_MCU_EVERY_PAIR((word >> 24) + (next << 8 & 0x00ff0000u))
            } else {
                EC2T_MCU_EVERY_PAIR((word >> 16 | next << 16) & mask)
            }
        } else {
            const uint32_t split = 0;
            if (place) {
                __asm volatile("" : "+r"(from));
                EC2T_MCU_EVERY_PAIR(word >> 8 & mask)
            } else {
                EC2T_MCU_EVERY_PAIR(word & mask)
            }
        }
    }
#pragma GCC unroll 4
    for (uint32_t i = 0; i < groups; ++i)
        lanes[i] = (ec2t_mcu_lanes){sums[2 * i], sums[2 * i + 1]};
}
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

#endif
#endif
