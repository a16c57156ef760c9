#include "ec2t_requant.h"

#include <string.h>

void ec2t_quantize_multiplier(double real, int32_t *multiplier, int8_t *shift) {
    /* frexp by the bits: real = fraction * 2^exponent with fraction in [0.5, 1), kept as a 53-bit
     * integer; the multiplier is its upper 31 bits, halves rounded up. */
    uint64_t bits;
    memcpy(&bits, &real, sizeof bits);
    *multiplier = 0;
    *shift = 0;
    const int32_t biased = (int32_t)(bits >> 52 & 0x7ff);
    int32_t exponent = biased - 1022;
    if (biased == 0 || exponent < -32) {
        return;
    }
    const uint64_t fraction = (bits & ((UINT64_C(1) << 52) - 1)) | UINT64_C(1) << 52;
    uint64_t rounded = (fraction + (UINT64_C(1) << 21)) >> 22;
    if (rounded == UINT64_C(1) << 31) {
        rounded >>= 1;
        exponent += 1;
    }
    if (exponent < -31) {
        return;
    }
    if (exponent > 30) {
        rounded = INT32_MAX;
        exponent = 30;
    }
    *multiplier = (int32_t)rounded;
    *shift = (int8_t)exponent;
}

int32_t ec2t_requant_entries(const ec2t_layer *layer) {
    return layer->requant_stride ? layer->output_channels : 1;
}

static void fill_common(const ec2t_layer *layer, ec2t_requant_mode mode, ec2t_requant *requant) {
    memset(requant, 0, sizeof *requant);
    requant->mode = mode;
    requant->channel_stride = layer->requant_stride;
    requant->output_zero_point = layer->output_zero_point;
    requant->output_min = layer->output_min;
    requant->output_max = layer->output_max;
}

ec2t_status ec2t_requant_from_layer_tflite(const ec2t_layer *layer, int32_t *multipliers,
                                           int8_t *shifts, ec2t_requant *requant) {
    if (layer == NULL || requant == NULL) {
        return EC2T_ERROR_ARGUMENT;
    }
    fill_common(layer, EC2T_REQUANT_TFLITE, requant);
    if (layer->weight_scales == NULL) {
        requant->multipliers = layer->multipliers;
        requant->shifts = layer->shifts;
        return EC2T_OK;
    }
    if (multipliers == NULL || shifts == NULL) {
        return EC2T_ERROR_ARGUMENT;
    }
    /* TensorFlow Lite's fixed point multiplies a fully connected layer's single scale in f32. */
    const int in_float = layer->op == EC2T_FULLY_CONNECTED && layer->requant_stride == 0;
    const int32_t entries = ec2t_requant_entries(layer);
    for (int32_t i = 0; i < entries; ++i) {
        const float weight_scale = layer->weight_scales[i];
        const double product = in_float ? (double)(layer->input_scale * weight_scale)
                                        : (double)layer->input_scale * (double)weight_scale;
        ec2t_quantize_multiplier(product / (double)layer->output_scale, multipliers + i,
                                 shifts + i);
    }
    requant->multipliers = multipliers;
    requant->shifts = shifts;
    return EC2T_OK;
}

ec2t_status ec2t_requant_from_layer_fp32(const ec2t_layer *layer, float *factors,
                                         ec2t_requant *requant) {
    if (layer == NULL || factors == NULL || requant == NULL) {
        return EC2T_ERROR_ARGUMENT;
    }
    if (layer->weight_scales == NULL) {
        return EC2T_ERROR_UNSUPPORTED;
    }
    fill_common(layer, EC2T_REQUANT_FP32, requant);
    const int32_t entries = ec2t_requant_entries(layer);
    for (int32_t i = 0; i < entries; ++i) {
        factors[i] = layer->input_scale * layer->weight_scales[i] / layer->output_scale;
        uint32_t bits;
        memcpy(&bits, factors + i, sizeof bits);
        if (bits >= 0x7f800000u) {
            return EC2T_ERROR_HEADER; /* infinite: scales that no quantised model has */
        }
    }
    requant->factors = factors;
    return EC2T_OK;
}

