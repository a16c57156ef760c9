/* Int8 convolutions on cores with DSP instructions, four pixels and two output channels at a time.
 *
 * A patch (the inputs under four output pixels) is unpacked once into a panel of 16-bit pairs and
 * then multiplied with the weights of every output channel. One weight word holds two taps of two
 * channels: each half is w0 + 256 * w1. SMLAD with the word as it is sums T = S0 + 256 * S1, SMLAD
 * with its sign-extended even bytes sums S0, so two channels cost one unpacking instruction and S1
 * is (T - S0) / 256. The exporter sees to it that halves have 16 bits and S1 has 24. */
#include "dsp.h"

#if defined(EC2T_MCU_DSP)

enum {
    /* Words of an entry of the stream besides its steps: two sums to start from, multiplier,
     * rounding and shift of two channels. */
    ENTRY_WORDS = 8,
    /* Bytes of one step in the unrolled loop: twelve instructions of four bytes. */
    STEP_BYTES = 48
};

/* What the assembly keeps on its stack; order and size are known to it. */
typedef struct {
    const uint32_t *panel_end;
    uint8_t *output;
    uint32_t plane;    /* of the output */
    uint32_t pixel[3]; /* bytes from the first pixel's output to the others' */
    const uint32_t *panel, *stream_end;
    uint32_t entry; /* bytes of the loop that its first turn leaves out */
} Frame;

/* One step: two taps, two channels, four pixels. r0 walks over the panel, r1 over the stream; r4 to
 * r7 sum S0 of the pixels, r8 to r11 sum T. */
#define STEP                                                                                       \
    "ldr.w r2,[r1],#4\n ldrd r12,lr,[r0,#8]\n sxtb16 r3,r2\n"                                      \
    "smlad r6,r12,r3,r6\n smlad r10,r12,r2,r10\n smlad r7,lr,r3,r7\n smlad r11,lr,r2,r11\n"        \
    "ldrd r12,lr,[r0],#16\n"                                                                       \
    "smlad r4,r12,r3,r4\n smlad r8,r12,r2,r8\n smlad r5,lr,r3,r5\n smlad r9,lr,r2,r9\n"
/* Sums of one entry, then T - S0 in r8 to r11. The first step starts from the biases in r4 and r8
 * and jumps into the loop, whose turns are of eight steps. */
#define BEGIN                                                                                      \
    "sub sp,#36\n ldm r0,{r2-r10}\n mov r12,sp\n"                                                  \
    "adr.w r11,2f\n orr r11,#1\n add r10,r10,r11\n stm r12,{r2-r10}\n mov r0,r8\n"
#define SUMS                                                                                       \
    ".p2align 2\n"                                                                                 \
    "1: ldrd r4,r8,[r1],#8\n ldr r2,[r1],#4\n ldrd r12,lr,[r0,#8]\n sxtb16 r3,r2\n"                \
    "smlad r6,r12,r3,r4\n smlad r10,r12,r2,r8\n smlad r7,lr,r3,r4\n smlad r11,lr,r2,r8\n"          \
    "ldrd r12,lr,[r0],#16\n"                                                                       \
    "smlad r5,lr,r3,r4\n smlad r9,lr,r2,r8\n smlad r4,r12,r3,r4\n smlad r8,r12,r2,r8\n"            \
    "ldr pc,[sp,#32]\n"                                                                            \
    ".p2align 2\n"                                                                                 \
    "2:" STEP STEP STEP STEP STEP STEP STEP STEP "ldr r12,[sp]\n cmp r0,r12\n bne.w 2b\n"          \
    "sub r8,r4\n sub r9,r5\n sub r10,r6\n sub r11,r7\n"
/* A sum to a byte in lr; r0 multiplier, r2 rounding, r3 shift. ec2t_mcu_to_byte. */
#define EVEN(sum)                                                                                  \
    "lsl lr," sum ",#1\n smmlar lr,lr,r0,r2\n add lr,lr," sum ",asr #31\n asr lr,lr,r3\n"          \
    "ssat lr,#8,lr\n"
