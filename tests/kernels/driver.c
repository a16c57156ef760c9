/* Runs the library on cases from stdin and writes results to stdout, so that the same tests serve
 * this machine and an emulated one. All numbers are u32; see native.py, which speaks to it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ec2t_layer.h"
#include "ec2t_planar.h"
#include "ec2t_reference.h"
#include "ec2t_requant.h"

enum {
    COMMAND_DECODE = 1,
    COMMAND_REFERENCE = 2,
    COMMAND_MULTIPLIER = 3,
    COMMAND_LIST = 4,
    COMMAND_PLANAR = 5,
    COMMAND_TRANSPOSE = 6,
    COMMAND_WHOLE_MULTIPLIER = 7,
    COMMAND_EXPAND = 8,
};

static int read_exactly(void *to, size_t size) {
    return fread(to, 1, size, stdin) == size;
}

static uint32_t read_u32(void) {
    uint32_t value;
    if (!read_exactly(&value, sizeof value)) {
        fprintf(stderr, "driver: a case ends early\n");
        exit(2);
    }
    return value;
}

/* An allocation of exactly this size, so that a sanitizer sees the first byte beyond it. */
static void *allocate(size_t size) {
    void *const memory = malloc(size ? size : 1);
    if (memory == NULL) {
        fprintf(stderr, "driver: out of memory\n");
        exit(2);
    }
    return memory;
}

static void *read_bytes(size_t *size) {
    *size = read_u32();
    void *const bytes = allocate(*size);
    if (!read_exactly(bytes, *size)) {
        fprintf(stderr, "driver: a case ends early\n");
        exit(2);
    }
    return bytes;
}

static void answer(ec2t_status status, const void *bytes, size_t size) {
    const uint32_t head[2] = {(uint32_t)status, status == EC2T_OK ? (uint32_t)size : 0};
    fwrite(head, sizeof head, 1, stdout);
    if (head[1] != 0) {
        fwrite(bytes, 1, size, stdout);
    }
}

static ec2t_status decode(const ec2t_layer *layer, int8_t **weights, size_t *size) {
    const size_t scratch_size = ec2t_decode_weights_get_buffer_size(layer);
    void *const scratch = allocate(scratch_size);
    *size = (size_t)layer->taps * (size_t)layer->output_channels;
    *weights = allocate(*size);
    const ec2t_status status = ec2t_decode_weights(layer, *weights, scratch, scratch_size);
    free(scratch);
    return status;
}

/* blob -> weights */
static void run_decode(void) {
    size_t size, weights_size = 0;
    void *const blob = read_bytes(&size);
    int8_t *weights = NULL;
    ec2t_layer layer;
    ec2t_status status = ec2t_layer_parse(blob, size, &layer);
    if (status == EC2T_OK) {
        status = decode(&layer, &weights, &weights_size);
    }
    if (status == EC2T_OK) {
        status = ec2t_layer_verify_checksum(blob, size);
    }
    answer(status, weights, weights_size);
    free(weights);
    free(blob);
}

static ec2t_status make_requant(const ec2t_layer *layer, uint32_t mode, ec2t_requant *requant,
                                void *memory) {
    const size_t entries = (size_t)ec2t_requant_entries(layer);
    if (mode == EC2T_REQUANT_FP32) {
        return ec2t_requant_from_layer_fp32(layer, memory, requant);
    }
    if (mode == EC2T_REQUANT_REAL) {
        return ec2t_requant_from_layer_real(layer, memory, requant);
    }
    return ec2t_requant_from_layer_tflite(layer, memory, (int8_t *)memory + 4 * entries, requant);
}

