/* Depthwise convolutions of int8 weights with rows of five or seven taps on cores with DSP
 * instructions: one call a plane, four neighbouring pixels a turn, horizontal stride 1.
 * Sign-extended even and odd bytes of a word are the pairs (0, 2) and (1, 3) of its inputs: weights
 * come in such pairs, the fifth alone; of seven the fifth and the seventh, and the sixth alone. */
#include "dsp.h"

#if defined(EC2T_MCU_DSP)

enum { LAST_ROW = 0x10000 }; /* in the word of the weight that is alone */

/* What the assembly keeps on its stack; order and size are known to it. */
typedef struct {
    int32_t multiplier, rounding, right;
    int32_t left; /* includes the doubling */
    int32_t away; /* -1 where a second rounding follows, else 0 */
    int32_t bias;
    const uint32_t *weights;
    uint8_t *row_end; /* of the output */
    uint32_t rows, in_gap, out_gap, out_pitch;
    uint32_t next; /* from behind the last row of taps to the next turn's first */
} Plane;

/* r0 walks over the input, r1 is the distance of rows of taps; r12 walks over the output, lr over
 * the weights; sums in r4 to r7. Assembly is laid out by hand. */
/* clang-format off */
#define BEGIN                                                                                      \
    "push {r4-r11,lr}\n sub sp,#52\n ldm r3!,{r4-r11}\n mov r12,sp\n stm r12!,{r4-r11}\n"          \
    "ldm r3,{r4-r8}\n stm r12,{r4-r8}\n mov r12,r2\n"                                              \
    "1: ldrd r4,lr,[sp,#20]\n mov r5,r4\n mov r6,r4\n mov r7,r4\n"
#define INPUTS(place) "ldr r10,[r0" place "]\n sxtb16 r9,r10\n sxtb16 r10,r10,ror #8\n"
#define SUM(name, sum, inputs, weights)                                                            \
    name " " sum "," inputs "," weights "," sum "\n"
#define NEXT_TAPS(alone) "add r0,r1\n tst " alone ",#0x10000\n beq 3b\n ldr r2,[sp,#48]\n add r0,r2\n"
#define FIVE                                                                                       \
    "3: ldm lr!,{r2,r3,r8}\n" INPUTS("")                                                           \
    SUM("smlad", "r4", "r9", "r2") SUM("smlad", "r5", "r10", "r2") SUM("smlad", "r4", "r10", "r3") \
    INPUTS(",#2")                                                                                  \
    SUM("smlad", "r6", "r9", "r2") SUM("smlad", "r7", "r10", "r2") SUM("smlad", "r5", "r9", "r3")  \
    SUM("smlad", "r6", "r10", "r3") SUM("smlatb", "r4", "r9", "r8")                                \
    SUM("smlatb", "r5", "r10", "r8")                                                               \
    INPUTS(",#4")                                                                                  \
    SUM("smlad", "r7", "r9", "r3") SUM("smlatb", "r6", "r9", "r8") SUM("smlatb", "r7", "r10", "r8")\
    NEXT_TAPS("r8")
#define SEVEN                                                                                      \
    "3: ldm lr!,{r2,r3,r8,r11}\n" INPUTS("")                                                       \
    SUM("smlad", "r4", "r9", "r2") SUM("smlad", "r5", "r10", "r2") SUM("smlad", "r4", "r10", "r3") \
    INPUTS(",#2")                                                                                  \
    SUM("smlad", "r6", "r9", "r2") SUM("smlad", "r7", "r10", "r2") SUM("smlad", "r5", "r9", "r3")  \
    SUM("smlad", "r6", "r10", "r3")                                                                \
    INPUTS(",#4")                                                                                  \
    SUM("smlad", "r7", "r9", "r3") SUM("smlad", "r4", "r9", "r8") SUM("smlad", "r5", "r10", "r8")  \
    SUM("smlatb", "r5", "r9", "r11") SUM("smlabb", "r4", "r10", "r11")                             \
    SUM("smlatb", "r6", "r10", "r11")                                                              \
    INPUTS(",#6")                                                                                  \
    SUM("smlad", "r6", "r9", "r8") SUM("smlad", "r7", "r10", "r8")                                 \
    SUM("smlatb", "r7", "r9", "r11")                                                               \
    NEXT_TAPS("r11")
/* A sum to a byte; r8 multiplier, r9 rounding, r10 shift. ec2t_mcu_to_byte. */
#define CONSTANTS "ldm sp,{r8-r10}\n"
#define PUT(sum)                                                                                   \
    "lsl r2," sum ",#1\n smmlar r2,r2,r8,r9\n add r2,r2," sum ",asr #31\n asr r2,r10\n"            \
    "ssat r2,#8,r2\n strb r2,[r12],#1\n"
