/* Private: sums of the activations at listed places, 64 at a time in int16. */
#include <arm_neon.h>

#define ALWAYS_INLINE static inline __attribute__((always_inline))

#include "../portable/planar_offsets.h"

/* Where inline assembly stands in for what GCC compiles into needless copies and shifts. */
#if defined(__GNUC__) && !defined(__clang__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define NAMED_REGISTERS
#endif

/* Sums of 64 activations, or fewer: those beyond `blocks` stay unused. Named, not an array:
 * compilers keep these in registers. */
typedef struct {
    int16x8_t s0, s1, s2, s3, s4, s5, s6, s7;
} sums64;

/* The first `blocks` of four vectors. */
ALWAYS_INLINE int8x16x4_t load_place(const int8_t *from, int blocks) {
    if (blocks == 4) {
        return vld1q_s8_x4(from);
    }
    const int8x16_t first = vld1q_s8(from);
    return (int8x16x4_t){{first, blocks > 1 ? vld1q_s8(from + 16) : first,
                          blocks > 2 ? vld1q_s8(from + 32) : first, first}};
}

ALWAYS_INLINE sums64 zero_sums(void) {
    const int16x8_t zero = vdupq_n_s16(0);
    return (sums64){zero, zero, zero, zero, zero, zero, zero, zero};
}

/* Sums of one place, of two, and of one more. */
ALWAYS_INLINE sums64 widen_one(int8x16x4_t x) {
    return (sums64){
        vmovl_s8(vget_low_s8(x.val[0])), vmovl_high_s8(x.val[0]),
        vmovl_s8(vget_low_s8(x.val[1])), vmovl_high_s8(x.val[1]),
        vmovl_s8(vget_low_s8(x.val[2])), vmovl_high_s8(x.val[2]),
        vmovl_s8(vget_low_s8(x.val[3])), vmovl_high_s8(x.val[3]),
    };
}

ALWAYS_INLINE sums64 add_two(int8x16x4_t x, int8x16x4_t y) {
    return (sums64){
        vaddl_s8(vget_low_s8(x.val[0]), vget_low_s8(y.val[0])), vaddl_high_s8(x.val[0], y.val[0]),
        vaddl_s8(vget_low_s8(x.val[1]), vget_low_s8(y.val[1])), vaddl_high_s8(x.val[1], y.val[1]),
        vaddl_s8(vget_low_s8(x.val[2]), vget_low_s8(y.val[2])), vaddl_high_s8(x.val[2], y.val[2]),
        vaddl_s8(vget_low_s8(x.val[3]), vget_low_s8(y.val[3])), vaddl_high_s8(x.val[3], y.val[3]),
    };
}

ALWAYS_INLINE sums64 add_one(sums64 s, int8x16x4_t x) {
    return (sums64){
        vaddw_s8(s.s0, vget_low_s8(x.val[0])), vaddw_high_s8(s.s1, x.val[0]),
        vaddw_s8(s.s2, vget_low_s8(x.val[1])), vaddw_high_s8(s.s3, x.val[1]),
        vaddw_s8(s.s4, vget_low_s8(x.val[2])), vaddw_high_s8(s.s5, x.val[2]),
        vaddw_s8(s.s6, vget_low_s8(x.val[3])), vaddw_high_s8(s.s7, x.val[3]),
    };
}

#if defined(NAMED_REGISTERS)
/* add_one twice, 64 wide. GCC copies half of the registers that a load of four returns; named
 * registers spare a tenth of all instructions. */
ALWAYS_INLINE sums64 add_two_more(sums64 s, const int8_t *x, const int8_t *y) {
    __asm__("ld1 {v24.16b-v27.16b}, [%[x]]\n\t"
            "ld1 {v28.16b-v31.16b}, [%[y]]\n\t"
            "saddw %[s0].8h, %[s0].8h, v24.8b\n\t"
            "saddw2 %[s1].8h, %[s1].8h, v24.16b\n\t"
            "saddw %[s2].8h, %[s2].8h, v25.8b\n\t"
            "saddw2 %[s3].8h, %[s3].8h, v25.16b\n\t"
            "saddw %[s4].8h, %[s4].8h, v26.8b\n\t"
            "saddw2 %[s5].8h, %[s5].8h, v26.16b\n\t"
            "saddw %[s6].8h, %[s6].8h, v27.8b\n\t"
            "saddw2 %[s7].8h, %[s7].8h, v27.16b\n\t"
            "saddw %[s0].8h, %[s0].8h, v28.8b\n\t"
            "saddw2 %[s1].8h, %[s1].8h, v28.16b\n\t"
            "saddw %[s2].8h, %[s2].8h, v29.8b\n\t"
            "saddw2 %[s3].8h, %[s3].8h, v29.16b\n\t"
            "saddw %[s4].8h, %[s4].8h, v30.8b\n\t"
            "saddw2 %[s5].8h, %[s5].8h, v30.16b\n\t"
            "saddw %[s6].8h, %[s6].8h, v31.8b\n\t"
            "saddw2 %[s7].8h, %[s7].8h, v31.16b"
            : [s0] "+w"(s.s0), [s1] "+w"(s.s1), [s2] "+w"(s.s2), [s3] "+w"(s.s3), [s4] "+w"(s.s4),
              [s5] "+w"(s.s5), [s6] "+w"(s.s6), [s7] "+w"(s.s7)
            : [x] "r"(x), [y] "r"(y), "m"(*(const int8_t (*)[64])x), "m"(*(const int8_t (*)[64])y)
            : "v24", "v25", "v26", "v27", "v28", "v29", "v30", "v31");
    return s;
}
#else
ALWAYS_INLINE sums64 add_two_more(sums64 s, const int8_t *x, const int8_t *y) {
    return add_one(add_one(s, load_place(x, 4)), load_place(y, 4));
}
#endif

