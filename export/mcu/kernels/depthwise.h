/* Depthwise convolutions; part of planar.h. */
#ifndef EC2T_MCU_DEPTHWISE_H
#define EC2T_MCU_DEPTHWISE_H
#include "planar.h"

/* Depthwise 3x3 convolutions of int8 weights on cores with DSP instructions, horizontal stride 1 or
 * 2, sums within 30 bits after a left shift. `_run`: every shift from -20 to -1. `_run_any`: -20 to
 * 29. Nine weights a channel, and a byte behind the last. */
typedef struct {
    ec2t_mcu_planar in, out;
    ec2t_mcu_channels channels;
    const int8_t *weights;
    uint8_t stride_y, stride_x, depth_multiplier;
    ec2t_mcu_clamp clamp;
} ec2t_mcu_depthwise_conv;
void ec2t_mcu_depthwise_conv_run(const ec2t_mcu_depthwise_conv *layer, const uint8_t *input,
                                 uint8_t *output);
void ec2t_mcu_depthwise_conv_run_any(const ec2t_mcu_depthwise_conv *layer, const uint8_t *input,
                                     uint8_t *output);

/* The same with `tap_rows` rows, `row_step` bytes apart, of five or seven neighbouring taps;
 * horizontal stride 1. Weights [out][row][5 or 7]. `words`: scratch, three or four words a row. */
typedef struct {
    ec2t_mcu_planar in, out;
    ec2t_mcu_channels channels;
    const int8_t *weights;
    uint16_t row_step;
    uint8_t stride_y, depth_multiplier, tap_rows;
    ec2t_mcu_clamp clamp;
} ec2t_mcu_depthwise_wide;
/* On Helium right shifts only, sums within 30 bits; `words`: a word a tap. */
void ec2t_mcu_depthwise_helium_3_run(const ec2t_mcu_depthwise_wide *layer, const uint8_t *input,
                                     uint8_t *output, uint32_t *words);
void ec2t_mcu_depthwise_helium_5_run(const ec2t_mcu_depthwise_wide *layer, const uint8_t *input,
                                     uint8_t *output, uint32_t *words);
void ec2t_mcu_depthwise_helium_7_run(const ec2t_mcu_depthwise_wide *layer, const uint8_t *input,
                                     uint8_t *output, uint32_t *words);
void ec2t_mcu_depthwise_five_run(const ec2t_mcu_depthwise_wide *layer, const uint8_t *input,
                                 uint8_t *output, uint32_t *words);
void ec2t_mcu_depthwise_five_run_any(const ec2t_mcu_depthwise_wide *layer, const uint8_t *input,
                                     uint8_t *output, uint32_t *words);
void ec2t_mcu_depthwise_seven_run(const ec2t_mcu_depthwise_wide *layer, const uint8_t *input,
                                  uint8_t *output, uint32_t *words);
void ec2t_mcu_depthwise_seven_run_any(const ec2t_mcu_depthwise_wide *layer, const uint8_t *input,
                                      uint8_t *output, uint32_t *words);

/* Other depthwise convolutions of int8 weights on cores with DSP instructions: weights [out][tap],
 * the number of taps a multiple of four, some with weight 0. Horizontal stride 1 or 2. Dense: taps
 * come in runs of four neighbours of a row, `taps` is the byte offset of each run. Gather: `taps`
 * is the byte offset of each tap. */
typedef struct {
    ec2t_mcu_planar in, out;
    ec2t_mcu_channels channels;
    const int8_t *weights;
    const uint16_t *taps;
    uint16_t tap_count;
    uint8_t stride_y, stride_x, depth_multiplier;
    ec2t_mcu_clamp clamp;
} ec2t_mcu_dense_conv;
void ec2t_mcu_dense_conv_run(const ec2t_mcu_dense_conv *layer, const uint8_t *input,
                             uint8_t *output);
void ec2t_mcu_gather_conv_run(const ec2t_mcu_dense_conv *layer, const uint8_t *input,
                              uint8_t *output);

/* Depthwise convolutions of one output a channel, back to back: weights [channel][tap], in the
 * order of the bytes of a plane, a multiple of 4 on cores with DSP instructions. Right shifts of 1
 * to 20; rounding is 2^(right-1) + (zero point + EC2T_MCU_FLIP) * 2^right. */
typedef struct {
    int32_t bias, multiplier, rounding, right;
} ec2t_mcu_whole_channel;
typedef struct {
    const ec2t_mcu_whole_channel *channel;
    const int8_t *weights;
    uint32_t plane;
    uint16_t count, taps, depth_multiplier;
    ec2t_mcu_clamp clamp;
} ec2t_mcu_whole_depthwise;
void ec2t_mcu_whole_depthwise_run(const ec2t_mcu_whole_depthwise *layer, const uint8_t *input,
                                  uint8_t *output);

#endif
