#include "runtime.h"

#include <stdarg.h>
#include <string.h>

enum { ALWAYS_READY = -1, NOT_READY = -2 };

TfLiteIntArray *array_of(int count, const int *values) {
    TfLiteIntArray *array = malloc(sizeof *array + sizeof(int) * (size_t)count);
    if (array == NULL) {
        abort();
    }
    array->size = count;
    if (count > 0) {
        memcpy(array->data, values, sizeof(int) * (size_t)count);
    }
    return array;
}

/* Bytes of a tensor of these dims; 0 if it is larger than this runtime likes. */
static size_t bytes_of(const TfLiteTensor *tensor) {
    size_t bytes = tensor->type == kTfLiteInt32 ? 4 : 1;
    for (int i = 0; i < tensor->dims->size; i++) {
        const int size = tensor->dims->data[i];
        if (size < 1 || size > MOST_TENSOR_BYTES) {
            return 0;
        }
        bytes *= (size_t)size;
        if (bytes > MOST_TENSOR_BYTES) {
            return 0;
        }
    }
    return bytes;
}

static TfLiteStatus get_plan(TfLiteContext *context, TfLiteIntArray **plan) {
    *plan = ((ec2t_runtime *)context)->plan;
    return kTfLiteOk;
}

static TfLiteStatus get_node(TfLiteContext *context, int index, TfLiteNode **node,
                             TfLiteRegistration **registration) {
    ec2t_runtime *runtime = (ec2t_runtime *)context;
    if (index < 0 || index >= runtime->node_count) {
        return kTfLiteError;
    }
    *node = &runtime->nodes[index];
    *registration = &runtime->registrations[index];
    return kTfLiteOk;
}

static TfLiteStatus resize(TfLiteContext *context, TfLiteTensor *tensor, TfLiteIntArray *dims) {
    (void)context;
    if (tensor->allocation_type == kTfLiteMmapRo) {
        free(dims);
        return kTfLiteError;
    }
    free(tensor->dims);
    free(tensor->data);
    tensor->data = NULL;
    tensor->dims = dims;
    tensor->bytes = bytes_of(tensor);
    return tensor->bytes > 0 ? kTfLiteOk : kTfLiteError;
}

static TfLiteStatus add_tensors(TfLiteContext *context, int count, int *first) {
    *first = (int)context->tensors_size;
    if (context->tensors_size + (size_t)count > MOST_TENSORS) {
        return kTfLiteError;
    }
    context->tensors_size += (size_t)count;
    return kTfLiteOk;
}

static void report(TfLiteContext *context, const char *format, ...) {
    (void)context;
    (void)format;
}

void runtime_create(ec2t_runtime *runtime) {
    memset(runtime, 0, sizeof *runtime);
    runtime->context.tensors = runtime->tensors;
    runtime->context.GetExecutionPlan = get_plan;
    runtime->context.ResizeTensor = resize;
    runtime->context.ReportError = report;
    runtime->context.AddTensors = add_tensors;
    runtime->context.GetNodeAndRegistration = get_node;
    runtime->context.recommended_num_threads = 1;
}

void runtime_destroy(ec2t_runtime *runtime) {
    for (int i = 0; i < runtime->node_count; i++) {
        TfLiteNode *node = &runtime->nodes[i];
        if (runtime->registrations[i].free != NULL) {
            runtime->registrations[i].free(&runtime->context, node->user_data);
        }
        free(node->inputs);
        free(node->outputs);
        free(node->builtin_data);
        free(runtime->custom[i]);
    }
    for (size_t i = 0; i < runtime->context.tensors_size; i++) {
        TfLiteTensor *tensor = &runtime->tensors[i];
        TfLiteAffineQuantization *affine = tensor->quantization.params;
        if (affine != NULL) {
            free(affine->scale);
            free(affine->zero_point);
            free(affine);
        }
        free(tensor->dims);
        /* A constant's data lie in the file, which `allocation` stands for. */
        if (tensor->allocation_type != kTfLiteMmapRo) {
            free(tensor->data);
        }
        free((void *)(uintptr_t)tensor->allocation);
    }
    free(runtime->plan);
}

TfLiteTensor *runtime_add_tensor(ec2t_runtime *runtime) {
    if (runtime->context.tensors_size == MOST_TENSORS) {
        return NULL;
    }
    return &runtime->tensors[runtime->context.tensors_size++];
}

TfLiteNode *runtime_add_node(ec2t_runtime *runtime, int builtin_code, const char *custom_name) {
    if (runtime->node_count == MOST_NODES) {
        return NULL;
    }
    const int index = runtime->node_count++;
    runtime->file_nodes = runtime->node_count;
    runtime->registrations[index].builtin_code = builtin_code;
    runtime->registrations[index].custom_name = custom_name;
    return &runtime->nodes[index];
}

