/* Depthwise 3x3 convolutions of int8 weights on cores with DSP instructions: one call a plane, four
 * neighbouring pixels a turn (two at a stride of 2). Sign-extended even and odd bytes of a word are
 * the pairs (0, 2) and (1, 3) of its inputs: a row of three taps is one SMLAD and one SMLAxB. */
#include "dsp.h"

#if defined(EC2T_MCU_DSP)

/* What the assembly keeps on its stack; order and size are known to it. */
typedef struct {
    int32_t multiplier, rounding, right;
    int32_t left; /* includes the doubling */
    int32_t away; /* -1 where a second rounding follows, else 0 */
    int32_t bias;
    uint32_t weights[6]; /* a row: the outer two taps, the middle one in the low half (in the upper
                            one a weight of the next row, which nothing reads) */
    uint8_t *row_end;    /* of the output */
    uint32_t rows, in_gap, out_gap, out_pitch;
} Plane;

/* r0 and lr walk over the input, two bytes apart; r1 is its pitch; r12 walks over the output. */
#define BEGIN                                                                                      \
    "push {r4-r11,lr}\n sub sp,#68\n ldm r3!,{r4-r11}\n mov r12,sp\n stm r12!,{r4-r11}\n"          \
    "ldm r3,{r4-r11,lr}\n stm r12,{r4-r11,lr}\n mov r12,r2\n add lr,r0,#2\n"
#define NEXT_ROW                                                                                   \
    "ldr r2,[sp,#48]\n cmp r12,r2\n bne.w 1b\n"                                                    \
    "ldrd r3,r4,[sp,#52]\n subs r3,#1\n beq 2f\n str r3,[sp,#52]\n add r0,r4\n add lr,r4\n"        \
    "ldrd r3,r4,[sp,#60]\n add r12,r3\n add r2,r4\n str r2,[sp,#48]\n b.w 1b\n"                    \
    "2: add sp,#68\n pop {r4-r11,pc}\n"
/* A sum to a byte; r8 multiplier, r9 rounding, r10 shift. ec2t_mcu_to_byte. */
#define CONSTANTS "ldm sp,{r8-r10}\n adds r0,#4\n add lr,#4\n"
#define PUT(sum)                                                                                   \
    "lsl r2," sum ",#1\n smmlar r2,r2,r8,r9\n add r2,r2," sum ",asr #31\n asr r2,r10\n"            \
    "ssat r2,#8,r2\n strb r2,[r12],#1\n"
/* The same for any multiplier: r11 shifts left before, r3 says whether to round again. */
#define CONSTANTS_ANY "ldm sp,{r8-r11}\n ldr r3,[sp,#16]\n adds r0,#4\n add lr,#4\n"
#define PUT_ANY(sum)                                                                               \
    "lsl r2," sum ",r11\n smmlar r2,r2,r8,r9\n and " sum ",r3," sum ",asr #31\n"                   \
    "add r2," sum "\n asr r2,r10\n ssat r2,#8,r2\n strb r2,[r12],#1\n"
#define FOUR(weights, first, second, a, b, c, d)                                                   \
    "ldrd r2,r3,[sp,#" weights "]\n ldr r8,[" first "]\n ldr r10,[" second "]\n"                   \
    "sxtb16 r9,r8,ror #8\n sxtb16 r8,r8\n sxtb16 r11,r10,ror #8\n sxtb16 r10,r10\n"                \
    "smlad r4,r8,r2," a "\n smlad r5,r9,r2," b "\n smlad r6,r10,r2," c "\n smlad r7,r11,r2," d     \
    "\n"                                                                                           \
    "smlabb r4,r9,r3,r4\n smlabb r5,r10,r3,r5\n smlabb r6,r11,r3,r6\n smlatb r7,r10,r3,r7\n"
#define TWO(first, second, outer, middle, a, b)                                                    \
    "ldr r8,[" first "]\n ldr r10,[" second "]\n"                                                  \
    "sxtb16 r9,r8,ror #8\n sxtb16 r8,r8\n sxtb16 r10,r10\n"                                        \
    "smlad r4,r8," outer "," a "\n smlad r5,r10," outer "," b "\n"                                 \
    "smlabb r4,r9," middle ",r4\n smlatb r5,r9," middle ",r5\n"
#define STRIDE_1                                                                                   \
    "1: ldr r7,[sp,#20]\n" FOUR("24", "r0", "lr", "r7", "r7", "r7", "r7")                          \
        FOUR("32", "r0,r1", "lr,r1", "r4", "r5", "r6", "r7")                                       \
            FOUR("40", "r0,r1,lsl #1", "lr,r1,lsl #1", "r4", "r5", "r6", "r7")
