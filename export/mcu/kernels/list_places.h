/* Sums of the taps of a list whose tiles load aligned words only, without shifting words: a list
 * has its taps by their place in a word, and what was summed at one place is moved to another once
 * a list. RISC-V; see list_tile.h. */
#ifndef EC2T_MCU_LIST_PLACES_H
#define EC2T_MCU_LIST_PLACES_H
#include "list_sums.h"

#if defined(EC2T_MCU_BY_PLACE)

/* The parts of a list that a tile takes at places 3, 2, 1 and 0: the first four of `parts` where
 * its first byte is a multiple of four, of another one those from its own place on. */
static inline void ec2t_mcu_split(const uint16_t *list, uint32_t count, ec2t_mcu_part *parts) {
    const uint16_t *const end = list + count;
    for (uint32_t i = 0; i < 4u; ++i) { /* of offsets 0, 3, 2, 1 */
        const uint16_t *const from = list;
        const uint32_t offset = (0u - i) & 3u, at = (i - 1u) & 3u;
        while (list != end && (*list & 3u) == offset)
            ++list;
        parts[at] = (ec2t_mcu_part){from, list};
        if (at < EC2T_MCU_PARTS - 4u)
            parts[at + 4u] = parts[at];
    }
}

/* The words from `at` on; `at` is known to be a multiple of four. */
static inline const uint32_t *ec2t_mcu_words(const uint8_t *at) {
    return (const uint32_t *)(const void *)at;
}
static inline uint32_t ec2t_mcu_halfword(const uint8_t *at) {
    return *(const uint16_t *)(const void *)at;
}
/* Two lanes out of the upper one of a word and the lower one of the next. */
static inline uint32_t ec2t_mcu_joined(uint32_t word, uint32_t next) {
    return word >> 16 | next << 16;
}
#define EC2T_MCU_EACH_TAP(part)                                                                    \
    for (const uint16_t *list = (part).from, *const end = (part).end; list != end;)
/* One step for all groups of four neighbours; loops the compiler would keep in places. */
#define EC2T_MCU_EACH_GROUP(step)                                                                  \
    step(0) step(1) if (groups > 2u) {                                                             \
        step(2) step(3)                                                                            \
    }

/* `groups` (2 or 4) times four neighbouring bytes, those of a tap at place s from the s-th byte of
 * a word on. A word is added whole to the sums of its even bytes, and its odd bytes to theirs; the
 * odd ones, times 256, are taken away again when a place is done, for which their sums begin with
 * zero. Pixels 0 and 2 of every four come from
 *   `even` at place 0 (the even bytes of a word), and at place 1 (its odd ones),
 *   `x` at places 2 (even) and 3 (odd): their upper lane belongs to the next pixel but one;
 * pixels 1 and 3 from
 *   `odd` at place 0 (odd) and at place 3 (the next word's even ones),
 *   `y` at places 1 (even) and 2 (odd), likewise half a word away.
 * `parts` begins with place 3 of a tile that starts at a multiple of four. */
#define EC2T_MCU_SPLIT_WORD(word, whole, split)                                                    \
    {                                                                                              \
        const uint32_t value = word;                                                               \
        (whole) += value, (split) += value >> 8 & mask;                                            \
    }
