/* Additions on Helium: terms out of tables, eight outputs at a time. */
#include "requantise.h"

#if defined(EC2T_MCU_HELIUM)

/* Low halves hold outputs 0 to 3, high halves outputs 4 to 7. */
static const uint16_t order[8] = {0, 4, 1, 5, 2, 6, 3, 7};

/* One input's term for each stored byte: (value - zero point) * 2^20, requantised by a factor of at
 * most 1/2 (shift <= 0). */
static void fill_table(int32_t *table, int32_t zero_point, int32_t multiplier, int32_t shift) {
    uint32x4_t byte = vidupq_n_u32(0, 1);
    for (uint32_t i = 0; i < 256; i += 4, byte = vaddq_n_u32(byte, 4)) {
        const int32x4_t value = vshrq_n_s32(vreinterpretq_s32_u32(vshlq_n_u32(byte, 24)), 24);
        const int32x4_t scaled = vshlq_n_s32(vsubq_n_s32(value, zero_point), 20);
        int32x4_t term = vqrdmulhq_n_s32(scaled, multiplier);
        if (shift < 0)
            term = vrshlq_n_s32(vaddq_s32(term, vshrq_n_s32(scaled, 31)), shift);
        vst1q_s32(table + i, term);
    }
}

static inline int32x4_t terms(const uint8_t *p, const int32_t *table) {
    return vldrwq_gather_shifted_offset_s32(table, vldrbq_u32(p));
}
static inline int32x4_t scaled(int32x4_t sum, int32_t multiplier, int32_t shift) {
    return vrshlq_n_s32(vqrdmlahq_n_s32(vshrq_n_s32(sum, 31), sum, multiplier), shift);
}
typedef struct {
    int32_t multiplier, shift, zero_point;
} Last;
static inline int16x8_t eight(const uint8_t *a, const uint8_t *b, const int32_t *table_a,
                              const int32_t *table_b, Last last) {
    const int32x4_t low = vaddq_s32(terms(a, table_a), terms(b, table_b));
    const int32x4_t high = vaddq_s32(terms(a + 4, table_a), terms(b + 4, table_b));
    int16x8_t both = vqmovnbq_s32(vdupq_n_s16(0), scaled(low, last.multiplier, last.shift));
    both = vqmovntq_s32(both, scaled(high, last.multiplier, last.shift));
    both = vqaddq_n_s16(both, (int16_t)last.zero_point);
    return vreinterpretq_s16_s8(vqmovnbq_s16(vdupq_n_s8(0), both));
}

/* `count` times eight outputs, as `eight`; the compiler runs out of registers. */
static inline void eights(const uint8_t *a, const uint8_t *b, uint8_t *to, const int32_t *table_a,
                          const int32_t *table_b, const Last *last, uint16x8_t places,
                          uint32_t count) {
    /* clang-format off */
    __asm volatile("wls lr,%[n],2f\n 1:\n"
                   "vldrb.u32 q0,[%[a]],#4\n vldrb.u32 q1,[%[b]],#4\n"
                   "vldrw.u32 q2,[%[ta],q0,uxtw #2]\n vldrw.u32 q3,[%[tb],q1,uxtw #2]\n"
                   "vldrb.u32 q0,[%[a]],#4\n vldrb.u32 q1,[%[b]],#4\n vadd.i32 q2,q2,q3\n"
                   "vldrw.u32 q3,[%[ta],q0,uxtw #2]\n vldrw.u32 q4,[%[tb],q1,uxtw #2]\n"
                   "vshr.s32 q0,q2,#31\n vadd.i32 q3,q3,q4\n vqrdmlah.s32 q0,q2,%[m]\n"
                   "vshr.s32 q1,q3,#31\n vqrdmlah.s32 q1,q3,%[m]\n vrshl.s32 q0,%[s]\n"
                   "vrshl.s32 q1,%[s]\n vqmovnb.s32 q0,q0\n vqmovnt.s32 q0,q1\n"
                   "vqadd.s16 q0,q0,%[z]\n vqmovnb.s16 q0,q0\n vstrb.16 q0,[%[to],%q[places]]\n"
                   "add %[to],#8\n le lr,1b\n 2:\n"
                   : [a] "+l"(a), [b] "+l"(b), [to] "+r"(to)
                   : [ta] "r"(table_a), [tb] "r"(table_b), [m] "r"(last->multiplier),
                     [s] "r"(last->shift), [z] "r"(last->zero_point), [places] "w"(places),
                     [n] "r"(count)
                   : "q0", "q1", "q2", "q3", "q4", "lr", "memory");
    /* clang-format on */
}

/* Rows of one plane. Reads up to seven bytes more than `width`. */
static void plane(const ec2t_mcu_add *layer, const uint8_t *a, const uint8_t *b, uint8_t *to,
                  uint32_t rows, uint32_t width, const int32_t *tables) {
    const int32_t *table_a = tables, *table_b = tables + 256;
    const uint16x8_t places = vld1q_u16(order);
    const Last last = {layer->multiplier_out, layer->shift_out, layer->clamp.zero_point};
    const uint32_t rest = width % 8u;
    const mve_pred16_t inside = vcmphiq_u16(vdupq_n_u16((uint16_t)rest), places);
    for (; rows; --rows) {
        const uint32_t whole = width - rest;
        eights(a, b, to, table_a, table_b, &last, places, width / 8u);
        if (rest)
            vstrbq_scatter_offset_p_s16((int8_t *)to + whole, places,
                                        eight(a + whole, b + whole, table_a, table_b, last),
                                        inside);
        a += layer->a.pitch, b += layer->b.pitch, to += layer->out.pitch;
    }
}

void ec2t_mcu_add_helium_run(const ec2t_mcu_add *layer, const uint8_t *a, const uint8_t *b,
                             uint8_t *output, int32_t *tables) {
    const ec2t_mcu_planar *la = &layer->a, *lb = &layer->b, *lo = &layer->out;
    fill_table(tables, layer->zero_point_a, layer->multiplier_a, layer->shift_a);
    fill_table(tables + 256, layer->zero_point_b, layer->multiplier_b, layer->shift_b);
    /* Rows of one length: the plane is one long row, its borders are written afterwards. */
    const int flat = la->pitch == lo->pitch && lb->pitch == lo->pitch;
    const uint32_t rows = flat ? 1u : lo->height;
    const uint32_t width = flat ? (lo->height - 1u) * lo->pitch + lo->width : lo->width;
    ec2t_mcu_lead(lo, output);
    for (uint32_t channel = lo->channels; channel; --channel) {
        plane(layer, a, b, output, rows, width, tables);
        ec2t_mcu_limit_whole(lo, output, &layer->clamp);
        ec2t_mcu_border(lo, output, 0);
        a += la->plane, b += lb->plane, output += lo->plane;
    }
}

#endif
