/* A stand-in for TensorFlow Lite's interpreter around the delegate: as much of it as a delegate can
 * see. Every tensor has memory of its own and of its exact size, so that AddressSanitizer sees the
 * first byte beyond it. */
#ifndef EC2T_FUZZ_RUNTIME_H
#define EC2T_FUZZ_RUNTIME_H

#include <stdlib.h>

#include "delegate.h"

/* Allocations fail in the delegate alone: fuzz_graph.c. */
#undef malloc
#undef calloc
void *malloc(size_t size);
void *calloc(size_t count, size_t size);

enum { MOST_NODES = 12, MOST_TENSORS = 96, MOST_TENSOR_BYTES = 1 << 16 };

/* The file's part of a tensor is in `tensors`: type, dims, quantisation, and data if constant. */
typedef struct {
    TfLiteContext context; /* first */
    TfLiteTensor tensors[MOST_TENSORS];
    bool is_net_input[MOST_TENSORS], is_net_output[MOST_TENSORS];
    /* The nodes of the file, then the partitions that took their place. */
    TfLiteNode nodes[2 * MOST_NODES];
    TfLiteRegistration registrations[2 * MOST_NODES];
    void *custom[2 * MOST_NODES]; /* bytes of nodes' options */
    int node_count, file_nodes;
    TfLiteIntArray *plan;
} ec2t_runtime;

/* An array as the runtime allocates and releases them. */
TfLiteIntArray *array_of(int count, const int *values);

/* An empty graph; tensors and nodes are then filled in by hand: dims, inputs, outputs,
 * builtin_data and quantization are the runtime's to release, data too. */
void runtime_create(ec2t_runtime *runtime);
void runtime_destroy(ec2t_runtime *runtime);

/* The next free tensor or node; NULL if there is none. */
TfLiteTensor *runtime_add_tensor(ec2t_runtime *runtime);
TfLiteNode *runtime_add_node(ec2t_runtime *runtime, int builtin_code, const char *custom_name);

/* Gives a node a copy of bytes as its custom options. */
void runtime_set_custom(ec2t_runtime *runtime, TfLiteNode *node, const void *bytes, size_t size);

/* What an interpreter does; a node that is not the delegate's fills its outputs from its inputs. */
TfLiteStatus runtime_apply(ec2t_runtime *runtime, TfLiteDelegate *delegate);
TfLiteStatus runtime_allocate(ec2t_runtime *runtime);
TfLiteStatus runtime_invoke(ec2t_runtime *runtime);

/* Runs the partitions alone, prepared or not: they must refuse rather than fall over. */
void runtime_invoke_unprepared(ec2t_runtime *runtime);

/* Gives a net's input other dims; allocate again. */
void runtime_resize_input(ec2t_runtime *runtime, int tensor, int axis, int size);

#endif
