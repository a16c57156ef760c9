/* The EC2T.* operators of a packed .tflite file for TensorFlow Lite Micro: everything that does not
 * depend on TFLM's headers. adapter.cc wraps it for TFLM. */
#ifndef EC2T_TFLM_H
#define EC2T_TFLM_H
#include "ec2t_reference.h"
#include "ec2t_requant.h"

#ifdef __cplusplus
extern "C" {
#endif

/* One operator. Private. */
typedef struct {
    ec2t_layer layer;
    ec2t_conv2d_shape shape;
    ec2t_requant requant;
    uint16_t *taps;
    void *decoder_scratch;
} ec2t_tflm_node;

/* Checks a blob against its checksum, its header and the shapes of the activations around it.
 * `input` and `output` are dimensions, batch first: [1, height, width, channels] for convolutions,
 * [1, ...] with as many elements as the layer has inputs or outputs otherwise. The blob stays in
 * use. */
ec2t_status ec2t_tflm_prepare(ec2t_tflm_node *node, const void *blob, size_t blob_size,
                              const int32_t *input, int32_t input_rank, const int32_t *output,
                              int32_t output_rank);

/* Bytes ec2t_tflm_attach needs, to be kept as long as the node, on an 8-byte boundary. */
size_t ec2t_tflm_get_buffer_size(const ec2t_tflm_node *node);
ec2t_status ec2t_tflm_attach(ec2t_tflm_node *node, void *buffer, size_t size);

/* Runs the operator: NHWC int8 in and out. */
ec2t_status ec2t_tflm_invoke(const ec2t_tflm_node *node, const int8_t *input, int8_t *output);

#ifdef __cplusplus
}
#endif
#endif
