/* libFuzzer on the delegate: a made-up graph of several operators, ours and plain ones, is
 * partitioned, restored, prepared and run as TensorFlow Lite would, allocations fail now and then,
 * inputs are resized. Where the fast kernels and the reference kernels both run it, they must agree
 * on every byte. */
#include <stdlib.h>
#include <string.h>

#include "graph_maker.h"

enum { LARGEST_ALLOCATION = 1 << 18 };

/* What the delegate's malloc and calloc are, compiled so: this allocation fails, if any. */
static int allocations_left;

void *fuzz_malloc(size_t size);
void *fuzz_calloc(size_t count, size_t size);

static bool may_allocate(size_t size) {
    return size <= LARGEST_ALLOCATION && (allocations_left == 0 || --allocations_left > 0);
}

void *fuzz_malloc(size_t size) {
    return may_allocate(size) ? malloc(size) : NULL;
}

void *fuzz_calloc(size_t count, size_t size) {
    return may_allocate(count * size) ? calloc(count, size) : NULL;
}

typedef struct {
    const char *requant, *claim, *threads;
    bool reference, profile, is_resized, is_repeated;
    int resized_axis, resized_size, failing_allocation;
} run_options;

static run_options choose_options(decisions *from) {
    static const char *const CLAIMS[] = {"always", "1", "0", "always"};
    run_options options = {.requant = "fp32", .threads = "1"};
    const int first = decide(from), second = decide(from);
    options.requant = (first & 1) != 0 ? "tflite" : "fp32";
    options.claim = CLAIMS[first / 2 % 4];
    options.threads = first >> 3 == 31 ? "2" : first >> 3 == 30 ? "1024" : "1";
    options.profile = second % 64 == 63;
    options.is_resized = second % 8 == 1;
    options.is_repeated = second % 8 == 2;
    options.resized_axis = second / 8 % 4;
    options.resized_size = 1 + second / 32;
    options.failing_allocation = second % 8 == 3 ? 1 + decide(from) % 64 : 0;
    return options;
}

/* Whatever left the graph, after one run. */
typedef struct {
    uint8_t *bytes;
    size_t size;
    bool is_complete;
} outcome;

static void keep_outputs(const ec2t_runtime *runtime, outcome *result) {
    for (int round = 0; round < 2; round++) {
        size_t size = 0;
        for (size_t t = 0; t < runtime->context.tensors_size; t++) {
            const TfLiteTensor *tensor = &runtime->tensors[t];
            if (!runtime->is_net_output[t] || tensor->data == NULL) {
                continue;
            }
            if (round == 1) {
                memcpy(result->bytes + size, tensor->data, tensor->bytes);
            }
            size += tensor->bytes;
        }
        if (round == 0) {
            result->bytes = malloc(size + 1);
            result->size = size;
        }
    }
}

static void fill_inputs(ec2t_runtime *runtime) {
    uint32_t state = 99;
    for (size_t t = 0; t < runtime->context.tensors_size; t++) {
        uint8_t *bytes = runtime->is_net_input[t] ? runtime->tensors[t].data : NULL;
        for (size_t i = 0; bytes != NULL && i < runtime->tensors[t].bytes; i++) {
            state = state * 1664525u + 1013904223u;
            bytes[i] = (uint8_t)(state >> 24);
        }
    }
}

static outcome run(decisions from, const run_options *options) {
    const char *keys[] = {"requant",     "reference", "claim_int8",
                          "num_threads", "profile",   "verbose"};
    const char *values[] = {
        options->requant, options->reference ? "1" : "0", options->claim,
        options->threads, options->profile ? "1" : "0",   options->profile ? "1" : "0"};
    static ec2t_runtime runtime;
    outcome result = {NULL, 0, false};
    runtime_create(&runtime);
    make_graph(&runtime, &from);
    allocations_left = 0;
    TfLiteDelegate *delegate = tflite_plugin_create_delegate(keys, values, 6, NULL);
    allocations_left = options->failing_allocation;
    if (delegate != NULL && runtime_apply(&runtime, delegate) == kTfLiteOk) {
        runtime_invoke_unprepared(&runtime);
        bool is_ready = runtime_allocate(&runtime) == kTfLiteOk;
        if (!is_ready) {
            runtime_invoke_unprepared(&runtime);
        }
        if (is_ready && options->is_resized) {
            runtime_resize_input(&runtime, 0, options->resized_axis, options->resized_size);
            is_ready = runtime_allocate(&runtime) == kTfLiteOk;
        }
        if (is_ready && options->is_repeated) {
            is_ready =
                runtime_allocate(&runtime) == kTfLiteOk && runtime_invoke(&runtime) == kTfLiteOk;
        }
        if (is_ready) {
            fill_inputs(&runtime);
            result.is_complete = runtime_invoke(&runtime) == kTfLiteOk;
        }
        if (result.is_complete) {
            keep_outputs(&runtime, &result);
        }
    }
    allocations_left = 0;
    runtime_destroy(&runtime);
    tflite_plugin_destroy_delegate(delegate);
    return result;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    decisions from = {data, data + size};
    run_options options = choose_options(&from);
    const outcome fast = run(from, &options);
    options.reference = true;
    options.threads = "1";
    const outcome slow = run(from, &options);
    /* Only where both take every node they can: others compute nothing here. */
    if (options.claim[0] == 'a' && fast.is_complete && slow.is_complete &&
        (fast.size != slow.size || memcmp(fast.bytes, slow.bytes, fast.size) != 0)) {
        abort();
    }
    free(fast.bytes);
    free(slow.bytes);
    return 0;
}