ec2t_status ec2t_requant_from_layer_real(const ec2t_layer *layer, double *reals,
                                         ec2t_requant *requant) {
    if (layer == NULL || reals == NULL || requant == NULL) {
        return EC2T_ERROR_ARGUMENT;
    }
    fill_common(layer, EC2T_REQUANT_REAL, requant);
    const int32_t entries = ec2t_requant_entries(layer);
    for (int32_t i = 0; i < entries; ++i) {
        if (layer->weight_scales == NULL) {
            const int32_t fraction_bits = 31 - layer->shifts[i]; /* 1 to 62 */
            reals[i] = (double)layer->multipliers[i] / (double)(INT64_C(1) << fraction_bits);
        } else {
            reals[i] = (double)layer->input_scale * (double)layer->weight_scales[i] /
                       (double)layer->output_scale;
        }
    }
    requant->reals = reals;
    return EC2T_OK;
}

/* Narrows [*low, *high] to the multipliers that put accumulator `a`, close to the step from output
 * n to n + 1, where f32 has it: a * m >= (2n + 1) * 2^37 if and only if it gives n + 1. */
static void respect_step(int32_t n, int64_t a, float factor, int64_t *low, int64_t *high) {
    const float scaled = (float)a * factor, half = (float)n + 0.5f;
    const int above = scaled > half || (scaled == half && (n + 1) % 2 == 0);
    const int64_t step = (int64_t)(2 * n + 1) * (INT64_C(1) << (30 + EC2T_WHOLE_FRACTION_BITS));
    const int64_t size = a < 0 ? -a : a, step_size = a < 0 ? -step : step;
    /* With a < 0 both sides change sign: above means size * m <= step_size. */
    if (above && a > 0) {
        const int64_t least = (step_size + size - 1) / size;
        *low = least > *low ? least : *low;
    } else if (above) {
        const int64_t most = step_size / size;
        *high = most < *high ? most : *high;
    } else if (a > 0) {
        const int64_t most = (step_size - 1) / size;
        *high = most < *high ? most : *high;
    } else {
        const int64_t least = step_size / size + 1;
        *low = least > *low ? least : *low;
    }
}

int32_t ec2t_whole_multiplier(const ec2t_requant *requant, float factor, double largest) {
    const double f = (double)factor;
    /* Below: steps at accumulators that f32 does not hold exactly. Above: no room in the product.
     */
    if (!(f > 0x1p-14 && f < 0x1p-7)) {
        return 0;
    }
    const double exact = f * (double)(INT64_C(1) << (31 + EC2T_WHOLE_FRACTION_BITS));
    const int64_t middle = (int64_t)(exact + 0.5), reach = (middle >> 22) + 1;
    int64_t low = middle - reach, high = middle + reach;
    /* Accumulators further than this, relatively, from a step are on the same side of it in f32
     * and with every multiplier within reach. */
    const double near = 0x1p-23 + (double)(reach + 1) / (double)low;
    const double most = largest * f + 1.0; /* in steps */
    const int32_t end = requant->output_max - requant->output_zero_point;
    for (int32_t n = requant->output_min - requant->output_zero_point; n < end; ++n) {
        const double half = (double)n + 0.5, steps = half < 0 ? -half : half;
        const double size = steps / f, whole = (size + 0x1.8p52) - 0x1.8p52; /* rounded */
        const double off = size < whole ? whole - size : size - whole;
        if (off > near * size || steps > most) {
            continue;
        }
        if (near * size >= 0.25) {
            return 0;
        }
        respect_step(n, n < 0 ? -(int64_t)whole : (int64_t)whole, factor, &low, &high);
    }
    return low > high ? 0 : (int32_t)(middle < low ? low : middle > high ? high : middle);
}
