/* Blobs of layers, with a few bytes twisted and the checksum right. */
#ifndef EC2T_FUZZ_BLOB_MAKER_H
#define EC2T_FUZZ_BLOB_MAKER_H

#include "ec2t_layer.h"
#include "graph_maker.h"

enum { MOST_WEIGHTS = 4096 };

/* What a layer is, ours or plain. */
typedef struct {
    int op, outputs, inputs, groups, kernel[2], stride[2], dilation[2], activation;
    bool is_same, has_bias, has_one_scale;
    int taps, count;
    int8_t weights[MOST_WEIGHTS]; /* [output][kernel y][kernel x][input of the group] */
} layer_plan;

/* Bytes growing at the end. */
typedef struct {
    uint8_t bytes[32768];
    size_t size;
} buffer;

/* The blob of a layer between two tensors. */
void make_blob(buffer *blob, const layer_plan *plan, const TfLiteTensor *input,
               const TfLiteTensor *output, decisions *from);

/* The compact blob of a layer; what it does not say, its tensors say. */
void make_compact_blob(buffer *blob, const layer_plan *plan, const TfLiteTensor *output,
                       decisions *from);

/* Two values a channel; false if it has more. */
bool channel_values(const layer_plan *plan, int8_t *values);

#endif
