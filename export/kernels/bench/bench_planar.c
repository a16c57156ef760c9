/* Runs each planar kernel on layers given as blobs and reports time, or marks the run for an
 * instruction counter.
 *
 *   bench_planar REPEATS < cases
 *
 * A case is u32 mode, height, width, blob size and the blob. For each case and kernel one line:
 * the kernel's name, and the shortest time of one run in nanoseconds. Decoding a layer into its
 * lists is timed as "prepare". With REPEATS 0 nothing is timed: the kernel runs once unmarked and
 * once between the markers of qemu_count_plugin.c. */
#define _POSIX_C_SOURCE 199309L
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bench.h"
#include "ec2t_planar.h"

static void check(ec2t_status status) {
    if (status != EC2T_OK) {
        fail(ec2t_status_text(status));
    }
}

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec * 1e9 + (double)time.tv_nsec;
}

typedef struct {
    ec2t_layer layer;
    ec2t_conv2d_shape shape;
    ec2t_requant requant;
    ec2t_planar_conv2d conv;
    size_t memory_size, init_size, scratch_size;
    void *memory, *init, *scratch;
    int8_t *input, *output;
} bench_case;

static void prepare(bench_case *bench, const ec2t_planar_kernel *kernel) {
    check(ec2t_planar_conv2d_init(&bench->conv, kernel, &bench->layer, &bench->shape,
                                  &bench->requant, bench->memory, bench->memory_size, bench->init,
                                  bench->init_size));
}

static void run(bench_case *bench) {
    check(ec2t_planar_conv2d_run(&bench->conv, NULL, bench->input, bench->output, bench->scratch,
                                 bench->scratch_size));
}

static void measure(bench_case *bench, const ec2t_planar_kernel *kernel, int repeats) {
    bench->memory_size = ec2t_planar_conv2d_get_memory_size(kernel, &bench->layer, &bench->shape);
    bench->memory = allocate(bench->memory_size);
    prepare(bench, kernel);
    bench->scratch_size = ec2t_planar_conv2d_get_buffer_size(&bench->conv);
    bench->scratch = allocate(bench->scratch_size);
    run(bench);
    double best = 0, best_prepare = 0;
    if (repeats == 0) {
        MARK_BEGIN();
        MARK_END();
        MARK_BEGIN();
        prepare(bench, kernel);
        MARK_END();
        MARK_BEGIN();
        run(bench);
        MARK_END();
    }
    for (int i = 0; i < repeats; ++i) {
        const double start = now();
        prepare(bench, kernel);
        const double middle = now();
        run(bench);
        const double end = now();
        best_prepare = i == 0 || middle - start < best_prepare ? middle - start : best_prepare;
        best = i == 0 || end - middle < best ? end - middle : best;
    }
    printf("%s %.0f prepare %.0f\n", kernel->name, best, best_prepare);
    free(bench->scratch);
    free(bench->memory);
}

int main(int argc, char **argv) {
    const int repeats = argc > 1 ? atoi(argv[1]) : 100;
    uint32_t head[4];
    while (fread(head, sizeof head, 1, stdin) == 1) {
        bench_case bench;
        void *const blob = allocate(head[3]);
        if (fread(blob, 1, head[3], stdin) != head[3]) {
            fail("a case ends early");
        }
        check(ec2t_layer_parse(blob, head[3], &bench.layer));
        check(ec2t_conv2d_shape_from_layer(&bench.layer, 1, (int32_t)head[1], (int32_t)head[2],
                                           &bench.shape));
        const size_t entries = (size_t)ec2t_requant_entries(&bench.layer);
        void *const requant = allocate(5 * entries);
        check(head[0] == EC2T_REQUANT_FP32
                  ? ec2t_requant_from_layer_fp32(&bench.layer, requant, &bench.requant)
                  : ec2t_requant_from_layer_tflite(
                        &bench.layer, requant, (int8_t *)requant + 4 * entries, &bench.requant));
        const size_t in_size = (size_t)bench.layer.input_channels * head[1] * head[2];
        bench.input = allocate(in_size);
        uint32_t random = 777;
        for (size_t i = 0; i < in_size; ++i) {
            random = random * 1664525u + 1013904223u;
            bench.input[i] = (int8_t)(random >> 24);
        }
        bench.output =
            allocate((size_t)bench.shape.output_channels * (size_t)bench.shape.output_height *
                     (size_t)bench.shape.output_width);
        bench.init_size = ec2t_planar_conv2d_get_init_buffer_size(&bench.layer);
        bench.init = allocate(bench.init_size);
        size_t count;
        const ec2t_planar_kernel *const kernels = ec2t_planar_kernels(&count);
        for (size_t k = 0; k < count; ++k) {
            if (kernels[k].is_supported()) {
                measure(&bench, &kernels[k], repeats);
            }
        }
        free(bench.init);
        free(bench.output);
        free(bench.input);
        free(requant);
        free(blob);
    }
    return 0;
}
