/* Requantisation: from an int32 accumulator to an int8 output.
 *
 * EC2T_REQUANT_TFLITE is the arithmetic of TensorFlow Lite's reference convolutions (saturating
 * rounding doubling high multiply, then a shift that rounds halves away from zero).
 * EC2T_REQUANT_FP32 is XNNPACK's (product in f32, clamped, rounded to the nearest, ties to even).
 * EC2T_REQUANT_REAL is that of TensorFlow Lite's reference fully connected layers since
 * TensorFlow 2.21 and ai-edge-litert 2.3 (product in f64, rounded to the nearest, ties away from
 * zero). All bit for bit. */
#ifndef EC2T_REQUANT_H
#define EC2T_REQUANT_H

#include "ec2t_layer.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum {
    EC2T_REQUANT_TFLITE = 0,
    EC2T_REQUANT_FP32 = 1,
    EC2T_REQUANT_REAL = 2,
} ec2t_requant_mode;

typedef struct {
    ec2t_requant_mode mode;
    int32_t channel_stride;     /* 1: one entry per output channel; 0: one entry for all */
    const int32_t *multipliers; /* TFLITE: 0 to 2^31 - 1 */
    const int8_t *shifts;       /* TFLITE: -31 to 30, positive is left */
    const float *factors;       /* FP32: input scale * weight scale / output scale */
    const double *reals;        /* REAL: the same in f64 */
    int32_t output_zero_point;
    int32_t output_min, output_max;
} ec2t_requant;

/* TensorFlow Lite's QuantizeMultiplier. `real` is finite and not negative. */
void ec2t_quantize_multiplier(double real, int32_t *multiplier, int8_t *shift);

/* Entries the arrays of ec2t_requant_from_layer must hold: the number of output channels, or 1. */
int32_t ec2t_requant_entries(const ec2t_layer *layer);

/* Fills `requant` from a blob. TFLITE: `multipliers` and `shifts` have room for the entries; they
 * stay unused if the blob holds fixed point itself and may then be NULL. FP32: `factors` has room
 * for the entries; EC2T_ERROR_UNSUPPORTED if the blob holds fixed point only. */
ec2t_status ec2t_requant_from_layer_tflite(const ec2t_layer *layer, int32_t *multipliers,
                                           int8_t *shifts, ec2t_requant *requant);
ec2t_status ec2t_requant_from_layer_fp32(const ec2t_layer *layer, float *factors,
                                         ec2t_requant *requant);

/* REAL: `reals` has room for the entries. Fixed point in a blob is the real factor
 * multiplier * 2^(shift - 31). */
ec2t_status ec2t_requant_from_layer_real(const ec2t_layer *layer, double *reals,
                                         ec2t_requant *requant);

/* FP32 without floating point: a multiplier m with which every accumulator a, |a| <= `largest`, has
 * the output that its product with `factor` has in f32:
 *   ((a * m >> 31) + (output_zero_point << 7) + 64) >> 7, clamped.
 * 0 if there is none. Found as an integer that is on the right side of every accumulator that comes
 * close to one of the at most 255 steps between outputs. */
enum { EC2T_WHOLE_FRACTION_BITS = 7 };
int32_t ec2t_whole_multiplier(const ec2t_requant *requant, float factor, double largest);

/* One accumulator (bias included) of one output channel. */
static inline int32_t ec2t_requantise_tflite(int32_t accumulator, int32_t multiplier,
                                             int32_t shift) {
    const int32_t left = shift > 0 ? shift : 0;
    const int32_t right = shift > 0 ? 0 : -shift;
    /* Wraps where TensorFlow Lite's own int32 product would overflow. */
    const int32_t shifted = (int32_t)((uint32_t)accumulator << left);
    const int64_t product = (int64_t)shifted * multiplier;
    /* The high half of twice the product, halves rounded up; TensorFlow Lite writes this as a
     * truncating division with a nudge by sign. As multiplier >= 0, nothing saturates. */
    const int32_t high = (int32_t)((product + (INT64_C(1) << 30)) >> 31);
    const int32_t mask = (int32_t)((INT64_C(1) << right) - 1);
    const int32_t remainder = high & mask;
    const int32_t threshold = (mask >> 1) + (high < 0 ? 1 : 0);
    return (high >> right) + (remainder > threshold ? 1 : 0);
}

/* Rounded to the nearest, halves away from zero; `low` to `high`, which lie within int16. */
static inline int32_t ec2t_requantise_real(int32_t accumulator, double factor, int32_t low,
                                           int32_t high) {
    /* In memory, so that no compiler joins the product and the difference below to one operation
     * of higher precision. */
    volatile double product = (double)accumulator * factor;
    const double scaled = product;
    if (!(scaled > (double)low)) {
        return low;
    }
    if (scaled > (double)high) {
        return high;
    }
    const int32_t whole = (int32_t)scaled; /* towards zero */
    const double rest = scaled - (double)whole;
    return whole + (rest >= 0.5 ? 1 : 0) - (rest <= -0.5 ? 1 : 0);
}

static inline int8_t ec2t_requantise(int32_t accumulator, const ec2t_requant *requant,
                                     int32_t channel) {
    const int32_t entry = channel * requant->channel_stride;
    int32_t value;
    if (requant->mode == EC2T_REQUANT_FP32) {
        const float low = (float)(requant->output_min - requant->output_zero_point);
        const float high = (float)(requant->output_max - requant->output_zero_point);
        float scaled = (float)accumulator * requant->factors[entry];
        scaled = scaled < low ? low : scaled;
        scaled = scaled > high ? high : scaled;
        /* Adding 1.5 * 2^23 leaves no fraction bits: the sum rounds to nearest, ties to even. */
        const float magic = 12582912.0f;
        volatile float rounded = scaled + magic;
        value = (int32_t)(rounded - magic) + requant->output_zero_point;
    } else if (requant->mode == EC2T_REQUANT_REAL) {
        value = ec2t_requantise_real(accumulator, requant->reals[entry],
                                     requant->output_min - requant->output_zero_point,
                                     requant->output_max - requant->output_zero_point) +
                requant->output_zero_point;
    } else {
        value = ec2t_requantise_tflite(accumulator, requant->multipliers[entry],
                                       requant->shifts[entry]);
        /* Sums of two int32, clamped: done in 64 bits, they cannot overflow. */
        const int64_t sum = (int64_t)value + requant->output_zero_point;
        value = sum < requant->output_min   ? requant->output_min
                : sum > requant->output_max ? requant->output_max
                                            : (int32_t)sum;
    }
    return (int8_t)value;
}

#ifdef __cplusplus
}
#endif
#endif
