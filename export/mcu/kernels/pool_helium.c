/* Pools and means on Helium. A window that covers the input: sixteen inputs at a time; others, all
 * inside the input: eight outputs at a time. */
#include "requantise.h"

#if defined(EC2T_MCU_HELIUM)

static int32_t run_sum(const uint8_t *p, uint32_t count, int32_t sum) {
    for (; count >= 16u; count -= 16u, p += 16)
        sum = vaddvaq_s8(sum, vldrbq_s8((const int8_t *)p));
    return count ? vaddvaq_s8(sum, vldrbq_z_s8((const int8_t *)p, vctp8q(count))) : sum;
}
static int32_t plane_sum(const ec2t_mcu_planar *in, const uint8_t *plane) {
    int32_t sum = 0;
    if (in->pitch == in->width)
        return run_sum(plane, (uint32_t)in->width * in->height, 0);
    if (in->width <= 16u) {
        const mve_pred16_t inside = vctp8q(in->width);
        const uint32_t pitch = in->pitch;
        for (uint32_t y = in->height; y; --y, plane += pitch)
            sum = vaddvaq_s8(sum, vldrbq_z_s8((const int8_t *)plane, inside));
        return sum;
    }
    for (uint32_t y = in->height; y; --y, plane += in->pitch)
        sum = run_sum(plane, in->width, sum);
    return sum;
}

/* Inputs of eight neighbouring windows at one place of the window. */
static inline int16x8_t inputs(const uint8_t *p, uint16x8_t columns) {
    return vldrbq_gather_offset_s16((const int8_t *)p, columns);
}

static void windows(const ec2t_mcu_pool *layer, const uint8_t *plane, uint8_t *to) {
    const ec2t_mcu_planar *in = &layer->in, *out = &layer->out;
    const uint32_t high = layer->height, wide = layer->width, count = high * wide;
    const uint16x8_t columns = vmulq_n_u16(vidupq_n_u16(0, 1), layer->stride_x);
    const int16x8_t least = vdupq_n_s16((int16_t)layer->clamp.minimum);
    const int16x8_t most = vdupq_n_s16((int16_t)layer->clamp.maximum);
    const uint16_t reciprocal = (uint16_t)(65536u / count + 1u);
    for (uint32_t y = 0; y < out->height; ++y, to += out->pitch) {
        for (uint32_t x = 0; x < out->width; x += 8u) {
            const uint8_t *row = plane + y * layer->stride_y * in->pitch + x * layer->stride_x;
            int16x8_t value = vdupq_n_s16(layer->maximum ? -128 : 0);
            for (uint32_t i = high; i; --i, row += in->pitch) {
                const uint8_t *p = row;
                if (layer->maximum) {
                    for (uint32_t j = wide; j; --j)
                        value = vmaxq_s16(value, inputs(p++, columns));
                } else {
                    for (uint32_t j = wide; j; --j)
                        value = vaddq_s16(value, inputs(p++, columns));
                }
            }
            if (!layer->maximum) {
                const uint16x8_t size = vreinterpretq_u16_s16(vabsq_s16(value));
                const uint16x8_t mean =
                    vmulhq_u16(vaddq_n_u16(size, (uint16_t)(count / 2u)), vdupq_n_u16(reciprocal));
                const int16x8_t result = vreinterpretq_s16_u16(mean);
                value = vnegq_m_s16(result, result, vcmpltq_n_s16(value, 0));
            }
            value = vminq_s16(vmaxq_s16(value, least), most);
            vstrbq_p_s16((int8_t *)to + x, value, vctp16q(out->width - x));
        }
    }
}

void ec2t_mcu_pool_helium_run(const ec2t_mcu_pool *layer, const uint8_t *input, uint8_t *output) {
    const ec2t_mcu_planar *in = &layer->in, *out = &layer->out;
    const int32_t count = layer->height * layer->width;
    const int whole = !layer->maximum && layer->height == in->height && layer->width == in->width;
    ec2t_mcu_clamp limits = layer->clamp;
    limits.zero_point = 0; /* sums hold it already */
    ec2t_mcu_lead(out, output);
    for (uint32_t c = 0; c < out->channels; ++c, input += in->plane, output += out->plane) {
        if (whole) {
            const int32_t sum = plane_sum(in, input);
            const int32_t mean = (sum > 0 ? sum + count / 2 : sum - count / 2) / count;
            *output = ec2t_mcu_byte(ec2t_mcu_clamped(mean, &limits));
        } else {
            windows(layer, input, output);
        }
        ec2t_mcu_border(out, output, 0);
    }
}

void ec2t_mcu_mean_helium_run(const ec2t_mcu_mean *layer, const uint8_t *input, uint8_t *output) {
    for (uint32_t c = 0; c < layer->in.channels; ++c) {
        const int32_t sum = layer->bias + plane_sum(&layer->in, input + c * layer->in.plane);
        const int32_t value = ec2t_mcu_requantise(sum, layer->multiplier, layer->shift);
        output[c] = ec2t_mcu_byte(ec2t_mcu_clamped(value, &layer->clamp));
    }
}

#endif
