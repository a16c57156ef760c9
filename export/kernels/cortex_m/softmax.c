#include "planar.h"

void ec2t_mcu_softmax_run(const ec2t_mcu_softmax *layer, const uint8_t *input, uint8_t *output) {
    int32_t greatest = -128;
    for (uint32_t i = 0; i < layer->size; ++i) {
        const int32_t value = ec2t_mcu_value(input[i]);
        if (value > greatest)
            greatest = value;
    }
    /* powers[d] = exp(-d * scale * beta) */
    float sum = 0.0f;
    for (uint32_t i = 0; i < layer->size; ++i)
        sum += layer->powers[greatest - ec2t_mcu_value(input[i])];
    const float factor = 1.0f / (sum * (1.0f / 256.0f));
    for (uint32_t i = 0; i < layer->size; ++i) {
        const float share =
            layer->powers[greatest - ec2t_mcu_value(input[i])] * factor; /* 0 to 256 */
        /* Adding 1.5 * 2^23 leaves the nearest integer, ties to even, in the low bits. */
        union {
            float real;
            uint32_t bits;
        } rounded = {share + 12582912.0f};
        const int32_t value = (int32_t)(rounded.bits & 0x1ffu) - 128;
        output[i] = ec2t_mcu_byte(value > 127 ? 127 : value);
    }
}