/* mode, batch, height, width, blob, input -> output */
static void run_reference(void) {
    const uint32_t mode = read_u32();
    const int32_t batch = (int32_t)read_u32(), height = (int32_t)read_u32(),
                  width = (int32_t)read_u32();
    size_t blob_size, input_size, weights_size, output_size = 0;
    void *const blob = read_bytes(&blob_size);
    int8_t *const input = read_bytes(&input_size);
    int8_t *weights = NULL, *output = NULL;
    void *requant_memory = NULL;
    ec2t_layer layer;
    ec2t_conv2d_shape shape;
    ec2t_requant requant;
    ec2t_status status = ec2t_layer_parse(blob, blob_size, &layer);
    if (status == EC2T_OK) {
        status = decode(&layer, &weights, &weights_size);
    }
    if (status == EC2T_OK) {
        requant_memory = allocate(sizeof(double) * (size_t)ec2t_requant_entries(&layer));
        status = make_requant(&layer, mode, &requant, requant_memory);
    }
    if (status == EC2T_OK) {
        status = ec2t_conv2d_shape_from_layer(&layer, batch, height, width, &shape);
    }
    if (status == EC2T_OK && input_size != (size_t)batch * (size_t)height * (size_t)width *
                                               (size_t)layer.input_channels) {
        status = EC2T_ERROR_ARGUMENT;
    }
    if (status == EC2T_OK) {
        output_size = (size_t)batch * (size_t)shape.output_height * (size_t)shape.output_width *
                      (size_t)shape.output_channels;
        output = allocate(output_size);
        if (layer.op == EC2T_FULLY_CONNECTED) {
            status = ec2t_fully_connected_s8__ref(batch * height * width, layer.input_channels,
                                                  layer.output_channels, layer.input_zero_point,
                                                  &requant, weights, layer.bias, input, output);
        } else {
            status = ec2t_conv2d_s8__ref(&shape, &requant, weights, layer.bias, input, output);
        }
    }
    answer(status, output, output_size);
    free(requant_memory);
    free(output);
    free(weights);
    free(input);
    free(blob);
}

/* -> names of the kernels this processor can run, a new line after each */
static void run_list(void) {
    char names[256] = "";
    size_t count;
    const ec2t_planar_kernel *const kernels = ec2t_planar_kernels(&count);
    for (size_t i = 0; i < count; ++i) {
        if (kernels[i].is_supported()) {
            strcat(strcat(names, kernels[i].name), "\n");
        }
    }
    answer(EC2T_OK, names, strlen(names));
}

/* Runs a prepared layer in up to four parts: rows and channels cut where `split` says. */
static ec2t_status run_parts(const ec2t_planar_conv2d *conv, uint32_t split, const int8_t *input,
                             int8_t *output) {
    const size_t size = ec2t_planar_conv2d_get_buffer_size(conv);
    void *const scratch = allocate(size);
    const int32_t rows = conv->shape.output_height, channels = conv->shape.output_channels;
    const int32_t row = split ? rows / 3 : rows, channel = split ? channels / 2 : channels;
    const ec2t_planar_part parts[4] = {
        {0, row, 0, channel},
        {row, rows, 0, channel},
        {0, row, channel, channels},
        {row, rows, channel, channels},
    };
    ec2t_status status = EC2T_OK;
    for (int i = 0; i < 4 && status == EC2T_OK; ++i) {
        status = ec2t_planar_conv2d_run(conv, &parts[i], input, output, scratch, size);
    }
    free(scratch);
    return status;
}

/* kernel number, split, mode, height, width, blob, planar input -> planar output */
static void run_planar(void) {
    const uint32_t number = read_u32(), split = read_u32(), mode = read_u32();
    const int32_t height = (int32_t)read_u32(), width = (int32_t)read_u32();
    size_t blob_size, input_size, count, output_size = 0;
    const ec2t_planar_kernel *const kernels = ec2t_planar_kernels(&count);
    void *const blob = read_bytes(&blob_size);
    int8_t *const input = read_bytes(&input_size);
    int8_t *output = NULL;
    void *requant_memory = NULL, *memory = NULL, *scratch = NULL;
    ec2t_layer layer;
    ec2t_conv2d_shape shape;
    ec2t_requant requant;
    ec2t_planar_conv2d conv;
    ec2t_status status = number < count ? EC2T_OK : EC2T_ERROR_ARGUMENT;
    if (status == EC2T_OK) {
        status = ec2t_layer_parse(blob, blob_size, &layer);
    }
    if (status == EC2T_OK) {
        requant_memory = allocate(sizeof(double) * (size_t)ec2t_requant_entries(&layer));
        status = make_requant(&layer, mode, &requant, requant_memory);
    }
    if (status == EC2T_OK) {
        status = ec2t_conv2d_shape_from_layer(&layer, 1, height, width, &shape);
    }
    if (status == EC2T_OK) {
        const size_t memory_size =
            ec2t_planar_conv2d_get_memory_size(&kernels[number], &layer, &shape);
        const size_t scratch_size = ec2t_planar_conv2d_get_init_buffer_size(&layer);
        memory = allocate(memory_size);
        scratch = allocate(scratch_size);
        status = ec2t_planar_conv2d_init(&conv, &kernels[number], &layer, &shape, &requant, memory,
                                         memory_size, scratch, scratch_size);
    }
    if (status == EC2T_OK) {
        output_size = (size_t)shape.output_height * (size_t)shape.output_width *
                      (size_t)shape.output_channels;
        output = allocate(output_size);
        memset(output, 0x55, output_size);
        status = run_parts(&conv, split, input, output);
    }
    answer(status, output, output_size);
    free(scratch);
    free(memory);
    free(requant_memory);
    free(output);
    free(input);
    free(blob);
}

