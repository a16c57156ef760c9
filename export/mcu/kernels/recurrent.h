/* Kernels with a state of 16 bits. */
#ifndef EC2T_MCU_RECURRENT_H
#define EC2T_MCU_RECURRENT_H
#include "planar.h"

/* One gate of an LSTM: int8 weights [unit][input] and [unit][unit], biases with zero points folded
 * in, factors to 2^-12. */
typedef struct {
    const int8_t *kernel, *recurrent;
    const int32_t *bias, *recurrent_bias;
    int32_t multiplier, shift, recurrent_multiplier, recurrent_shift;
} ec2t_mcu_gate;
/* TensorFlow Lite's int8 LSTM with a cell of 16 bits, `cell_bits` of them whole; steps are bytes
 * between moments and between features. */
typedef struct {
    const ec2t_mcu_gate *gates; /* input, forget, cell, output */
    uint16_t inputs, units, steps;
    int32_t in_time, in_feature, out_time, out_feature;
    uint32_t cell_shift, cell_bits;
    int32_t cell_clip; /* 0: none */
    int32_t multiplier, shift;
    ec2t_mcu_clamp clamp;
} ec2t_mcu_lstm;
/* `hidden` and `cell` are kept from call to call; `sums`: scratch, 4 a unit. */
void ec2t_mcu_lstm_run(const ec2t_mcu_lstm *layer, const uint8_t *input, int8_t *hidden,
                       int16_t *cell, uint8_t *output, int16_t *sums);

/* A filter over the features of a moment, then one over the last `steps` of its results: weights
 * [filter][input] and [filter][step], `rank` filters a unit. */
typedef struct {
    const int8_t *features;
    const int16_t *times;
    const int32_t *feature_bias, *bias; /* [filter], the input's zero point; [unit] */
    uint16_t inputs, units, rank, steps;
    int32_t in_step, out_step; /* bytes from one feature to the next, and between units */
    int32_t state_multiplier, state_shift, multiplier, shift;
    ec2t_mcu_clamp clamp;
} ec2t_mcu_svdf;
/* `state` [filter][step] is kept from call to call. */
void ec2t_mcu_svdf_run(const ec2t_mcu_svdf *layer, const uint8_t *input, int16_t *state,
                       uint8_t *output);
#endif