static __attribute__((always_inline, unused)) inline void
ec2t_mcu_places_1(const uint8_t *p, const ec2t_mcu_part *parts, ec2t_mcu_lanes *lanes,
                  const uint32_t groups) {
    uint32_t mask = 0x00ff00ffu, even[4] = {0}, odd[4] = {0}, x[5] = {0}, y[5] = {0};
    uint32_t more[4] = {0};
    __asm("" : "+r"(mask));
    parts += (uintptr_t)p & 3u;
    EC2T_MCU_EACH_TAP(parts[0]) { /* place 3 */
        const uint8_t *at = p + *list++;
        const uint32_t *words = ec2t_mcu_words(at + 1);
        x[0] += *at;
#define EC2T_MCU_STEP(i) EC2T_MCU_SPLIT_WORD(words[i], odd[i], x[i + 1])
        EC2T_MCU_EACH_GROUP(EC2T_MCU_STEP)
#undef EC2T_MCU_STEP
    }
#define EC2T_MCU_STEP(i) odd[i] -= x[i + 1] << 8;
    EC2T_MCU_EACH_GROUP(EC2T_MCU_STEP)
#undef EC2T_MCU_STEP
    EC2T_MCU_EACH_TAP(parts[1]) { /* place 2: halves of the first and the last word */
        const uint8_t *at = p + *list++;
        const uint32_t *words = ec2t_mcu_words(at + 2);
        const uint32_t first = ec2t_mcu_halfword(at);
        const uint32_t last = ec2t_mcu_halfword(at + 4u * groups - 2u);
        x[0] += first, y[0] += first >> 8;
        EC2T_MCU_SPLIT_WORD(words[0], x[1], y[1])
        if (groups > 2u) {
            EC2T_MCU_SPLIT_WORD(words[1], x[2], y[2])
            EC2T_MCU_SPLIT_WORD(words[2], x[3], y[3])
        }
        x[groups] += last, y[groups] += last >> 8;
    }
    x[0] -= y[0] << 8;
#define EC2T_MCU_STEP(i) x[i + 1] -= y[i + 1] << 8;
    EC2T_MCU_EACH_GROUP(EC2T_MCU_STEP)
#undef EC2T_MCU_STEP
    x[0] <<= 16, y[0] <<= 16;
#define EC2T_MCU_STEP(i) even[i] = ec2t_mcu_joined(x[i], x[i + 1]);
    EC2T_MCU_EACH_GROUP(EC2T_MCU_STEP)
#undef EC2T_MCU_STEP
    EC2T_MCU_EACH_TAP(parts[2]) { /* place 1 */
        const uint8_t *at = p + *list++;
        const uint32_t *words = ec2t_mcu_words(at - 1);
#define EC2T_MCU_STEP(i) EC2T_MCU_SPLIT_WORD(words[i], y[i], more[i])
        EC2T_MCU_EACH_GROUP(EC2T_MCU_STEP)
#undef EC2T_MCU_STEP
        y[groups] += at[4u * groups - 1u];
    }
#define EC2T_MCU_STEP(i) y[i] -= more[i] << 8, even[i] += more[i], more[i] = 0;
    EC2T_MCU_EACH_GROUP(EC2T_MCU_STEP)
#undef EC2T_MCU_STEP
#define EC2T_MCU_STEP(i) odd[i] += ec2t_mcu_joined(y[i], y[i + 1]);
    EC2T_MCU_EACH_GROUP(EC2T_MCU_STEP)
#undef EC2T_MCU_STEP
    EC2T_MCU_EACH_TAP(parts[3]) { /* place 0 */
        const uint32_t *words = ec2t_mcu_words(p + *list++);
#define EC2T_MCU_STEP(i) EC2T_MCU_SPLIT_WORD(words[i], even[i], more[i])
        EC2T_MCU_EACH_GROUP(EC2T_MCU_STEP)
#undef EC2T_MCU_STEP
    }
#define EC2T_MCU_STEP(i) lanes[i] = (ec2t_mcu_lanes){even[i] - (more[i] << 8), odd[i] + more[i]};
    EC2T_MCU_EACH_GROUP(EC2T_MCU_STEP)
#undef EC2T_MCU_STEP
}

/* Every second byte, the first of a tap at place s being the s-th of a word: the even ones of words
 * at places 0 and 2, the odd ones at 1 and 3, at 2 and 3 (`x`) half a word away. */
