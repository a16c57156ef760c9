#include "elementwise.h"

#include <string.h>

/* Compiled twice where the system can choose at load time; NEON is always there on arm64. */
#if defined(__x86_64__) && defined(__linux__) && !defined(__ANDROID__) && !defined(__clang__)
#define EC2T_CLONES __attribute__((target_clones("avx2", "default")))
#else
#define EC2T_CLONES
#endif

static void add_tflite(const ec2t_add *add, const int8_t *left, const int8_t *right, int8_t *sum,
                       size_t count) {
    const int32_t smallest = add->output_min, largest = add->output_max;
    for (size_t i = 0; i < count; i++) {
        const int32_t a = (left[i] - add->input_zero_point[0]) * (1 << 20);
        const int32_t b = (right[i] - add->input_zero_point[1]) * (1 << 20);
        const int32_t total = ec2t_requantise_tflite(a, add->multiplier[0], add->shift[0]) +
                              ec2t_requantise_tflite(b, add->multiplier[1], add->shift[1]);
        const int32_t value = ec2t_requantise_tflite(total, add->multiplier[2], add->shift[2]) +
                              add->output_zero_point;
        sum[i] = (int8_t)(value < smallest ? smallest : value > largest ? largest : value);
    }
}

EC2T_CLONES static void add_fp32(const ec2t_add *add, const int8_t *restrict left,
                                 const int8_t *restrict right, int8_t *restrict sum, size_t count) {
    const int32_t a = add->multiplier[0], b = add->multiplier[1], shift = add->shift[0];
    const int32_t zero_point = add->output_zero_point;
    const int32_t bias =
        (1 << (shift - 1)) - a * add->input_zero_point[0] - b * add->input_zero_point[1];
    const int32_t low = add->output_min - zero_point, high = add->output_max - zero_point;
    for (size_t i = 0; i < count; i++) {
        int32_t value = (bias + a * left[i] + b * right[i]) >> shift;
        value = value < low ? low : value;
        value = value > high ? high : value;
        sum[i] = (int8_t)(value + zero_point);
    }
}

void ec2t_add_s8(const ec2t_add *add, ec2t_requant_mode mode, const int8_t *left,
                 const int8_t *right, int8_t *sum, size_t count) {
    if (mode == EC2T_REQUANT_FP32) {
        add_fp32(add, left, right, sum, count);
    } else {
        add_tflite(add, left, right, sum, count);
    }
}

EC2T_CLONES static void keep_larger(int8_t *restrict largest, const int8_t *restrict values,
                                    size_t count) {
    for (size_t i = 0; i < count; i++) {
        largest[i] = values[i] > largest[i] ? values[i] : largest[i];
    }
}

EC2T_CLONES static void larger_of_pairs(int8_t *restrict largest, const int8_t *restrict values,
                                        size_t count) {
    for (size_t i = 0; i < count; i++) {
        largest[i] = values[2 * i] > values[2 * i + 1] ? values[2 * i] : values[2 * i + 1];
    }
}

EC2T_CLONES static void clamp(int8_t *values, int8_t low, int8_t high, size_t count) {
    for (size_t i = 0; i < count; i++) {
        const int8_t value = values[i] < low ? low : values[i];
        values[i] = value > high ? high : value;
    }
}

static int32_t padding_before(int32_t input, int32_t output, int32_t window, int32_t stride,
                              bool same) {
    const int32_t total = (output - 1) * stride + window - input;
    return same && total > 0 ? total / 2 : 0;
}

/* One row of outputs over `lanes` interleaved channels. */
static void pool_row(const ec2t_pool *pool, const ec2t_extent *input, const ec2t_extent *output,
                     const int8_t *source, int8_t *target, int32_t top_row, int32_t left,
                     size_t lanes, int8_t *columns) {
    const size_t width = (size_t)input->width * lanes;
    memset(columns, -128, width);
    for (int32_t y = 0; y < pool->height; y++) {
        const int32_t row = top_row + y;
        if (row >= 0 && row < input->height) {
            keep_larger(columns, source + (size_t)row * width, width);
        }
    }
    if (lanes == 1 && left == 0 && pool->width == 2 && pool->stride_width == 2 &&
        2 * output->width <= input->width) {
        larger_of_pairs(target, columns, (size_t)output->width);
        return;
    }
    memset(target, -128, (size_t)output->width * lanes);
    for (int32_t column = 0; column < output->width; column++) {
        for (int32_t x = 0; x < pool->width; x++) {
            const int32_t from = column * pool->stride_width - left + x;
            if (from >= 0 && from < input->width) {
                keep_larger(target + (size_t)column * lanes, columns + (size_t)from * lanes, lanes);
            }
        }
    }
}

