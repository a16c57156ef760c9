#include "planar.h"

void ec2t_mcu_svdf_run(const ec2t_mcu_svdf *layer, const uint8_t *input, int16_t *state,
                       uint8_t *output) {
    const uint32_t steps = layer->steps;
    const int8_t *features = layer->features;
    const int16_t *times = layer->times;
    const int32_t *feature_bias = layer->feature_bias;
    for (uint32_t u = 0; u < layer->units; ++u) {
        uint32_t sum = (uint32_t)layer->bias[u]; /* may run over, as the reference's does */
        for (uint32_t r = layer->rank; r; --r) {
            int32_t newest = *feature_bias++, place = 0;
            for (uint32_t i = layer->inputs; i; --i, place += layer->in_step)
                newest += *features++ * ec2t_mcu_value(input[place]);
            newest = ec2t_mcu_requantise(newest, layer->state_multiplier, layer->state_shift);
            newest = newest < -32768 ? -32768 : newest > 32767 ? 32767 : newest;
            for (uint32_t t = 1; t < steps; ++t, ++state) {
                state[0] = state[1];
                sum += (uint32_t)(*times++ * state[0]);
            }
            *state++ = (int16_t)newest;
            sum += (uint32_t)(*times++ * newest);
        }
        const int32_t value = ec2t_mcu_requantise((int32_t)sum, layer->multiplier, layer->shift);
        output[(int32_t)u * layer->out_step] =
            ec2t_mcu_byte(ec2t_mcu_clamped(value, &layer->clamp));
    }
}
