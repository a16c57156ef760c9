/* Ternary convolutions on Helium by dot products, in few bytes where about half the weights are 0.
 */
#ifndef EC2T_MCU_MASKED_CONV_H
#define EC2T_MCU_MASKED_CONV_H
#include "dot_conv.h"

/* A bit a weight says whether it is not 0, and a bit a weight that is not 0 whether it is below. A
 * few channels at a time become the weights of an ec2t_mcu_dot_conv. Right shifts only where the
 * channels are a short table; an even number of channels. */
typedef struct {
    ec2t_mcu_dot_conv dot;      /* its pairs, weights and distances are made in scratch */
    ec2t_mcu_channels channels; /* with lists, of which the counts are used */
    const uint16_t *masks;      /* of sixteen weights each, the lowest bit first, in dot's order */
    const uint8_t *signs;       /* the lowest bit first, and 4 bytes more */
    uint32_t sign_bits;
    uint32_t together; /* channels at a time, an even number */
    void (*run)(const ec2t_mcu_dot_conv *layer, const uint8_t *input, uint8_t *output,
                uint8_t *scratch); /* ec2t_mcu_dot_conv_run */
} ec2t_mcu_masked_conv;

/* `scratch`, aligned to 4: 24 * together bytes for channels, together / 2 * pair_bytes for weights,
 * 2 * chunks * bytes for distances, all rounded up to 4, then dot's. EC2T_MCU_CORRUPT where there
 * are not as many signs as weights. */
ec2t_mcu_status ec2t_mcu_masked_conv_run(const ec2t_mcu_masked_conv *layer, const uint8_t *input,
                                         uint8_t *output, uint8_t *scratch);
#endif
