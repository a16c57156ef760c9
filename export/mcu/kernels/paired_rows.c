/* Fully connected layers on cores with DSP instructions, two rows a weight word: see panel_conv.c
 * for how their sums are told apart. */
#include "requantise.h"

#if defined(EC2T_MCU_DSP)

/* Two products of a pair of inputs with the word of two rows: both sums, then the first row's. */
#define WORD(inputs, word, first, both)                                                            \
    "smlad " both "," inputs "," word "," both "\n sxtb16 " word "," word "\n"                     \
    "smlad " first "," inputs "," word "," first "\n"
/* Inputs 0 and 2 to r12, 1 and 3 to lr. */
#define INPUTS "ldr r12,[r0],#4\n sxtb16 lr,r12,ror #8\n sxtb16 r12,r12\n"
#define EIGHT_ROWS(inputs)                                                                         \
    "ldrd r2,r3,[r1],#8\n" WORD(inputs, "r2", "r4", "r8")                                          \
        WORD(inputs, "r3", "r5", "r9") "ldrd r2,r3,[r1],#8\n" WORD(inputs, "r2", "r6", "r10")      \
            WORD(inputs, "r3", "r7", "r11")
#define EIGHT INPUTS EIGHT_ROWS("r12") EIGHT_ROWS("lr")
#define TWO INPUTS "ldrd r2,r3,[r1],#8\n" WORD("r12", "r2", "r4", "r8") WORD("lr", "r3", "r4", "r8")

/* Sums of the rows 0, 2, ... of a group, then of both rows of every pair, up to the word at `end`.
 */
#define GROUP(name, eight_inputs)                                                                  \
    static __attribute__((naked, noinline)) void name(                                             \
        const uint8_t *input __attribute__((unused)),                                              \
        const uint32_t *words __attribute__((unused)),                                             \
        const uint32_t *end __attribute__((unused)), int32_t *sums __attribute__((unused))) {      \
        __asm volatile("push {r2-r11,lr}\n movs r4,#0\n movs r5,#0\n movs r6,#0\n movs r7,#0\n"    \
                       "mov r8,r4\n mov r9,r4\n mov r10,r4\n mov r11,r4\n"                         \
                       "1:\n" eight_inputs "ldr r2,[sp]\n cmp r1,r2\n bne.w 1b\n"                  \
                       "ldr r2,[sp,#4]\n stm r2,{r4-r11}\n add sp,#8\n pop {r4-r11,pc}\n");        \
    }
GROUP(eight_rows, EIGHT EIGHT)
GROUP(two_rows, TWO TWO)

static inline uint8_t row(const ec2t_mcu_paired_rows *layer, const ec2t_mcu_channel *channel,
                          int32_t sum) {
    return ec2t_mcu_row_output(sum + channel->bias, channel, layer->rounds_once, &layer->clamp);
}

void ec2t_mcu_paired_rows_run(const ec2t_mcu_paired_rows *layer, const uint8_t *input,
                              uint8_t *output) {
    const uint32_t words_of_two = (layer->inputs + 7u) / 8u * 4u; /* eight inputs, four words */
    const uint32_t *words = layer->words;
    const ec2t_mcu_channel *channel = layer->channel;
    for (uint32_t left = layer->outputs; left;) {
        const uint32_t whole = left >= 8u, rows = whole ? 8u : left >= 2u ? 2u : 1u;
        const uint32_t *const end = words + (whole ? 4u : 1u) * words_of_two;
        int32_t sums[8];
        (whole ? eight_rows : two_rows)(input, words, end, sums);
        const int32_t *first = sums;
        for (uint32_t r = rows; r; ++first) {
            *output++ = row(layer, channel++, *first);
            if (!--r)
                break;
            const int32_t second = (int32_t)((uint32_t)first[4] - (uint32_t)*first) >> 8;
            *output++ = row(layer, channel++, second);
            --r;
        }
        words = end;
        left -= rows;
    }
}

#endif
