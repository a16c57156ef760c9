/* The part of TensorFlow Lite's C ABI that an external delegate needs, declared from its documented
 * struct layouts. Nothing here is a symbol of the runtime: every call goes through the function
 * pointers of TfLiteContext, so one library serves tflite-runtime 2.14 to ai-edge-litert 2.x.
 *
 * The runtime's structs only ever grow at their end; fields after the last one in use are left out.
 * TfLiteRegistration is passed by value and therefore padded with zeros, which is what a newer
 * runtime must find in fields that we do not know. */
#ifndef EC2T_TFLITE_ABI_H
#define EC2T_TFLITE_ABI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum { kTfLiteOk = 0, kTfLiteError = 1, kTfLiteDelegateError = 2 } TfLiteStatus;

typedef enum { kTfLiteInt32 = 2, kTfLiteUInt8 = 3, kTfLiteInt8 = 9 } TfLiteType;

enum { kTfLiteMmapRo = 1 };             /* TfLiteTensor.allocation_type: constant */
enum { kTfLiteAffineQuantization = 1 }; /* TfLiteQuantization.type */
enum { kTfLiteDelegateFlagsAllowDynamicTensors = 1 };
enum { kTfLitePaddingSame = 1, kTfLitePaddingValid = 2 };
enum { kTfLiteActNone = 0, kTfLiteActRelu = 1, kTfLiteActReluN1To1 = 2, kTfLiteActRelu6 = 3 };

/* BuiltinOperator numbers of the schema. */
enum {
    kTfLiteBuiltinAdd = 0,
    kTfLiteBuiltinConv2d = 3,
    kTfLiteBuiltinDepthwiseConv2d = 4,
    kTfLiteBuiltinFullyConnected = 9,
    kTfLiteBuiltinMaxPool2d = 17,
    kTfLiteBuiltinRelu = 19,
    kTfLiteBuiltinRelu6 = 21,
    kTfLiteBuiltinCustom = 32,
};

typedef struct {
    int size;
    int data[];
} TfLiteIntArray;

typedef struct {
    int size;
    float data[];
} TfLiteFloatArray;

typedef struct {
    float scale;
    int32_t zero_point;
} TfLiteQuantizationParams;

typedef struct {
    int type;
    void *params;
} TfLiteQuantization;

typedef struct {
    TfLiteFloatArray *scale;
    TfLiteIntArray *zero_point;
    int32_t quantized_dimension;
} TfLiteAffineQuantization;

typedef struct TfLiteTensor {
    int type;
    void *data;
    TfLiteIntArray *dims;
    TfLiteQuantizationParams params;
    int allocation_type;
    size_t bytes;
    const void *allocation;
    const char *name;
    void *delegate;
    int buffer_handle;
    bool data_is_stale;
    bool is_variable;
    TfLiteQuantization quantization;
    void *sparsity;
    const TfLiteIntArray *dims_signature;
} TfLiteTensor;

typedef struct TfLiteNode {
    TfLiteIntArray *inputs;
    TfLiteIntArray *outputs;
    TfLiteIntArray *intermediates;
    TfLiteIntArray *temporaries;
    void *user_data;
    void *builtin_data;
    const void *custom_initial_data;
    int custom_initial_data_size;
    void *delegate;
} TfLiteNode;

typedef struct TfLiteContext TfLiteContext;
typedef struct TfLiteDelegate TfLiteDelegate;

typedef struct {
    TfLiteDelegate *delegate;
    TfLiteIntArray *nodes_to_replace;
    TfLiteIntArray *input_tensors;
    TfLiteIntArray *output_tensors;
} TfLiteDelegateParams;

typedef struct TfLiteRegistration {
    void *(*init)(TfLiteContext *, const char *buffer, size_t length);
    void (*free)(TfLiteContext *, void *buffer);
    TfLiteStatus (*prepare)(TfLiteContext *, TfLiteNode *);
    TfLiteStatus (*invoke)(TfLiteContext *, TfLiteNode *);
    const char *(*profiling_string)(const TfLiteContext *, const TfLiteNode *);
    int32_t builtin_code;
    const char *custom_name;
    int version;
    void *unknown[16];
} TfLiteRegistration;

struct TfLiteContext {
    size_t tensors_size;
    TfLiteStatus (*GetExecutionPlan)(TfLiteContext *, TfLiteIntArray **);
    TfLiteTensor *tensors;
    void *impl_;
    /* Takes over `new_size`, which it releases with free(). */
    TfLiteStatus (*ResizeTensor)(TfLiteContext *, TfLiteTensor *, TfLiteIntArray *new_size);
    void (*ReportError)(TfLiteContext *, const char *format, ...);
    TfLiteStatus (*AddTensors)(TfLiteContext *, int, int *);
    TfLiteStatus (*GetNodeAndRegistration)(TfLiteContext *, int, TfLiteNode **,
                                           TfLiteRegistration **);
    TfLiteStatus (*ReplaceNodeSubsetsWithDelegateKernels)(TfLiteContext *, TfLiteRegistration,
                                                          const TfLiteIntArray *nodes,
                                                          TfLiteDelegate *);
    int recommended_num_threads;
};

struct TfLiteDelegate {
    void *data_;
    TfLiteStatus (*Prepare)(TfLiteContext *, TfLiteDelegate *);
    void *CopyFromBufferHandle;
    void *CopyToBufferHandle;
    void *FreeBufferHandle;
    int64_t flags;
    void *opaque_delegate_builder;
    void *unknown[8];
};

/* Prefixes of the builtin operators' options. */
typedef struct {
    int padding, stride_width, stride_height, activation, dilation_width, dilation_height;
} TfLiteConvParams;

typedef struct {
    int padding, stride_width, stride_height, depth_multiplier, activation, dilation_width,
        dilation_height;
} TfLiteDepthwiseConvParams;

typedef struct {
    int activation, weights_format;
    bool keep_num_dims;
} TfLiteFullyConnectedParams;

typedef struct {
    int padding, stride_width, stride_height, filter_width, filter_height, activation;
} TfLitePoolParams;

typedef struct {
    int activation;
} TfLiteAddParams;

#ifdef __cplusplus
}
#endif
#endif
