/* Cycles of Thumb instructions by Arm's published tables: Cortex-M0+ (DDI 0484, 3.3), Cortex-M3
 * (DDI 0337, 3.3.1), Cortex-M4 (DDI 0439, 3.3.1). No wait states; a taken branch refills the
 * pipeline in 2 cycles of the 1 to 3 published; a long division is taken at 7 of 2 to 12. The
 * tables' footnotes are followed where they matter: neighbouring single loads and stores of M3 and
 * M4 are pipelined, and an address that the instruction before computed costs one cycle more. */
#ifndef THUMB_TIMING_H
#define THUMB_TIMING_H
#include <stdint.h>

enum timing { TIMING_NONE, TIMING_M0PLUS, TIMING_M3, TIMING_M4 };
enum thumb_kind { THUMB_OTHER, THUMB_LOAD, THUMB_LOADS, THUMB_STORE };

/* An instruction. Registers are -1 where it has none of that sort. */
struct thumb {
    enum thumb_kind kind; /* THUMB_LOAD: one register; THUMB_LOADS: several */
    unsigned cycles;      /* by itself */
    unsigned refill;      /* more if it branches */
    int writes;           /* register of a result of data processing */
    int loads;            /* register of a single load */
    int base, index;      /* registers of an address */
    int single;           /* a load or store of one register */
};

static inline struct thumb thumb_none(void) {
    return (struct thumb){THUMB_OTHER, 1, 0, -1, -1, -1, -1, 0};
}

static inline unsigned thumb_registers(uint16_t list) {
    return (unsigned)__builtin_popcount(list);
}

static inline void thumb_load(struct thumb *i, int to, int base, int index) {
    i->kind = THUMB_LOAD, i->cycles = 2, i->single = 1;
    i->loads = to, i->base = base, i->index = index;
}

/* Stores wait for nobody on M3 and M4 but where the address is a sum of registers. */
static inline void thumb_store(struct thumb *i, int base, int index, enum timing timing) {
    i->kind = THUMB_STORE, i->single = 1;
    i->cycles = timing == TIMING_M0PLUS || index >= 0 ? 2 : 1;
    i->base = base, i->index = index;
}

static inline void thumb_several(struct thumb *i, int loads, unsigned count) {
    i->kind = loads ? THUMB_LOADS : THUMB_STORE;
    i->cycles = 1 + count;
}

static inline struct thumb thumb_decode_16(uint16_t h, enum timing timing) {
    struct thumb i = thumb_none();
    const unsigned branch = timing == TIMING_M0PLUS ? 1 : 2;
    const int low = h & 7, second = h >> 3 & 7, third = h >> 6 & 7;
    if (h >> 11 == 9) { /* LDR from the literals */
        thumb_load(&i, h >> 8 & 7, 15, -1);
    } else if (h >> 12 == 5) {
        if ((h >> 9 & 7) >= 3)
            thumb_load(&i, low, second, third);
        else
            thumb_store(&i, second, third, timing);
    } else if (h >> 12 >= 6 && h >> 12 <= 8) {
        if (h & 0x800)
            thumb_load(&i, low, second, -1);
        else
            thumb_store(&i, second, -1, timing);
    } else if (h >> 12 == 9) { /* from the stack */
        if (h & 0x800)
            thumb_load(&i, h >> 8 & 7, 13, -1);
        else
            thumb_store(&i, 13, -1, timing);
    } else if (h >> 12 == 0xc) { /* LDM, STM */
        thumb_several(&i, h & 0x800, thumb_registers(h & 0xff));
    } else if ((h & 0xfe00) == 0xbc00) { /* POP */
        thumb_several(&i, 1, thumb_registers(h & 0x1ff));
        if (h & 0x100) {
            i.refill = branch;
            if (timing == TIMING_M0PLUS) /* 3 + n, with the branch */
                i.cycles = 2 + thumb_registers(h & 0xff);
        }
    } else if ((h & 0xfe00) == 0xb400) { /* PUSH */
        thumb_several(&i, 0, thumb_registers(h & 0x1ff));
    } else if ((h >> 12 == 0xd && (h >> 8 & 15) < 14) || h >> 11 == 0x1c) { /* B */
        i.refill = branch;
    } else if ((h & 0xf500) == 0xb100 || (h & 0xff00) == 0x4700) { /* CBZ; BX, BLX */
        i.refill = branch;
    } else if (h >> 13 == 0) {
        i.writes = low;
    } else if (h >> 13 == 1) {
        i.writes = h >> 11 == 5 ? -1 : h >> 8 & 7;
    } else if (h >> 10 == 0x10) {
        i.writes = low;
    } else if (h >> 10 == 0x11) {
        i.writes = (h >> 8 & 3) == 1 ? -1 : low | (h >> 4 & 8);
    } else if (h >> 12 == 0xa) {
        i.writes = h >> 8 & 7;
    }
    return i;
}