#define ODD(sum)                                                                                   \
    "asr lr," sum ",#7\n smmlar lr,lr,r0,r2\n add lr,lr," sum ",asr #31\n asr lr,lr,r3\n"          \
    "ssat lr,#8,lr\n"

/* Assembly is laid out by hand. */
/* clang-format off */
/* The outputs of all entries from `stream` to frame->stream_end. */
static __attribute__((naked, noinline)) void
panel_run(const Frame *frame __attribute__((unused)), const uint32_t *stream __attribute__((unused))) {
    __asm volatile(
        "push {r4-r11,lr}\n" BEGIN SUMS
        "ldm r1!,{r0,r2,r3}\n ldr r12,[sp,#4]\n"
        EVEN("r4") "strb lr,[r12]\n ldr r4,[sp,#12]\n"
        EVEN("r5") "strb lr,[r12,r4]\n ldrd r4,r5,[sp,#16]\n"
        EVEN("r6") "strb lr,[r12,r4]\n"
        EVEN("r7") "strb lr,[r12,r5]\n"
        "ldrd r6,r7,[sp,#8]\n ldm r1!,{r0,r2,r3}\n add r12,r6\n"
        ODD("r8") "strb lr,[r12]\n"
        ODD("r9") "strb lr,[r12,r7]\n"
        ODD("r10") "strb lr,[r12,r4]\n"
        ODD("r11") "strb lr,[r12,r5]\n"
        "add r12,r6\n str r12,[sp,#4]\n ldrd r0,r2,[sp,#24]\n cmp r1,r2\n bne.w 1b\n"
        "add sp,#36\n pop {r4-r11,pc}\n");
}

/* The sums of one entry: four of its first channel, then 256 times those of its second. */
static __attribute__((naked, noinline)) void
panel_sums(const Frame *frame __attribute__((unused)), const uint32_t *stream __attribute__((unused)),
           int32_t *sums __attribute__((unused))) {
    __asm volatile(
        "push {r2,r4-r11,lr}\n" BEGIN SUMS
        "ldr r0,[sp,#36]\n stm r0,{r4-r11}\n add sp,#40\n pop {r4-r11,pc}\n");
}
/* clang-format on */

/* Taps come as `runs` of four neighbours in a row, then as `doubles`: two runs of three, then as
 * `pairs` of taps anywhere. A step's words are its two inputs under each of the four pixels. */