#define STRIDE_2                                                                                   \
    "ldrd r6,r7,[sp,#40]\n"                                                                        \
    "1: ldrd r2,r3,[sp,#24]\n ldr r5,[sp,#20]\n" TWO(                                              \
        "r0", "lr", "r2", "r3", "r5", "r5") "ldrd r2,r3,[sp,#32]\n" TWO("r0,r1", "lr,r1", "r2",    \
                                                                        "r3", "r4", "r5")          \
        TWO("r0,r1,lsl #1", "lr,r1,lsl #1", "r6", "r7", "r4", "r5")

/* One plane of `name`: input, its pitch, output, constants. */
#define PLANE(name, text)                                                                          \
    static __attribute__((naked, noinline)) void name(                                             \
        const uint8_t *input __attribute__((unused)), uint32_t pitch __attribute__((unused)),      \
        uint8_t *output __attribute__((unused)), const Plane *plane __attribute__((unused))) {     \
        __asm volatile(text);                                                                      \
    }
PLANE(stride_1, BEGIN STRIDE_1 CONSTANTS PUT("r4") PUT("r5") PUT("r6") PUT("r7") NEXT_ROW)
PLANE(stride_2, BEGIN STRIDE_2 CONSTANTS PUT("r4") PUT("r5") NEXT_ROW)
PLANE(stride_1_any,
      BEGIN STRIDE_1 CONSTANTS_ANY PUT_ANY("r4") PUT_ANY("r5") PUT_ANY("r6") PUT_ANY("r7") NEXT_ROW)
PLANE(stride_2_any, BEGIN STRIDE_2 CONSTANTS_ANY PUT_ANY("r4") PUT_ANY("r5") NEXT_ROW)
typedef void (*Tile)(const uint8_t *, uint32_t, uint8_t *, const Plane *);

static inline __attribute__((always_inline)) void run(const ec2t_mcu_depthwise_conv *layer,
                                                      const uint8_t *input, uint8_t *output,
                                                      Tile fours, Tile twos) {
    const ec2t_mcu_planar *in = &layer->in, *out = &layer->out;
    const uint32_t pixels = layer->stride_x == 1 ? 4u : 2u;
    uint32_t rows = out->height, turns = (out->width + pixels - 1u) / pixels;
    /* A plane may also be taken as one long row, borders included. */
    if (layer->stride_x == 1 && layer->stride_y == 1 && in->pitch == out->pitch) {
        const uint32_t flat = ((rows - 1u) * out->pitch + out->width + 3u) / 4u;
        if (flat * 8u < rows * (turns * 8u + 1u))
            rows = 1, turns = flat;
    }
    const uint32_t length = turns * pixels;
    const int32_t zero_point = layer->clamp.zero_point;
    Plane plane;
    plane.in_gap = (uint32_t)layer->stride_y * in->pitch - 4u * turns;
    plane.out_gap = out->pitch - length;
    plane.out_pitch = out->pitch;
    ec2t_mcu_lead(out, output);
    const int8_t *weights = layer->weights;
    uint32_t of_input = layer->depth_multiplier;
    for (uint32_t o = 0; o < out->channels; ++o, output += out->plane) {
        const ec2t_mcu_channel channel = ec2t_mcu_channel_at(&layer->channels, o);
        const int32_t shift = channel.shift, right = shift < 0 ? -shift : 0;
        plane.multiplier = channel.multiplier;
        plane.rounding = zero_point * (1 << right) + (right ? 1 << (right - 1) : 0);
        plane.right = right;
        plane.left = 1 + (shift > 0 ? shift : 0);
        plane.away = right ? -1 : 0;
        plane.bias = channel.bias;
        plane.rows = rows;
        for (uint32_t i = 0; i < 3u; ++i, weights += 3) {
            const uint32_t word = ec2t_mcu_word_at((const uint8_t *)weights);
            plane.weights[2u * i] = ec2t_mcu_even_bytes(word);
            plane.weights[2u * i + 1u] = ec2t_mcu_odd_bytes(word);
        }
        plane.row_end = output + length;
        (pixels == 4u ? fours : twos)(input, in->pitch, output, &plane);
        ec2t_mcu_limit_whole(out, output, &layer->clamp);
        ec2t_mcu_border(out, output, 0);
        if (!--of_input)
            of_input = layer->depth_multiplier, input += in->plane;
    }
}

void ec2t_mcu_depthwise_conv_run(const ec2t_mcu_depthwise_conv *layer, const uint8_t *input,
                                 uint8_t *output) {
    run(layer, input, output, stride_1, stride_2);
}

void ec2t_mcu_depthwise_conv_run_any(const ec2t_mcu_depthwise_conv *layer, const uint8_t *input,
                                     uint8_t *output) {
    run(layer, input, output, stride_1_any, stride_2_any);
}

#endif
