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
    /* TensorFlow Lite multiplies a fully connected layer's single scale in f32. */
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