static void pack(const ec2t_mcu_panel_conv *layer, const uint8_t *const *at, uint32_t *panel) {
    const uint8_t *const p0 = at[0], *const p1 = at[1], *const p2 = at[2], *const p3 = at[3];
    const uint16_t *taps = layer->taps;
#define PIXELS PIXEL(0) PIXEL(1) PIXEL(2) PIXEL(3)
    for (const uint16_t *end = taps + layer->runs; taps != end; panel += 8) {
        const uint32_t t = *taps++;
#define PIXEL(i)                                                                                   \
    {                                                                                              \
        const uint32_t word = ec2t_mcu_word_at(p##i + t);                                          \
        panel[i] = ec2t_mcu_even_bytes(word), panel[4 + i] = ec2t_mcu_odd_bytes(word);             \
    }
        PIXELS
#undef PIXEL
    }
    for (const uint16_t *end = taps + 2u * layer->doubles; taps != end; panel += 12) {
        const uint32_t t = taps[0], u = taps[1];
        taps += 2;
#define PIXEL(i)                                                                                   \
    {                                                                                              \
        const uint32_t a = ec2t_mcu_word_at(p##i + t), b = ec2t_mcu_word_at(p##i + u);             \
        panel[i] = ec2t_mcu_even_bytes(a), panel[4 + i] = ec2t_mcu_even_bytes(b);                  \
        panel[8 + i] = ec2t_mcu_low_halves(ec2t_mcu_odd_bytes(a), ec2t_mcu_odd_bytes(b));          \
    }
        PIXELS
#undef PIXEL
    }
    for (const uint16_t *end = taps + 2u * layer->pairs; taps != end; panel += 4) {
        const uint32_t t = taps[0], u = taps[1];
        taps += 2;
#define PIXEL(i)                                                                                   \
    panel[i] = ec2t_mcu_low_halves((uint32_t)(int32_t)(int8_t)p##i[t],                             \
                                   (uint32_t)(int32_t)(int8_t)p##i[u]);
        PIXELS
#undef PIXEL
    }
#undef PIXELS
}

/* The same for pixels that are neighbours, at a stride of 1: their inputs overlap. */
static void pack_neighbours(const ec2t_mcu_panel_conv *layer, const uint8_t *p, uint32_t *panel) {
    const uint16_t *taps = layer->taps;
    for (const uint16_t *end = taps + layer->runs; taps != end; panel += 8) {
        const uint8_t *const q = p + *taps++;
        const uint32_t a = ec2t_mcu_word_at(q), b = ec2t_mcu_word_at(q + 2);
        panel[0] = ec2t_mcu_even_bytes(a), panel[1] = panel[4] = ec2t_mcu_odd_bytes(a);
        panel[2] = panel[5] = ec2t_mcu_even_bytes(b);
        panel[3] = panel[6] = ec2t_mcu_odd_bytes(b);
        panel[7] = ec2t_mcu_even_bytes(ec2t_mcu_word_at(q + 4));
    }
    for (const uint16_t *end = taps + 2u * layer->doubles; taps != end; panel += 12) {
        const uint8_t *const q = p + taps[0], *const r = p + taps[1];
        taps += 2;
        const uint32_t a = ec2t_mcu_word_at(q), b = ec2t_mcu_word_at(q + 2);
        const uint32_t c = ec2t_mcu_word_at(r), d = ec2t_mcu_word_at(r + 2);
        const uint32_t oa = ec2t_mcu_odd_bytes(a), eb = ec2t_mcu_even_bytes(b);
        const uint32_t ob = ec2t_mcu_odd_bytes(b), oc = ec2t_mcu_odd_bytes(c);
        const uint32_t ed = ec2t_mcu_even_bytes(d), od = ec2t_mcu_odd_bytes(d);
        panel[0] = ec2t_mcu_even_bytes(a), panel[1] = oa, panel[2] = eb, panel[3] = ob;
        panel[4] = ec2t_mcu_even_bytes(c), panel[5] = oc, panel[6] = ed, panel[7] = od;
        panel[8] = ec2t_mcu_low_halves(oa, oc), panel[9] = ec2t_mcu_low_halves(eb, ed);
        panel[10] = ec2t_mcu_low_halves(ob, od), panel[11] = ec2t_mcu_high_halves(eb, ed);
    }
    for (const uint16_t *end = taps + 2u * layer->pairs; taps != end; panel += 4) {
        const uint32_t a = ec2t_mcu_word_at(p + taps[0]), b = ec2t_mcu_word_at(p + taps[1]);
        taps += 2;
        const uint32_t ea = ec2t_mcu_even_bytes(a), oa = ec2t_mcu_odd_bytes(a);
        const uint32_t eb = ec2t_mcu_even_bytes(b), ob = ec2t_mcu_odd_bytes(b);
        panel[0] = ec2t_mcu_low_halves(ea, eb), panel[1] = ec2t_mcu_low_halves(oa, ob);
        panel[2] = ec2t_mcu_high_halves(ea, eb), panel[3] = ec2t_mcu_high_halves(oa, ob);
    }
}

/* An entry whose multipliers or sums are not for the assembly. */
static void exact_entry(const ec2t_mcu_panel_conv *layer, const Frame *frame,
                        const uint32_t *stream, uint32_t words, uint32_t channels) {
    int32_t sums[8];
    panel_sums(frame, stream, sums);
    const uint32_t *constants = stream + words - 6u;
    uint8_t *to = frame->output;
    for (uint32_t c = 0; c < channels; ++c, constants += 3, to += frame->plane) {
        for (uint32_t i = 0; i < 4u; ++i) {
            const int32_t sum = c ? sums[4u + i] >> 8 : sums[i];
            const int32_t value =
                ec2t_mcu_requantise(sum, (int32_t)constants[0], (int32_t)constants[2]);
            to[i ? frame->pixel[i - 1u] : 0u] =
                ec2t_mcu_byte(ec2t_mcu_clamped(value, &layer->clamp));
        }
    }
}

/* Entries of `part` and the parts after it for the pixels of one panel. */
static void entries(const ec2t_mcu_panel_conv *layer, Frame *frame, const ec2t_mcu_panel_part *part,
                    const uint32_t *stream, uint32_t words) {
    const uint32_t plane = layer->out.plane;
    uint8_t *to = frame->output;
    for (; part->entries; ++part) {
        const uint32_t channels = part->kind & EC2T_MCU_PANEL_ALONE ? 1u : 2u;
        /* The channel of an entry for one comes twice, to one plane. */
        frame->plane = channels == 1u ? 0u : plane;
        uint32_t left = part->entries, at_once = left;
        if (part->kind != EC2T_MCU_PANEL_PAIRS)
            at_once = 1u;
        for (; left; left -= at_once) {
            const uint32_t *const end = stream + at_once * words;
            frame->output = to;
            frame->stream_end = end;
            if (part->kind & EC2T_MCU_PANEL_EXACT) {
                exact_entry(layer, frame, stream, words, channels);
            } else {
                panel_run(frame, stream);
            }
            stream = end;
            to += at_once * channels * plane;
        }
    }
}

void ec2t_mcu_panel_conv_run(const ec2t_mcu_panel_conv *layer, const uint8_t *input,
                             uint8_t *output, uint32_t *panel) {
    const ec2t_mcu_planar *in = &layer->in, *out = &layer->out;
    const uint32_t row_step = (uint32_t)layer->stride_y * in->pitch, step = layer->stride_x;
    const uint32_t width = out->width;
    const uint32_t steps = 2u * layer->runs + 3u * layer->doubles + layer->pairs;
    const uint32_t words = ENTRY_WORDS + steps;
    /* Most layers are one part of pairs. */
    const ec2t_mcu_panel_part *rest = layer->parts;
    const uint32_t *first_end = layer->stream;
    if (rest->kind == EC2T_MCU_PANEL_PAIRS)
        first_end += rest++->entries * words;
    const uint32_t first_planes = (uint32_t)(first_end - layer->stream) / words * 2u * out->plane;
    uint8_t *plane = output;
    Frame frame;
    frame.panel = panel;
    frame.panel_end = panel + 4u * steps;
    frame.entry = (7u - (steps + 6u) % 8u) * STEP_BYTES;
    ec2t_mcu_lead(out, output);
    uint32_t x = 0;
    for (uint32_t left = (uint32_t)out->height * width; left;) {
        uint8_t *const to = output + x;
        if (x + 4u <= width) {
            const uint8_t *const p = input + x * step;
            frame.pixel[0] = 1, frame.pixel[1] = 2, frame.pixel[2] = 3;
            left -= 4u, x += 4u;
            if (step == 1) {
                pack_neighbours(layer, p, panel);
            } else {
                const uint8_t *const at[4] = {p, p + step, p + 2u * step, p + 3u * step};
                pack(layer, at, panel);
            }
            if (x == width)
                x = 0, input += row_step, output += out->pitch;
        } else { /* on to the next rows */
            const uint8_t *at[4];
            uint32_t where[4];
#pragma GCC unroll 1
            for (uint32_t i = 0; i < 4u; ++i) {
                at[i] = input + x * step;
                where[i] = (uint32_t)(output + x - to);
                if (left == 1u && i < 3u)
                    continue; /* the last pixel once more */
                --left;
                if (++x == width)
                    x = 0, input += row_step, output += out->pitch;
            }
            frame.pixel[0] = where[1], frame.pixel[1] = where[2], frame.pixel[2] = where[3];
            pack(layer, at, panel);
        }
        if (first_planes) {
            frame.output = to;
            frame.plane = out->plane;
            frame.stream_end = first_end;
            panel_run(&frame, layer->stream);
        }
        if (rest->entries) {
            frame.output = to + first_planes;
            entries(layer, &frame, rest, first_end, words);
        }
    }
    for (uint32_t o = out->channels; o; --o, plane += out->plane) {
        ec2t_mcu_limit_whole(out, plane, &layer->clamp);
        ec2t_mcu_border(out, plane, 0);
    }
}

#endif
