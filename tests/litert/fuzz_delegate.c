/* libFuzzer on what the delegate takes in: a made-up graph of one EC2T operator, whose blob, shapes
 * and quantisation come from the input, prepared and run as TensorFlow Lite would. */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "delegate.h"

enum { SOURCE, BLOB, TARGET, TENSORS, MOST_TENSORS = TENSORS + 2, MOST_BYTES = 1 << 16 };

typedef struct {
    TfLiteContext context; /* first */
    TfLiteTensor tensors[MOST_TENSORS];
    TfLiteNode node, replaced;
    TfLiteRegistration registration, kernel;
    TfLiteIntArray *plan;
    TfLiteIntArray *inputs, *outputs;
    TfLiteDelegateParams params;
    bool is_replaced;
} fake_graph;

static TfLiteIntArray *array_of(int count, const int *values) {
    TfLiteIntArray *array = malloc(sizeof *array + sizeof(int) * (size_t)count);
    array->size = count;
    memcpy(array->data, values, sizeof(int) * (size_t)count);
    return array;
}

static TfLiteStatus get_plan(TfLiteContext *context, TfLiteIntArray **plan) {
    *plan = ((fake_graph *)context)->plan;
    return kTfLiteOk;
}

static TfLiteStatus get_node(TfLiteContext *context, int index, TfLiteNode **node,
                             TfLiteRegistration **registration) {
    fake_graph *graph = (fake_graph *)context;
    *node = &graph->node;
    *registration = &graph->registration;
    return index == 0 ? kTfLiteOk : kTfLiteError;
}

static TfLiteStatus resize(TfLiteContext *context, TfLiteTensor *tensor, TfLiteIntArray *size) {
    (void)context;
    free(tensor->dims);
    free(tensor->data);
    tensor->dims = size;
    tensor->bytes = 1;
    for (int i = 0; i < size->size; i++) {
        tensor->bytes *= (size_t)size->data[i];
    }
    tensor->data = tensor->bytes <= MOST_BYTES ? malloc(tensor->bytes) : NULL;
    return tensor->data != NULL ? kTfLiteOk : kTfLiteError;
}

static TfLiteStatus add_tensors(TfLiteContext *context, int count, int *first) {
    *first = (int)context->tensors_size;
    if (context->tensors_size + (size_t)count > MOST_TENSORS) {
        return kTfLiteError;
    }
    context->tensors_size += (size_t)count;
    return kTfLiteOk;
}

/* Releases what the runtime releases with a tensor. */
static void release(TfLiteTensor *tensor) {
    TfLiteAffineQuantization *affine = tensor->quantization.params;
    if (affine != NULL) {
        free(affine->scale);
        free(affine->zero_point);
        free(affine);
    }
    free(tensor->dims);
}

static void report(TfLiteContext *context, const char *format, ...) {
    (void)context;
    (void)format;
}

static TfLiteStatus replace(TfLiteContext *context, TfLiteRegistration kernel,
                            const TfLiteIntArray *nodes, TfLiteDelegate *delegate) {
    fake_graph *graph = (fake_graph *)context;
    (void)nodes;
    graph->kernel = kernel;
    graph->is_replaced = true;
    graph->params = (TfLiteDelegateParams){delegate, graph->plan, graph->inputs, graph->outputs};
    graph->replaced.inputs = graph->inputs;
    graph->replaced.outputs = graph->outputs;
    graph->replaced.user_data =
        kernel.init(context, (const char *)&graph->params, sizeof graph->params);
    return kTfLiteOk;
}

static void set_tensor(TfLiteTensor *tensor, int type, const uint8_t *options, size_t largest) {
    const int four = options[0] & 1;
    const int dims[4] = {1 + options[0] / 128, 1 + options[1] % 8, 1 + options[2] % 8,
                         1 + options[3] % 8};
    const int flat[2] = {dims[0], dims[3]};
    tensor->type = type;
    tensor->dims = four ? array_of(4, dims) : array_of(2, flat);
    tensor->bytes =
        (size_t)dims[0] * (size_t)dims[3] * (four ? (size_t)dims[1] * (size_t)dims[2] : 1);
    tensor->bytes = tensor->bytes > largest ? largest : tensor->bytes;
    tensor->data = calloc(1, tensor->bytes + 1);
    tensor->params.scale = 0.1f;
    tensor->params.zero_point = (int8_t)options[4];
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    enum { OPTIONS = 12 };
    if (size < OPTIONS || size > 4096) {
        return 0;
    }
    const uint8_t *options = data;
    data += OPTIONS;
    size -= OPTIONS;
    fake_graph graph;
    memset(&graph, 0, sizeof graph);
    set_tensor(&graph.tensors[SOURCE], kTfLiteInt8, options, MOST_BYTES);
    set_tensor(&graph.tensors[TARGET], kTfLiteInt8, options + 5, MOST_BYTES);
    TfLiteTensor *blob = &graph.tensors[BLOB];
    blob->type = kTfLiteUInt8;
    blob->allocation_type = kTfLiteMmapRo;
    blob->bytes = size;
    /* An odd address now and then: TensorFlow's converter aligns to 4, others to nothing. */
    const size_t shift = options[10] % 4;
    uint8_t *bytes = malloc(size + shift + 1);
    memcpy(bytes + shift, data, size);
    blob->data = bytes + shift;
    const int node = 0, from[2] = {SOURCE, BLOB}, to = TARGET;
    graph.plan = array_of(1, &node);
    graph.inputs = array_of(2, from);
    graph.outputs = array_of(1, &to);
    graph.node.inputs = array_of(2, from); /* the delegate may replace it */
    graph.node.outputs = graph.outputs;
    graph.registration.builtin_code = kTfLiteBuiltinCustom;
    graph.registration.custom_name = "EC2T.Conv2D";
    graph.context = (TfLiteContext){.tensors_size = TENSORS,
                                    .GetExecutionPlan = get_plan,
                                    .tensors = graph.tensors,
                                    .ResizeTensor = resize,
                                    .ReportError = report,
                                    .AddTensors = add_tensors,
                                    .GetNodeAndRegistration = get_node,
                                    .ReplaceNodeSubsetsWithDelegateKernels = replace,
                                    .recommended_num_threads = 1};
    const char *keys[] = {"requant", "reference", "claim_int8"};
    const char *values[] = {options[11] & 1 ? "tflite" : "fp32", options[11] & 2 ? "1" : "0",
                            options[11] & 4 ? "always" : "1"};
    TfLiteDelegate *delegate = tflite_plugin_create_delegate(keys, values, 3, NULL);
    if (delegate->Prepare(&graph.context, delegate) == kTfLiteOk) {
        /* Else the operator was restored, and runs as nobody else takes it. */
        const TfLiteRegistration kernel = graph.is_replaced ? graph.kernel : graph.registration;
        TfLiteNode *runs = graph.is_replaced ? &graph.replaced : &graph.node;
        if (kernel.prepare(&graph.context, runs) == kTfLiteOk) {
            kernel.invoke(&graph.context, runs);
        }
    }
    if (graph.is_replaced) {
        graph.kernel.free(&graph.context, graph.replaced.user_data);
    }
    tflite_plugin_destroy_delegate(delegate);
    for (int i = 0; i < MOST_TENSORS; i++) {
        release(&graph.tensors[i]);
    }
    free(graph.node.builtin_data);
    free(graph.node.inputs);
    free(graph.tensors[SOURCE].data);
    free(graph.tensors[TARGET].data);
    free(bytes);
    free(graph.plan);
    free(graph.inputs);
    free(graph.outputs);
    return 0;
}
