#include "ec2t_reference.h"

ec2t_status ec2t_fully_connected_s8__ref(int32_t batch, int32_t inputs, int32_t outputs,
                                         int32_t input_zero_point, const ec2t_requant *requant,
                                         const int8_t *weights, const int32_t *bias,
                                         const int8_t *input, int8_t *output) {
    if (batch < 1 || inputs < 1 || outputs < 1 || requant == NULL || weights == NULL ||
        input == NULL || output == NULL) {
        return EC2T_ERROR_ARGUMENT;
    }
    for (int32_t n = 0; n < batch; ++n) {
        const int8_t *const row = input + (size_t)n * (size_t)inputs;
        for (int32_t o = 0; o < outputs; ++o) {
            const int8_t *const weight = weights + (size_t)o * (size_t)inputs;
            uint32_t sum = bias != NULL ? (uint32_t)bias[o] : 0; /* unsigned: wraps */
            for (int32_t i = 0; i < inputs; ++i) {
                sum += (uint32_t)(weight[i] * (row[i] - input_zero_point));
            }
            *output++ = ec2t_requantise((int32_t)sum, requant, o);
        }
    }
    return EC2T_OK;
}
