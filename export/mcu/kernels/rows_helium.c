/* Dense fully connected layers on Helium: four rows share the loads of sixteen inputs. */
#include "requantise.h"

#if defined(EC2T_MCU_HELIUM)

void ec2t_mcu_rows_helium_run(const ec2t_mcu_fully_connected *layer, const uint8_t *input,
                              uint8_t *output) {
    const int8_t *const from = (const int8_t *)input;
    const uint32_t count = layer->inputs, whole = count & ~15u;
    const mve_pred16_t rest = vctp8q(count - whole);
    const int8_t *weights = layer->weights;
    const ec2t_mcu_channel *channel = layer->channel;
    for (uint32_t left = layer->outputs; left;) {
        /* Rows that are not there repeat the last; their sums go nowhere. */
        const uint32_t rows = left < 4u ? left : 4u;
        const int8_t *w0 = weights, *w1 = rows > 1u ? w0 + count : w0;
        const int8_t *w2 = rows > 2u ? w1 + count : w1, *w3 = rows > 3u ? w2 + count : w2;
        int32_t sums[4] = {0, 0, 0, 0};
        int32_t s0 = 0, s1 = 0, s2 = 0, s3 = 0;
        const int8_t *x = from;
        for (const int8_t *end = from + whole; x != end; x += 16) {
            const int8x16_t inputs = vldrbq_s8(x);
            s0 = vmladavaq_s8(s0, inputs, vldrbq_s8(w0)), w0 += 16;
            s1 = vmladavaq_s8(s1, inputs, vldrbq_s8(w1)), w1 += 16;
            s2 = vmladavaq_s8(s2, inputs, vldrbq_s8(w2)), w2 += 16;
            s3 = vmladavaq_s8(s3, inputs, vldrbq_s8(w3)), w3 += 16;
        }
        if (whole != count) {
            const int8x16_t inputs = vldrbq_z_s8(x, rest);
            s0 = vmladavaq_s8(s0, inputs, vldrbq_z_s8(w0, rest));
            s1 = vmladavaq_s8(s1, inputs, vldrbq_z_s8(w1, rest));
            s2 = vmladavaq_s8(s2, inputs, vldrbq_z_s8(w2, rest));
            s3 = vmladavaq_s8(s3, inputs, vldrbq_z_s8(w3, rest));
        }
        sums[0] = s0, sums[1] = s1, sums[2] = s2, sums[3] = s3;
        const int32_t *sum = sums;
        for (uint32_t r = rows; r; --r, ++channel) {
            *output++ = ec2t_mcu_row_output(*sum++ + channel->bias, channel, layer->rounds_once,
                                            &layer->clamp);
        }
        weights += rows * count;
        left -= rows;
    }
}

#endif