/* The same for any multiplier: r11 shifts left before, r3 says whether to round again. */
#define CONSTANTS_ANY "ldm sp,{r8-r11}\n ldr r3,[sp,#16]\n"
#define PUT_ANY(sum)                                                                               \
    "lsl r2," sum ",r11\n smmlar r2,r2,r8,r9\n and " sum ",r3," sum ",asr #31\n"                   \
    "add r2," sum "\n asr r2,r10\n ssat r2,#8,r2\n strb r2,[r12],#1\n"
#define END                                                                                        \
    "ldr r2,[sp,#28]\n cmp r12,r2\n bne.w 1b\n"                                                    \
    "ldrd r3,r4,[sp,#32]\n subs r3,#1\n beq 2f\n str r3,[sp,#32]\n add r0,r4\n"                    \
    "ldrd r3,r4,[sp,#40]\n add r12,r3\n add r2,r4\n str r2,[sp,#28]\n b.w 1b\n"                    \
    "2: add sp,#52\n pop {r4-r11,pc}\n"
/* clang-format on */

/* One plane of `name`: input, the distance of rows of taps, output, constants. */
#define PLANE(name, text)                                                                          \
    static __attribute__((naked, noinline)) void name(                                             \
        const uint8_t *input __attribute__((unused)), uint32_t row_step __attribute__((unused)),   \
        uint8_t *output __attribute__((unused)), const Plane *plane __attribute__((unused))) {     \
        __asm volatile(text);                                                                      \
    }
PLANE(five, BEGIN FIVE CONSTANTS PUT("r4") PUT("r5") PUT("r6") PUT("r7") END)
PLANE(seven, BEGIN SEVEN CONSTANTS PUT("r4") PUT("r5") PUT("r6") PUT("r7") END)
PLANE(five_any,
      BEGIN FIVE CONSTANTS_ANY PUT_ANY("r4") PUT_ANY("r5") PUT_ANY("r6") PUT_ANY("r7") END)
PLANE(seven_any,
      BEGIN SEVEN CONSTANTS_ANY PUT_ANY("r4") PUT_ANY("r5") PUT_ANY("r6") PUT_ANY("r7") END)
typedef void (*Tile)(const uint8_t *, uint32_t, uint8_t *, const Plane *);

static inline uint32_t pair(int8_t low, int8_t high) {
    return (uint16_t)low | (uint32_t)(uint16_t)high << 16;
}

static inline __attribute__((always_inline)) void run(const ec2t_mcu_depthwise_wide *layer,
                                                      const uint8_t *input, uint8_t *output,
                                                      uint32_t *words, uint32_t columns,
                                                      Tile tile) {
    const ec2t_mcu_planar *in = &layer->in, *out = &layer->out;
    uint32_t rows = out->height, turns = (out->width + 3u) / 4u;
    /* A plane may also be taken as one long row, borders included. */
    if (layer->stride_y == 1 && in->pitch == out->pitch) {
        const uint32_t flat = ((rows - 1u) * out->pitch + out->width + 3u) / 4u;
        if (flat < rows * turns)
            rows = 1, turns = flat;
    }
    const int32_t zero_point = layer->clamp.zero_point;
    Plane plane;
    plane.weights = words;
    plane.in_gap = (uint32_t)layer->stride_y * in->pitch - 4u * turns;
    plane.out_gap = out->pitch - 4u * turns;
    plane.out_pitch = out->pitch;
    plane.next = 4u - (uint32_t)layer->tap_rows * layer->row_step;
    ec2t_mcu_lead(out, output);
    const int8_t *w = layer->weights;
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
        plane.row_end = output + 4u * turns;
        uint32_t *word = words;
        for (uint32_t left = layer->tap_rows; left; --left, w += columns) {
            *word++ = pair(w[0], w[2]);
            *word++ = pair(w[1], w[3]);
            if (columns == 7)
                *word++ = pair(w[4], w[6]);
            *word++ = (uint16_t)w[columns == 7 ? 5 : 4] | (left == 1 ? (uint32_t)LAST_ROW : 0u);
        }
        tile(input, layer->row_step, output, &plane);
        ec2t_mcu_limit_whole(out, output, &layer->clamp);
        ec2t_mcu_border(out, output, 0);
        if (!--of_input)
            of_input = layer->depth_multiplier, input += in->plane;
    }
}

#define RUN(name, columns, tile)                                                                   \
    void name(const ec2t_mcu_depthwise_wide *layer, const uint8_t *input, uint8_t *output,         \
              uint32_t *words) {                                                                   \
        run(layer, input, output, words, columns, tile);                                           \
    }
RUN(ec2t_mcu_depthwise_five_run, 5, five)
RUN(ec2t_mcu_depthwise_five_run_any, 5, five_any)
RUN(ec2t_mcu_depthwise_seven_run, 7, seven)
RUN(ec2t_mcu_depthwise_seven_run_any, 7, seven_any)

#endif