void runtime_set_custom(ec2t_runtime *runtime, TfLiteNode *node, const void *bytes, size_t size) {
    void *copy = malloc(size);
    memcpy(copy, bytes, size);
    runtime->custom[node - runtime->nodes] = copy;
    node->custom_initial_data = copy;
    node->custom_initial_data_size = (int)size;
}

/* One set of nodes that become one node of the delegate, or stay as they are. */
typedef struct {
    bool is_ours;
    int nodes[MOST_NODES], count;
} subset;

/* TensorFlow Lite's PartitionGraphIntoIndependentNodeSubsets: nodes in turns, as many as are ready
 * and of one kind. */
static int partition(const ec2t_runtime *runtime, const bool *is_ours, subset *subsets,
                     int *tensor_epochs) {
    bool is_done[MOST_NODES] = {false};
    int epoch = 0;
    for (size_t t = 0; t < runtime->context.tensors_size; t++) {
        tensor_epochs[t] = ALWAYS_READY;
    }
    for (int n = 0; n < runtime->file_nodes; n++) {
        const TfLiteIntArray *outputs = runtime->nodes[n].outputs;
        for (int i = 0; i < outputs->size; i++) {
            const int tensor = outputs->data[i];
            if (tensor >= 0 && !runtime->is_net_input[tensor] &&
                runtime->tensors[tensor].allocation_type != kTfLiteMmapRo &&
                !runtime->tensors[tensor].is_variable) {
                tensor_epochs[tensor] = NOT_READY;
            }
        }
    }
    for (;; epoch++) {
        subset *now = &subsets[epoch];
        now->count = 0;
        for (bool changed = true; changed;) {
            changed = false;
            for (int n = 0; n < runtime->file_nodes; n++) {
                bool ready = !is_done[n] && (now->count == 0 || now->is_ours == is_ours[n]);
                const TfLiteIntArray *inputs = runtime->nodes[n].inputs;
                for (int i = 0; ready && i < inputs->size; i++) {
                    ready = inputs->data[i] < 0 || tensor_epochs[inputs->data[i]] != NOT_READY;
                }
                if (!ready) {
                    continue;
                }
                now->is_ours = is_ours[n];
                now->nodes[now->count++] = n;
                is_done[n] = changed = true;
                const TfLiteIntArray *outputs = runtime->nodes[n].outputs;
                for (int i = 0; i < outputs->size; i++) {
                    if (outputs->data[i] >= 0) {
                        tensor_epochs[outputs->data[i]] = epoch;
                    }
                }
            }
        }
        if (now->count == 0) {
            return epoch;
        }
    }
}

/* The tensors that cross the border of subset `epoch`. */
static void borders(const ec2t_runtime *runtime, const subset *subsets, int epochs,
                    const int *tensor_epochs, int epoch, TfLiteIntArray **inputs,
                    TfLiteIntArray **outputs) {
    bool goes_in[MOST_TENSORS] = {false}, goes_out[MOST_TENSORS] = {false};
    int into[MOST_TENSORS], out[MOST_TENSORS], in_count = 0, out_count = 0;
    for (int e = 0; e < epochs; e++) {
        for (int k = 0; k < subsets[e].count; k++) {
            const TfLiteIntArray *read = runtime->nodes[subsets[e].nodes[k]].inputs;
            for (int i = 0; i < read->size; i++) {
                const int tensor = read->data[i];
                if (tensor < 0) {
                    continue;
                }
                goes_in[tensor] = goes_in[tensor] || (e == epoch && tensor_epochs[tensor] != e);
                goes_out[tensor] =
                    goes_out[tensor] || (e != epoch && tensor_epochs[tensor] == epoch);
            }
        }
    }
    for (int t = 0; t < (int)runtime->context.tensors_size; t++) {
        if (goes_in[t]) {
            into[in_count++] = t;
        }
        if (goes_out[t] || (runtime->is_net_output[t] && tensor_epochs[t] == epoch)) {
            out[out_count++] = t;
        }
    }
    *inputs = array_of(in_count, into);
    *outputs = array_of(out_count, out);
}