static inline struct thumb thumb_decode_32(uint16_t a, uint16_t b, enum timing timing) {
    struct thumb i = thumb_none();
    const unsigned branch = 2;
    const int base = a & 15;
    if ((a & 0xfe40) == 0xe800) { /* LDM, STM */
        thumb_several(&i, a & 0x10, thumb_registers(b));
        if ((a & 0x10) && (b & 0x8000))
            i.refill = branch;
    } else if ((a & 0xfff0) == 0xe8d0 && (b & 0xffe0) == 0xf000) { /* TBB, TBH */
        i.cycles = 2, i.refill = branch;
    } else if ((a & 0xfe40) == 0xe840 && (a & 0x0120)) { /* LDRD, STRD */
        thumb_several(&i, a & 0x10, 2);
    } else if ((a & 0xfe00) == 0xf800) {
        const int index = !(a & 0x80) && !(b & 0x800) ? b & 15 : -1;
        if (!(a & 0x10)) {
            thumb_store(&i, base, index, timing);
        } else if (b >> 12 != 15) {
            thumb_load(&i, b >> 12, base, index);
        } else if ((a & 0x60) == 0x40) { /* LDR to the program counter */
            thumb_load(&i, 15, base, index);
            i.refill = branch;
        } /* else a preload hint */
    } else if ((a & 0xff00) == 0xfb00) {
        const int operation = a >> 4 & 15;
        i.writes = b >> 8 & 15;
        if (operation == 9 || operation == 11)
            i.cycles = 7;
        else if (operation >= 8) /* long products; with an addition they take one cycle more */
            i.cycles = timing != TIMING_M3 ? 1 : operation == 8 || operation == 10 ? 4 : 5;
        else if (timing == TIMING_M3 && b >> 12 != 15)
            i.cycles = 2; /* MLA */
    } else if ((a & 0xf800) == 0xf000 && (b & 0x8000)) {
        const int conditional = !(b & 0x5000) && (a >> 7 & 7) != 7;
        if ((b & 0x5000) == 0x5000 || (b & 0x5000) == 0x4000) /* BL */
            i.refill = timing == TIMING_M0PLUS ? 2 : branch;
        else if ((b & 0x1000) || conditional)
            i.refill = branch;
    } else if ((a & 0xec00) == 0xec00) { /* floating point */
        const unsigned coprocessor = b >> 8 & 15, count = b & 0xff;
        const int memory = (a & 0xfe00) == 0xec00 || (a & 0xfe00) == 0xfc00;
        if ((coprocessor == 10 || coprocessor == 11) && memory)
            thumb_several(&i, a & 0x10, (a & 0x0120) == 0x0100 ? 1 : count);
        else if ((a & 0xffb0) == 0xee80)
            i.cycles = 14; /* VDIV */
    } else {
        i.writes = (b >> 8 & 15) == 15 ? -1 : b >> 8 & 15;
    }
    return i;
}

static inline struct thumb thumb_decode(uint16_t first, uint16_t second, enum timing timing) {
    return first >> 11 >= 0x1d ? thumb_decode_32(first, second, timing)
                               : thumb_decode_16(first, timing);
}

/* Cycles of an instruction behind another of its block. */
static inline unsigned thumb_cycles(const struct thumb *i, const struct thumb *before,
                                    enum timing timing) {
    unsigned cycles = i->cycles;
    if (timing != TIMING_M3 && timing != TIMING_M4)
        return cycles;
    if (!i->single)
        return cycles;
    const int waits = before->loads >= 0 && (i->base == before->loads || i->index == before->loads);
    if (before->kind == THUMB_LOAD && !waits && cycles > 1)
        --cycles; /* pipelined behind a load */
    if (before->writes >= 0 && (i->base == before->writes || i->index == before->writes))
        ++cycles; /* the address was made by the instruction before */
    return cycles;
}
#endif
