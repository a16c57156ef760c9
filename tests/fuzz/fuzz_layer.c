/* libFuzzer target: any bytes as a layer blob, through the parser, every decoder, the preparation
 * and a run of the portable planar kernel. Buffers have their exact sizes, so that AddressSanitizer
 * sees the first byte beyond them. With FUZZ_ENCODING every blob has that encoding: all effort goes
 * to one decoder. With FUZZ_COMPACT the bytes are the stream of a compact blob, which is expanded
 * first. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "ec2t_planar.h"

enum {
    LARGEST_WEIGHTS = 1 << 16, /* keeps one run short; sizes beyond are legal and only slow */
    LARGEST_IMAGE = 1 << 14,
    LARGEST_EXPANDED = 1 << 15,
    ENCODING_AT = 7, /* byte of the header */
};

static void *allocate(size_t size) {
    void *const memory = malloc(size ? size : 1);
    if (memory == NULL) {
        abort();
    }
    return memory;
}

static void run_planar(const ec2t_layer *layer, const ec2t_conv2d_shape *shape,
                       const ec2t_requant *requant, const ec2t_planar_kernel *kernel) {
    const size_t memory_size = ec2t_planar_conv2d_get_memory_size(kernel, layer, shape);
    const size_t init_size = ec2t_planar_conv2d_get_init_buffer_size(layer);
    void *const memory = allocate(memory_size), *const init = allocate(init_size);
    ec2t_planar_conv2d conv;
    if (ec2t_planar_conv2d_init(&conv, kernel, layer, shape, requant, memory, memory_size, init,
                                init_size) == EC2T_OK) {
        const size_t in_size = (size_t)shape->input_channels * (size_t)shape->input_height *
                               (size_t)shape->input_width;
        const size_t out_size = (size_t)shape->output_channels * (size_t)shape->output_height *
                                (size_t)shape->output_width;
        const size_t scratch_size = ec2t_planar_conv2d_get_buffer_size(&conv);
        if (in_size <= LARGEST_IMAGE && out_size <= LARGEST_IMAGE && scratch_size < (1u << 20)) {
            int8_t *const input = allocate(in_size), *const output = allocate(out_size);
            void *const scratch = allocate(scratch_size);
            memset(input, 85, in_size);
            if (ec2t_planar_conv2d_run(&conv, NULL, input, output, scratch, scratch_size) !=
                EC2T_OK) {
                abort(); /* what was prepared runs */
            }
            free(scratch);
            free(output);
            free(input);
        }
    }
    free(init);
    free(memory);
}

#ifdef FUZZ_COMPACT
/* The blob of a compact stream, whose version `first` chooses; NULL if it is refused, or long to
 * work on. */
static uint8_t *take_blob(uint8_t first, const uint8_t *stream, size_t *size) {
    const ec2t_ends ends = {0.05f, 0.1f, -3, 7};
    const size_t compact_size = *size + 3;
    uint8_t *const compact = allocate(compact_size);
    const uint32_t check = ec2t_checksum(stream, *size);
    compact[0] = (uint8_t)(2 + (first & 1));
    compact[1] = (uint8_t)check;
    compact[2] = (uint8_t)(check >> 8);
    memcpy(compact + 3, stream, *size);
    *size = ec2t_compact_get_expanded_size(compact, compact_size, &ends);
    uint8_t *blob = NULL;
    if (*size > 0 && *size <= LARGEST_EXPANDED) {
        blob = allocate(*size);
        if (ec2t_compact_expand(compact, compact_size, &ends, blob, size) != EC2T_OK) {
            free(blob);
            blob = NULL;
        }
    }
    free(compact);
    return blob;
}
#else
static uint8_t *take_blob(uint8_t first, const uint8_t *data, size_t *size) {
    uint8_t *const blob = allocate(*size);
    (void)first;
    memcpy(blob, data, *size);
#ifdef FUZZ_ENCODING
    if (*size > ENCODING_AT) {
        blob[ENCODING_AT] = FUZZ_ENCODING;
    }
#endif
    return blob;
}
#endif

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    /* The first byte chooses the size of the image, its last bit the version of a compact blob. */
    if (size < 1) {
        return 0;
    }
    const int32_t height = 1 + (data[0] & 15), width = 1 + (data[0] >> 4);
    size -= 1;
    uint8_t *const blob = take_blob(data[0], data + 1, &size);
    if (blob == NULL) {
        return 0;
    }
    ec2t_layer layer;
    (void)ec2t_layer_verify_checksum(blob, size);
    if (ec2t_layer_parse(blob, size, &layer) == EC2T_OK &&
        (size_t)layer.taps * (size_t)layer.output_channels <= LARGEST_WEIGHTS) {
        const size_t count = (size_t)layer.taps * (size_t)layer.output_channels;
        const size_t scratch_size = ec2t_decode_weights_get_buffer_size(&layer);
        void *const scratch = allocate(scratch_size);
        int8_t *const weights = allocate(count);
        (void)ec2t_decode_weights(&layer, weights, scratch, scratch_size);
        free(weights);
        free(scratch);

        const size_t entries = (size_t)ec2t_requant_entries(&layer);
        void *const requant_memory = allocate(5 * entries);
        ec2t_requant requant;
        ec2t_conv2d_shape shape;
        size_t kernels;
        const ec2t_planar_kernel *const kernel = ec2t_planar_kernels(&kernels);
        if (ec2t_conv2d_shape_from_layer(&layer, 1, height, width, &shape) == EC2T_OK) {
            if (ec2t_requant_from_layer_tflite(&layer, requant_memory,
                                               (int8_t *)requant_memory + 4 * entries,
                                               &requant) == EC2T_OK) {
                run_planar(&layer, &shape, &requant, &kernel[0]);
            }
            if (ec2t_requant_from_layer_fp32(&layer, requant_memory, &requant) == EC2T_OK) {
                run_planar(&layer, &shape, &requant, &kernel[kernels > 1 ? 1 : 0]);
            }
        }
        free(requant_memory);
    }
    free(blob);
    return 0;
}
