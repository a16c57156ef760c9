/* Depthwise convolutions of int8 weights on Helium: one call a plane, sixteen neighbouring pixels a
 * turn, rows of three, five or seven taps, horizontal stride 1. */
#include "requantise.h"

#if defined(EC2T_MCU_HELIUM)

/* Order and size are known to the assembly. */
typedef struct {
    const int32_t *weights;
    uint32_t tap_rows;
    int32_t bias, multiplier, zero_point, shift;
    uint32_t next; /* from behind the last row of taps to the next turn's first */
    uint32_t rows, in_gap, out_gap, turns;
} Plane;

/* Sums of 32 bits in q0 to q3; r0 walks over the input, r2 over the output, r3 over the weights; r1
 * is the distance from the end of a row of taps to the next row, r7 the constants, r12 the turns
 * left of a row. Assembly is laid out by hand. */
/* clang-format off */
#define TAP(weight)                                                                                \
    "vldrb.s32 q5,[r0,#4]\n vldrb.s32 q6,[r0,#8]\n vmla.s32 q1,q5," weight "\n"                    \
    "vldrb.s32 q7,[r0,#12]\n vmla.s32 q2,q6," weight "\n vldrb.s32 q4,[r0],#1\n"                   \
    "vmla.s32 q3,q7," weight "\n vmla.s32 q0,q4," weight "\n"
#define PUT(sums, free)                                                                            \
    "vshr.s32 " free "," sums ",#31\n vqrdmlah.s32 " free "," sums ",r3\n"                         \
    "vrshl.s32 " free ",r5\n vqmovnb.s32 " free "," free "\n vqadd.s16 " free "," free ",r4\n"     \
    "vqmovnb.s16 " free "," free "\n vstrb.32 " free ",[r2],#4\n"
/* One plane of `name`: input, distance of rows of taps less a row, output, constants. */
#define PLANE(name, registers, taps)                                                               \
    static __attribute__((naked, noinline)) void name(                                             \
        const uint8_t *input __attribute__((unused)), uint32_t row_gap __attribute__((unused)),    \
        uint8_t *output __attribute__((unused)), Plane *plane __attribute__((unused))) {           \
        __asm volatile("push {r3-r11,lr}\n vpush {d8-d15}\n mov r7,r3\n ldr r12,[r7,#40]\n"        \
                       "1: ldrd r3,r4,[r7]\n ldr r5,[r7,#8]\n vdup.32 q0,r5\n vdup.32 q1,r5\n"     \
                       "vdup.32 q2,r5\n vdup.32 q3,r5\n dls lr,r4\n"                               \
                       "2: ldm r3!,{" registers "}\n" taps "add r0,r1\n le lr,2b\n"                \
                       "ldrd r3,r4,[r7,#12]\n ldrd r5,r6,[r7,#20]\n add r0,r6\n"                   \
                       PUT("q0", "q4") PUT("q1", "q5") PUT("q2", "q6") PUT("q3", "q7")             \
                       "subs r12,r12,#1\n bne 1b\n"                                                \
                       "ldr r3,[r7,#28]\n subs r3,#1\n beq 3f\n str r3,[r7,#28]\n"                 \
                       "ldrd r3,r4,[r7,#32]\n add r0,r3\n add r2,r4\n ldr r12,[r7,#40]\n b 1b\n"   \
                       "3: vpop {d8-d15}\n pop {r3-r11,pc}\n");                                    \
    }
PLANE(threes, "r4-r6", TAP("r4") TAP("r5") TAP("r6"))
PLANE(fives, "r4-r6,r8,r9", TAP("r4") TAP("r5") TAP("r6") TAP("r8") TAP("r9"))
PLANE(sevens, "r4-r6,r8-r11", TAP("r4") TAP("r5") TAP("r6") TAP("r8") TAP("r9") TAP("r10") TAP("r11"))
/* clang-format on */
typedef void (*Tile)(const uint8_t *, uint32_t, uint8_t *, Plane *);

static inline __attribute__((always_inline)) void run(const ec2t_mcu_depthwise_wide *layer,
                                                      const uint8_t *input, uint8_t *output,
                                                      uint32_t *words, uint32_t columns,
                                                      Tile tile) {
    const ec2t_mcu_planar *in = &layer->in, *out = &layer->out;
    uint32_t rows = out->height, turns = (out->width + 15u) / 16u;
    /* A plane may also be taken as one long row, borders included. */
    if (layer->stride_y == 1 && in->pitch == out->pitch) {
        const uint32_t flat = ((rows - 1u) * out->pitch + out->width + 15u) / 16u;
        if (flat < rows * turns)
            rows = 1, turns = flat;
    }
    const uint32_t taps = layer->tap_rows * columns;
    Plane plane;
    plane.weights = (const int32_t *)words;
    plane.tap_rows = layer->tap_rows;
    plane.zero_point = layer->clamp.zero_point;
    plane.in_gap = (uint32_t)layer->stride_y * in->pitch - 16u * turns;
    plane.out_gap = out->pitch - 16u * turns;
    plane.next = 16u - (uint32_t)layer->tap_rows * layer->row_step;
    plane.turns = turns;
    ec2t_mcu_lead(out, output);
    const int8_t *weights = layer->weights;
    uint32_t of_input = layer->depth_multiplier;
    for (uint32_t o = 0; o < out->channels; ++o, output += out->plane, weights += taps) {
        const ec2t_mcu_channel channel = ec2t_mcu_channel_at(&layer->channels, o);
        plane.bias = channel.bias;
        plane.multiplier = channel.multiplier;
        plane.shift = channel.shift;
        plane.rows = rows;
        for (uint32_t i = 0; i < taps; ++i)
            words[i] = (uint32_t)(int32_t)weights[i];
        tile(input, layer->row_step - columns, output, &plane);
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
RUN(ec2t_mcu_depthwise_helium_3_run, 3, threes)
RUN(ec2t_mcu_depthwise_helium_5_run, 5, fives)
RUN(ec2t_mcu_depthwise_helium_7_run, 7, sevens)

#endif