void ec2t_max_pool_s8(const ec2t_pool *pool, bool planar, const ec2t_extent *input,
                      const ec2t_extent *output, const int8_t *source, int8_t *target, int part,
                      int parts, int8_t *scratch) {
    const int32_t top = padding_before(input->height, output->height, pool->height,
                                       pool->stride_height, pool->same);
    const int32_t left =
        padding_before(input->width, output->width, pool->width, pool->stride_width, pool->same);
    const size_t lanes = planar ? 1 : (size_t)input->channels;
    const size_t planes = (size_t)input->batch * (planar ? (size_t)input->channels : 1);
    const size_t in = (size_t)input->height * (size_t)input->width * lanes;
    const size_t row_size = (size_t)output->width * lanes;
    const size_t out = (size_t)output->height * row_size;
    const size_t first = (size_t)((uint64_t)planes * (uint64_t)part / (uint64_t)parts);
    const size_t last = (size_t)((uint64_t)planes * (uint64_t)(part + 1) / (uint64_t)parts);
    for (size_t plane = first; plane < last; plane++) {
        for (int32_t row = 0; row < output->height; row++) {
            pool_row(pool, input, output, source + plane * in,
                     target + plane * out + (size_t)row * row_size, row * pool->stride_height - top,
                     left, lanes, scratch);
        }
    }
    if (pool->output_min > -128 || pool->output_max < 127) {
        clamp(target + first * out, (int8_t)pool->output_min, (int8_t)pool->output_max,
              (last - first) * out);
    }
}

EC2T_CLONES static int32_t dot(const int16_t *restrict weights, const int16_t *restrict input,
                               size_t count) {
    int32_t sum = 0;
    for (size_t i = 0; i < count; i++) {
        sum += weights[i] * input[i];
    }
    return sum;
}

/* A static clone: one with a name of its own would be exported. */
EC2T_CLONES static void widen(const int8_t *restrict from, int16_t *restrict to, size_t count) {
    for (size_t i = 0; i < count; i++) {
        to[i] = from[i];
    }
}

void ec2t_widen_s8(const int8_t *from, int16_t *to, size_t count) {
    widen(from, to, count);
}

void ec2t_dense_s8(const ec2t_dense *dense, const int16_t *input, int8_t *output, int32_t begin,
                   int32_t end) {
    const size_t inputs = (size_t)dense->inputs;
    for (int32_t o = begin; o < end; o++) {
        const uint32_t sum = (uint32_t)dot(dense->weights + (size_t)o * inputs, input, inputs) +
                             (uint32_t)dense->bias[o];
        output[o] = ec2t_requantise((int32_t)sum, dense->requant, o);
    }
}

enum { BLOCK = 16 };
typedef uint8_t ec2t_bytes __attribute__((vector_size(BLOCK)));

#define LOW_HALVES 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define HIGH_HALVES 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#if defined(__clang__)
#define INTERLEAVE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define INTERLEAVE(a, b, ...) __builtin_shuffle(a, b, (ec2t_bytes){__VA_ARGS__})
#endif

/* Interleaving row i with row i + 8 four times over moves byte (row, column) to (column, row). */
static void transpose_block(const int8_t *from, size_t from_stride, int8_t *to, size_t to_stride) {
    ec2t_bytes rows[BLOCK], mixed[BLOCK];
    for (size_t i = 0; i < BLOCK; i++) {
        memcpy(&rows[i], from + i * from_stride, BLOCK);
    }
    for (int round = 0; round < 2; round++) {
        for (size_t i = 0; i < BLOCK / 2; i++) {
            mixed[2 * i] = INTERLEAVE(rows[i], rows[i + BLOCK / 2], LOW_HALVES);
            mixed[2 * i + 1] = INTERLEAVE(rows[i], rows[i + BLOCK / 2], HIGH_HALVES);
        }
        for (size_t i = 0; i < BLOCK / 2; i++) {
            rows[2 * i] = INTERLEAVE(mixed[i], mixed[i + BLOCK / 2], LOW_HALVES);
            rows[2 * i + 1] = INTERLEAVE(mixed[i], mixed[i + BLOCK / 2], HIGH_HALVES);
        }
    }
    for (size_t i = 0; i < BLOCK; i++) {
        memcpy(to + i * to_stride, &rows[i], BLOCK);
    }
}

/* [rows][columns] to [columns][rows]. Blocks at the ends overlap those before. */
static void transpose(size_t rows, size_t columns, const int8_t *from, int8_t *to) {
    if (rows < BLOCK || columns < BLOCK) {
        for (size_t x = 0; x < columns; x++) {
            for (size_t y = 0; y < rows; y++) {
                to[x * rows + y] = from[y * columns + x];
            }
        }
        return;
    }
    for (size_t y = 0; y < rows; y += BLOCK) {
        const size_t row = y + BLOCK <= rows ? y : rows - BLOCK;
        for (size_t x = 0; x < columns; x += BLOCK) {
            const size_t column = x + BLOCK <= columns ? x : columns - BLOCK;
            transpose_block(from + row * columns + column, columns, to + column * rows + row, rows);
        }
    }
}

void ec2t_to_planar(const ec2t_extent *extent, const int8_t *nhwc, int8_t *planar) {
    const size_t pixels = (size_t)extent->height * (size_t)extent->width;
    const size_t channels = (size_t)extent->channels;
    for (size_t image = 0; image < (size_t)extent->batch; image++) {
        const size_t at = image * pixels * channels;
        transpose(pixels, channels, nhwc + at, planar + at);
    }
}

void ec2t_to_nhwc(const ec2t_extent *extent, const int8_t *planar, int8_t *nhwc) {
    const size_t pixels = (size_t)extent->height * (size_t)extent->width;
    const size_t channels = (size_t)extent->channels;
    for (size_t image = 0; image < (size_t)extent->batch; image++) {
        const size_t at = image * pixels * channels;
        transpose(channels, pixels, planar + at, nhwc + at);
    }
}
