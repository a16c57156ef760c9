/* Layers of one output pixel on Helium, four output channels at a time: dense layers, and depthwise
 * ones whose kernel covers the map. Sums within 30 bits. */
#ifndef EC2T_MCU_FOURS_HELIUM_H
#define EC2T_MCU_FOURS_HELIUM_H
#include "planar.h"

/* Four output channels; those behind the last are 0. Layers that round twice: the shift is
 * TensorFlow Lite's, -20 to -1. Once: the multiplier is that of ec2t_mcu_fully_connected and has no
 * more than its 31 bits, the shift is two more than its own, at most 0. */
typedef struct {
    int32_t bias[4], multiplier[4], shift[4];
} ec2t_mcu_four;

/* Weights [out][in]. */
typedef struct {
    const ec2t_mcu_four *fours;
    const int8_t *weights;
    uint16_t inputs, outputs;
    uint8_t rounds_once;
    ec2t_mcu_clamp clamp;
} ec2t_mcu_dense_fours;
void ec2t_mcu_dense_fours_run(const ec2t_mcu_dense_fours *layer, const uint8_t *input,
                              uint8_t *output);

/* Weights [out][tap]; see ec2t_mcu_whole_depthwise. */
typedef struct {
    const ec2t_mcu_four *fours;
    const int8_t *weights;
    uint32_t plane;
    uint16_t count, taps;
    uint8_t depth_multiplier;
    ec2t_mcu_clamp clamp;
} ec2t_mcu_whole_fours;
void ec2t_mcu_whole_fours_run(const ec2t_mcu_whole_fours *layer, const uint8_t *input,
                              uint8_t *output);
#endif
