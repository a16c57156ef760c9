#include "requantise.h"

/* Rows done at once: they share the loads of the input, as far as registers go. */
#if defined(EC2T_MCU_DSP) || defined(EC2T_MCU_ALIGNED)
enum { ROWS = 2 };
#else
enum { ROWS = 4 };
#endif

#if defined(EC2T_MCU_DSP)
/* Four inputs of two rows; every pointer moves on. */
#define FOUR_INPUTS                                                                                \
    "ldr %[x],[%[from]],#4\n ldr %[w],[%[w0]],#4\n sxtb16 %[even],%[x]\n"                          \
    "sxtb16 %[t],%[w]\n sxtb16 %[x],%[x],ror #8\n sxtb16 %[w],%[w],ror #8\n"                       \
    "smlad %[s0],%[even],%[t],%[s0]\n smlad %[s0],%[x],%[w],%[s0]\n ldr %[w],[%[w1]],#4\n"         \
    "sxtb16 %[t],%[w]\n sxtb16 %[w],%[w],ror #8\n"                                                 \
    "smlad %[s1],%[even],%[t],%[s1]\n smlad %[s1],%[x],%[w],%[s1]\n"
#define OPERANDS                                                                                   \
    [from] "+r"(from), [w0] "+r"(w0), [w1] "+r"(w1), [s0] "+r"(s0), [s1] "+r"(s1), [x] "=&r"(x),   \
        [w] "=&r"(w), [t] "=&r"(t), [even] "=&r"(even)
#endif

/* An activation as it is stored: on SWAR cores 128 greater, which the biases account for. */
static inline int32_t stored(uint8_t byte) {
#if defined(EC2T_MCU_SWAR)
    return byte;
#else
    return (int8_t)byte;
#endif
}

/* Adds the products of int8 weights and inputs of `rows` rows, 1 to ROWS, to as many sums. */
static void products(const int8_t *weights, const uint8_t *input, uint32_t count, uint32_t rows,
                     int32_t *sums) {
    /* Rows that are not there repeat the last; their sums go nowhere. */
    const int8_t *row[ROWS];
    int32_t sum[ROWS];
    for (uint32_t r = 0; r < ROWS; ++r) {
        row[r] = weights + (r < rows ? r : rows - 1u) * count;
        sum[r] = 0;
    }
    uint32_t i = 0;
#if defined(EC2T_MCU_DSP)
    const int8_t *w0 = row[0], *w1 = row[1];
    const uint8_t *from = input, *const end = input + (count & ~7u);
    int32_t s0 = 0, s1 = 0;
    uint32_t x, w, t, even;
    if (from != end) {
        __asm volatile("1:\n" FOUR_INPUTS FOUR_INPUTS "cmp %[from],%[end]\n bne 1b\n"
                       : OPERANDS
                       : [end] "r"(end)
                       : "memory", "cc");
    }
    if (count & 4u)
        __asm volatile(FOUR_INPUTS : OPERANDS : : "memory");
    i = count & ~3u;
    sum[0] = s0, sum[1] = s1;
#endif
#pragma GCC unroll 1
    for (; i < count; ++i) {
        const int32_t x = stored(input[i]);
#pragma GCC unroll 4
        for (uint32_t r = 0; r < ROWS; ++r) {
            sum[r] += row[r][i] * x;
        }
    }
    for (uint32_t r = 0; r < rows; ++r) {
        sums[r] += sum[r];
    }
}

/* Sum of the inputs at the places of a list. */
static int32_t listed(const uint8_t *input, const uint16_t *list, uint32_t count) {
    int32_t sum = 0;
    for (; count >= 4u; count -= 4u, list += 4) {
        sum += ec2t_mcu_value(input[list[0]]) + ec2t_mcu_value(input[list[1]]);
        sum += ec2t_mcu_value(input[list[2]]) + ec2t_mcu_value(input[list[3]]);
    }
    for (; count; --count) {
        sum += ec2t_mcu_value(input[*list++]);
    }
    return sum;
}

void ec2t_mcu_fully_connected_run(const ec2t_mcu_fully_connected *layer, const uint8_t *input,
                                  uint8_t *output) {
    const int8_t *weights = layer->weights;
    const uint16_t *list = layer->weights;
    for (uint32_t o = 0; o < layer->outputs;) {
        int32_t sums[ROWS];
        uint32_t rows = layer->outputs - o < ROWS ? layer->outputs - o : ROWS;
        for (uint32_t r = 0; r < rows; ++r) {
            const ec2t_mcu_channel *channel = &layer->channel[o + r];
            sums[r] = channel->bias;
            if (layer->lists) {
                const uint16_t *second = list + channel->minus_count;
                sums[r] -= channel->minus * listed(input, list, channel->minus_count);
                sums[r] += channel->plus * listed(input, second, channel->plus_count);
                list = second + channel->plus_count;
            }
        }
        if (!layer->lists) {
            products(weights, input, layer->inputs, rows, sums);
            weights += rows * layer->inputs;
        }
        for (uint32_t r = 0; r < rows; ++r, ++o) {
            const ec2t_mcu_channel *channel = &layer->channel[o];
            output[o] = ec2t_mcu_row_output(sums[r], channel, layer->rounds_once, &layer->clamp);
        }
    }
}