/* back (0 or 1), pixels, channels, bytes -> bytes in the other layout */
static void run_transpose(void) {
    const uint32_t back = read_u32();
    const int32_t pixels = (int32_t)read_u32(), channels = (int32_t)read_u32();
    size_t size;
    int8_t *const input = read_bytes(&size), *const output = allocate(size);
    if (back) {
        ec2t_planar_to_nhwc(pixels, channels, input, output);
    } else {
        ec2t_nhwc_to_planar(pixels, channels, input, output);
    }
    answer(EC2T_OK, output, size);
    free(output);
    free(input);
}

/* f64 values -> pairs of i32 multiplier and shift */
static void run_multiplier(void) {
    size_t size;
    double *const values = read_bytes(&size);
    int32_t *const pairs = allocate(size);
    for (size_t i = 0; i < size / sizeof *values; ++i) {
        int8_t shift;
        ec2t_quantize_multiplier(values[i], pairs + 2 * i, &shift);
        pairs[2 * i + 1] = shift;
    }
    answer(EC2T_OK, pairs, size);
    free(pairs);
    free(values);
}

/* output zero point, least and most output, largest sum, f32 factors -> i32 multipliers */
static void run_whole_multiplier(void) {
    ec2t_requant requant = {.mode = EC2T_REQUANT_FP32};
    requant.output_zero_point = (int32_t)read_u32();
    requant.output_min = (int32_t)read_u32();
    requant.output_max = (int32_t)read_u32();
    const int32_t largest = (int32_t)read_u32();
    size_t size;
    float *const factors = read_bytes(&size);
    int32_t *const multipliers = allocate(size);
    for (size_t i = 0; i < size / sizeof *factors; ++i) {
        multipliers[i] = ec2t_whole_multiplier(&requant, factors[i], largest);
    }
    answer(EC2T_OK, multipliers, size);
    free(multipliers);
    free(factors);
}

/* compact blob, scales and zero points as their bits -> blob, of which the layer is parsed */
static void run_expand(void) {
    size_t size;
    void *const compact = read_bytes(&size);
    ec2t_ends ends;
    const uint32_t bits[2] = {read_u32(), read_u32()};
    memcpy(&ends.input_scale, &bits[0], sizeof(float));
    memcpy(&ends.output_scale, &bits[1], sizeof(float));
    ends.input_zero_point = (int32_t)read_u32();
    ends.output_zero_point = (int32_t)read_u32();
    size_t blob_size = ec2t_compact_get_expanded_size(compact, size, &ends);
    void *const blob = allocate(blob_size);
    ec2t_layer layer;
    ec2t_status status = ec2t_compact_expand(compact, size, &ends, blob, &blob_size);
    if (status == EC2T_OK) {
        status = ec2t_layer_parse(blob, blob_size, &layer);
    }
    answer(status, blob, blob_size);
    free(blob);
    free(compact);
}

int main(void) {
    uint32_t command;
    while (read_exactly(&command, sizeof command)) {
        switch (command) {
        case COMMAND_DECODE: run_decode(); break;
        case COMMAND_REFERENCE: run_reference(); break;
        case COMMAND_MULTIPLIER: run_multiplier(); break;
        case COMMAND_LIST: run_list(); break;
        case COMMAND_PLANAR: run_planar(); break;
        case COMMAND_TRANSPOSE: run_transpose(); break;
        case COMMAND_WHOLE_MULTIPLIER: run_whole_multiplier(); break;
        case COMMAND_EXPAND: run_expand(); break;
        default: fprintf(stderr, "driver: unknown command %u\n", (unsigned)command); return 2;
        }
    }
    return 0;
}