static TfLiteStatus replace(TfLiteContext *context, TfLiteRegistration kernel,
                            const TfLiteIntArray *mine, TfLiteDelegate *delegate) {
    ec2t_runtime *runtime = (ec2t_runtime *)context;
    bool is_ours[MOST_NODES] = {false};
    for (int i = 0; i < mine->size; i++) {
        is_ours[mine->data[i]] = true;
    }
    subset subsets[MOST_NODES + 1];
    int tensor_epochs[MOST_TENSORS], plan[MOST_NODES], count = 0;
    const int epochs = partition(runtime, is_ours, subsets, tensor_epochs);
    for (int epoch = 0; epoch < epochs; epoch++) {
        const subset *now = &subsets[epoch];
        if (!now->is_ours) {
            for (int k = 0; k < now->count; k++) {
                plan[count++] = now->nodes[k];
            }
            continue;
        }
        const int index = runtime->node_count++;
        TfLiteNode *node = &runtime->nodes[index];
        borders(runtime, subsets, epochs, tensor_epochs, epoch, &node->inputs, &node->outputs);
        TfLiteIntArray *nodes = array_of(now->count, now->nodes);
        const TfLiteDelegateParams params = {delegate, nodes, node->inputs, node->outputs};
        runtime->registrations[index] = kernel;
        node->delegate = delegate;
        node->user_data = kernel.init(context, (const char *)&params, sizeof params);
        free(nodes);
        plan[count++] = index;
    }
    free(runtime->plan);
    runtime->plan = array_of(count, plan);
    return kTfLiteOk;
}

TfLiteStatus runtime_apply(ec2t_runtime *runtime, TfLiteDelegate *delegate) {
    int plan[MOST_NODES];
    for (int i = 0; i < runtime->node_count; i++) {
        plan[i] = i;
    }
    runtime->plan = array_of(runtime->node_count, plan);
    runtime->context.ReplaceNodeSubsetsWithDelegateKernels = replace;
    return delegate->Prepare(&runtime->context, delegate);
}

static bool is_unresolved(const TfLiteRegistration *registration) {
    return registration->prepare == NULL && registration->custom_name != NULL &&
           strncmp(registration->custom_name, "EC2T.", 5) == 0;
}

TfLiteStatus runtime_allocate(ec2t_runtime *runtime) {
    for (int i = 0; i < runtime->plan->size; i++) {
        const int index = runtime->plan->data[i];
        const TfLiteRegistration *registration = &runtime->registrations[index];
        if (is_unresolved(registration) ||
            (registration->prepare != NULL &&
             registration->prepare(&runtime->context, &runtime->nodes[index]) != kTfLiteOk)) {
            return kTfLiteError;
        }
    }
    for (size_t i = 0; i < runtime->context.tensors_size; i++) {
        TfLiteTensor *tensor = &runtime->tensors[i];
        if (tensor->allocation_type == kTfLiteMmapRo || tensor->data != NULL) {
            continue;
        }
        tensor->bytes = tensor->dims != NULL ? bytes_of(tensor) : 0;
        if (tensor->bytes == 0) {
            return kTfLiteError;
        }
        tensor->data = malloc(tensor->bytes);
        memset(tensor->data, 85, tensor->bytes);
    }
    return kTfLiteOk;
}

/* Every output byte from the first input's bytes. */
static void run_foreign(ec2t_runtime *runtime, const TfLiteNode *node) {
    uint32_t state = 1;
    for (int i = 0; i < node->inputs->size; i++) {
        const int from = node->inputs->data[i];
        const uint8_t *bytes = from >= 0 ? runtime->tensors[from].data : NULL;
        for (size_t k = 0; bytes != NULL && k < runtime->tensors[from].bytes; k++) {
            state = state * 31 + bytes[k];
        }
    }
    for (int i = 0; i < node->outputs->size; i++) {
        const int to = node->outputs->data[i];
        uint8_t *bytes = to >= 0 ? runtime->tensors[to].data : NULL;
        for (size_t k = 0; bytes != NULL && k < runtime->tensors[to].bytes; k++) {
            state = state * 1664525u + 1013904223u;
            bytes[k] = (uint8_t)(state >> 24);
        }
    }
}

TfLiteStatus runtime_invoke(ec2t_runtime *runtime) {
    for (int i = 0; i < runtime->plan->size; i++) {
        const int index = runtime->plan->data[i];
        const TfLiteRegistration *registration = &runtime->registrations[index];
        if (registration->invoke == NULL) {
            run_foreign(runtime, &runtime->nodes[index]);
        } else if (registration->invoke(&runtime->context, &runtime->nodes[index]) != kTfLiteOk) {
            return kTfLiteError;
        }
    }
    return kTfLiteOk;
}

void runtime_invoke_unprepared(ec2t_runtime *runtime) {
    for (int i = runtime->file_nodes; i < runtime->node_count; i++) {
        (void)runtime->registrations[i].invoke(&runtime->context, &runtime->nodes[i]);
    }
}

void runtime_resize_input(ec2t_runtime *runtime, int tensor, int axis, int size) {
    TfLiteTensor *input = &runtime->tensors[tensor];
    TfLiteIntArray *dims = array_of(input->dims->size, input->dims->data);
    if (axis < dims->size) {
        dims->data[axis] = size;
    }
    (void)resize(&runtime->context, input, dims);
}
