#include "planar.h"

/* Sum of products of int8 weights and inputs. */
static int32_t product(const int8_t *weights, const uint8_t *input, uint32_t count) {
    int32_t sum = 0;
    uint32_t i = 0;
#if defined(EC2T_MCU_DSP) || defined(EC2T_MCU_HELIUM)
    for (; i + 4u <= count; i += 4u) {
        uint32_t w, x, even, odd;
        __builtin_memcpy(&w, weights + i, 4);
        __builtin_memcpy(&x, input + i, 4);
        __asm("sxtb16 %0,%2\n sxtb16 %1,%3" : "=&r"(even), "=r"(odd) : "r"(w), "r"(x));
        __asm("smlad %0,%1,%2,%0" : "+r"(sum) : "r"(even), "r"(odd));
        __asm("sxtb16 %0,%2,ror #8\n sxtb16 %1,%3,ror #8"
              : "=&r"(even), "=r"(odd)
              : "r"(w), "r"(x));
        __asm("smlad %0,%1,%2,%0" : "+r"(sum) : "r"(even), "r"(odd));
    }
#endif
    for (; i < count; ++i)
        sum += weights[i] * ec2t_mcu_value(input[i]);
    return sum;
}

void ec2t_mcu_fully_connected_run(const ec2t_mcu_fully_connected *layer, const uint8_t *input,
                                  uint8_t *output) {
    const int8_t *row = layer->weights;
    const uint16_t *list = layer->weights;
    for (uint32_t o = 0; o < layer->outputs; ++o) {
        const ec2t_mcu_channel *channel = &layer->channel[o];
        int32_t sum = channel->bias;
        if (layer->lists) {
            int32_t minus = 0, plus = 0;
            for (const uint16_t *end = list + channel->minus_count; list < end; ++list) {
                minus += ec2t_mcu_value(input[*list]);
            }
            for (const uint16_t *end = list + channel->plus_count; list < end; ++list) {
                plus += ec2t_mcu_value(input[*list]);
            }
            sum += channel->plus * plus - channel->minus * minus;
        } else {
            sum += product(row, input, layer->inputs);
            row += layer->inputs;
        }
        const int32_t value = ec2t_mcu_requantise(sum, channel->multiplier, channel->shift);
        output[o] = ec2t_mcu_byte(ec2t_mcu_clamped(value, &layer->clamp));
    }
}