static __attribute__((always_inline, unused)) inline void
ec2t_mcu_places_2(const uint8_t *p, const ec2t_mcu_part *parts, ec2t_mcu_lanes *lanes,
                  const uint32_t groups) {
    uint32_t mask = 0x00ff00ffu, pairs[8] = {0}, x[9] = {0};
    __asm("" : "+r"(mask));
    parts += (uintptr_t)p & 3u;
    EC2T_MCU_EACH_TAP(parts[0]) { /* place 3 */
        const uint8_t *at = p + *list++;
        const uint32_t *words = ec2t_mcu_words(at + 1);
        x[0] += *at;
#define EC2T_MCU_STEP(i)                                                                           \
    if (i)                                                                                         \
        x[2 * i] += words[2 * i - 1] >> 8 & mask;                                                  \
    x[2 * i + 1] += words[2 * i] >> 8 & mask;
        EC2T_MCU_EACH_GROUP(EC2T_MCU_STEP)
#undef EC2T_MCU_STEP
        x[2u * groups] += at[8u * groups - 2u];
    }
    EC2T_MCU_EACH_TAP(parts[1]) { /* place 2 */
        const uint8_t *at = p + *list++;
        const uint32_t *words = ec2t_mcu_words(at + 2);
        x[0] += *at;
#define EC2T_MCU_STEP(i)                                                                           \
    if (i)                                                                                         \
        x[2 * i] += words[2 * i - 1] & mask;                                                       \
    x[2 * i + 1] += words[2 * i] & mask;
        EC2T_MCU_EACH_GROUP(EC2T_MCU_STEP)
#undef EC2T_MCU_STEP
        x[2u * groups] += at[8u * groups - 2u];
    }
    x[0] <<= 16;
#define EC2T_MCU_STEP(i)                                                                           \
    pairs[2 * i] = ec2t_mcu_joined(x[2 * i], x[2 * i + 1]);                                        \
    pairs[2 * i + 1] = ec2t_mcu_joined(x[2 * i + 1], x[2 * i + 2]);
    EC2T_MCU_EACH_GROUP(EC2T_MCU_STEP)
#undef EC2T_MCU_STEP
    EC2T_MCU_EACH_TAP(parts[2]) { /* place 1 */
        const uint32_t *words = ec2t_mcu_words(p + *list++ - 1);
#define EC2T_MCU_STEP(i)                                                                           \
    pairs[2 * i] += words[2 * i] >> 8 & mask, pairs[2 * i + 1] += words[2 * i + 1] >> 8 & mask;
        EC2T_MCU_EACH_GROUP(EC2T_MCU_STEP)
#undef EC2T_MCU_STEP
    }
    EC2T_MCU_EACH_TAP(parts[3]) { /* place 0 */
        const uint32_t *words = ec2t_mcu_words(p + *list++);
#define EC2T_MCU_STEP(i)                                                                           \
    pairs[2 * i] += words[2 * i] & mask, pairs[2 * i + 1] += words[2 * i + 1] & mask;
        EC2T_MCU_EACH_GROUP(EC2T_MCU_STEP)
#undef EC2T_MCU_STEP
    }
#define EC2T_MCU_STEP(i) lanes[i] = (ec2t_mcu_lanes){pairs[2 * i], pairs[2 * i + 1]};
    EC2T_MCU_EACH_GROUP(EC2T_MCU_STEP)
#undef EC2T_MCU_STEP
}

/* Tiles of one run of sixteen neighbours, and halves of one. */
#define EC2T_MCU_PLACES(name, stride, groups)                                                      \
    static __attribute__((noinline, unused)) void name(                                            \
        const uint8_t *p, const ec2t_mcu_part *parts, ec2t_mcu_lanes *lanes) {                     \
        ec2t_mcu_places_##stride(p, parts, lanes, groups);                                         \
    }
EC2T_MCU_PLACES(ec2t_mcu_sixteen_places_1, 1, 4)
EC2T_MCU_PLACES(ec2t_mcu_sixteen_places_2, 2, 4)
EC2T_MCU_PLACES(ec2t_mcu_eight_places_1, 1, 2)
EC2T_MCU_PLACES(ec2t_mcu_eight_places_2, 2, 2)

#endif
#endif