/* The places of the next pair of offsets; `list` moves beyond it. Short ones come in one load and
 * are unpacked by the additions, which compilers do in more instructions. */
#if defined(NAMED_REGISTERS)
#define UNPACK(first, second, pair)                                                                \
    "add %[" first "], %[base], %w[" pair "], uxth\n\t"                                            \
    "add %[" second "], %[base], %x[" pair "], lsr #16\n\t"
ALWAYS_INLINE void next_two_short(const int8_t *base, const void **list, const int8_t *at[2]) {
    uint64_t pair;
    __asm__("ldr %w[pair], [%[list]], #4\n\t" UNPACK("x", "y", "pair")
            : [pair] "=&r"(pair), [x] "=&r"(at[0]), [y] "=r"(at[1]), [list] "+r"(*list)
            : [base] "r"(base), "m"(*(const uint32_t *)*list));
}

ALWAYS_INLINE void next_four_short(const int8_t *base, const void **list, const int8_t *at[4]) {
    uint64_t pair, more;
    __asm__("ldp %w[pair], %w[more], [%[list]], #8\n\t" UNPACK("x", "y", "pair")
                UNPACK("z", "u", "more")
            : [pair] "=&r"(pair), [more] "=&r"(more), [x] "=&r"(at[0]), [y] "=&r"(at[1]),
              [z] "=&r"(at[2]), [u] "=r"(at[3]), [list] "+r"(*list)
            : [base] "r"(base), "m"(*(const uint32_t (*)[2]) * list));
}
#undef UNPACK
#else
ALWAYS_INLINE void next_two_short(const int8_t *base, const void **list, const int8_t *at[2]) {
    at[0] = base + offset_at(*list, 0, 0);
    at[1] = base + offset_at(*list, 1, 0);
    *list = list_at(*list, 2, 0);
}

ALWAYS_INLINE void next_four_short(const int8_t *base, const void **list, const int8_t *at[4]) {
    next_two_short(base, list, at);
    next_two_short(base, list, at + 2);
}
#endif

/* The places of the next `count` offsets, 2 or 4; `list` moves beyond them. */
ALWAYS_INLINE void next_places(const int8_t *base, const void **list, int count, int wide,
                               const int8_t *at[]) {
    if (!wide) {
        if (count == 4) {
            next_four_short(base, list, at);
        } else {
            next_two_short(base, list, at);
        }
        return;
    }
    for (int i = 0; i < count; ++i) {
        at[i] = base + offset_at(*list, (size_t)i, 1);
    }
    *list = list_at(*list, (size_t)count, 1);
}

/* Sums of the activations at the listed places. */
ALWAYS_INLINE sums64 sum_places(const int8_t *base, const void *list, uint32_t count, int blocks,
                                int wide) {
#define PLACE(from) load_place(from, blocks)
#define ADD_TWO_MORE(s, x, y)                                                                      \
    (blocks == 4 ? add_two_more(s, x, y) : add_one(add_one(s, PLACE(x)), PLACE(y)))
    if (count < 2) {
        return count == 0 ? zero_sums() : widen_one(PLACE(base + offset_at(list, 0, wide)));
    }
    const int8_t *at[4];
    next_places(base, &list, 2, wide, at);
    sums64 s = add_two(PLACE(at[0]), PLACE(at[1]));
    for (count -= 2; count >= 4; count -= 4) {
        next_places(base, &list, 4, wide, at);
        s = ADD_TWO_MORE(s, at[0], at[1]);
        s = ADD_TWO_MORE(s, at[2], at[3]);
    }
    if (count & 2) {
        next_places(base, &list, 2, wide, at);
        s = ADD_TWO_MORE(s, at[0], at[1]);
    }
    return count & 1 ? add_one(s, PLACE(base + offset_at(list, 0, wide))) : s;
#undef PLACE
#undef ADD_TWO_MORE
}
