/* The layer blob (export/formats/FORMAT.md): a view on it, and decoders of its weights. */
#ifndef EC2T_LAYER_H
#define EC2T_LAYER_H

#include "ec2t_common.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum {
    EC2T_CONV_2D = 1,
    EC2T_DEPTHWISE_CONV_2D = 2,
    EC2T_FULLY_CONNECTED = 3,
} ec2t_operator;

typedef enum {
    EC2T_ENCODING_INT8 = 0,
    EC2T_ENCODING_TWO_BIT = 1,
    EC2T_ENCODING_FIVE_TRITS = 2,
    EC2T_ENCODING_BITMAP = 3,
    EC2T_ENCODING_GAP8 = 4,
    EC2T_ENCODING_RICE = 5,
    EC2T_ENCODING_RANGE = 6,
} ec2t_encoding;

typedef enum {
    EC2T_PADDING_VALID = 0,
    EC2T_PADDING_SAME = 1,
    EC2T_PADDING_EXPLICIT = 2,
} ec2t_padding;

/* A parsed blob. The pointers point into the blob, which must stay where it is. */
typedef struct {
    ec2t_operator op;
    ec2t_encoding encoding;
    int32_t output_channels, input_channels, groups;
    int32_t kernel_height, kernel_width;
    int32_t stride_height, stride_width;
    int32_t dilation_height, dilation_width;
    ec2t_padding padding;
    int32_t pad_top, pad_bottom, pad_left, pad_right; /* with EC2T_PADDING_EXPLICIT */
    int32_t input_zero_point, output_zero_point;
    int32_t output_min, output_max; /* the fused activation */
    int32_t taps;                   /* weights per output channel, at most 65535 */
    uint32_t nonzeros;              /* of the whole layer */

    int32_t value_plus, value_minus; /* what symbol +1 and -1 stand for, unless channel_values */
    const int8_t *channel_values;    /* pairs {plus, minus} per channel, or NULL */
    const uint8_t *flips;            /* bit per channel: values times -1, or NULL */
    const int32_t *bias;             /* per channel, or NULL */

    /* Requantisation: weight_scales (with input_scale, output_scale), or multipliers with shifts.
     */
    const float *weight_scales;
    float input_scale, output_scale;
    const int32_t *multipliers;
    const int8_t *shifts;
    int32_t requant_stride; /* 1: one entry per channel; 0: one entry for all */

    const uint8_t *stream;
    uint32_t stream_size;
    uint32_t stream_parameter;
} ec2t_layer;

/* Read the header and the sections of a blob, checking all of it but the checksum and the symbols.
 * `blob` must lie on a 4-byte boundary and hold exactly `size` bytes. */
ec2t_status ec2t_layer_parse(const void *blob, size_t size, ec2t_layer *layer);

/* zlib's CRC-32 of bytes. */
uint32_t ec2t_checksum(const uint8_t *bytes, size_t size);

/* Compare the checksum of a blob with its bytes. */
ec2t_status ec2t_layer_verify_checksum(const void *blob, size_t size);

/* What the tensors around a layer say: a compact blob has none of it. */
typedef struct {
    float input_scale, output_scale;
    int32_t input_zero_point, output_zero_point;
} ec2t_ends;

/* Bytes that expanding a compact blob needs: 0 if its beginning is not valid. */
size_t ec2t_compact_get_expanded_size(const void *compact, size_t size, const ec2t_ends *ends);

/* Expands a compact blob into a blob, without a checksum, for ec2t_layer_parse, which judges its
 * numbers. `blob_size`: of `blob`, at least the size above; then of what was written there. Takes
 * 8 KB of stack. */
ec2t_status ec2t_compact_expand(const void *compact, size_t size, const ec2t_ends *ends, void *blob,
                                size_t *blob_size);

/* What symbol +1 and symbol -1 stand for in one output channel. */
void ec2t_layer_values(const ec2t_layer *layer, int32_t channel, int32_t *plus, int32_t *minus);

/* Decodes a layer channel by channel: initialise, then ec2t_decode_channel once per output channel,
 * in order, then ec2t_decode_finish. The fields are private. */
typedef struct {
    const ec2t_layer *layer;
    int32_t channel;
    uint32_t position;   /* bytes, words or symbols consumed, by encoding */
    uint32_t bit;        /* bits consumed of the current word */
    uint32_t sign;       /* bitmap: signs consumed */
    uint32_t decoded;    /* non-zeros so far */
    uint32_t next_plus;  /* gaps: place of the next non-zero in the current channel, plus 1 */
    uint32_t next_minus; /* gaps: that non-zero is a minus */
    void *range;         /* range coder: its state, in the scratch */
} ec2t_decoder;

/* Bytes of scratch a decoder of this layer needs: 0 for all encodings but EC2T_ENCODING_RANGE. */
size_t ec2t_decoder_get_buffer_size(const ec2t_layer *layer);

/* `scratch` may be NULL if its size is 0; it must live as long as the decoder. */
ec2t_status ec2t_decoder_init(ec2t_decoder *decoder, const ec2t_layer *layer, void *scratch,
                              size_t scratch_size);

/* The taps of the next output channel. `taps` has room for layer->taps entries: those of symbol +1
 * are written from its front, ascending, those of symbol -1 from its end, so that the minus list is
 * taps[layer->taps - *minus_count] up to its end, descending. Not for EC2T_ENCODING_INT8. */
ec2t_status ec2t_decode_channel(ec2t_decoder *decoder, uint16_t *taps, uint32_t *plus_count,
                                uint32_t *minus_count);

/* After the last channel: checks that the stream holds nothing more. */
ec2t_status ec2t_decode_finish(const ec2t_decoder *decoder);

/* The whole layer as int8 weights [output channel][kernel y][kernel x][input], any encoding.
 * Scratch: a decoder's and a list of taps. */
size_t ec2t_decode_weights_get_buffer_size(const ec2t_layer *layer);
ec2t_status ec2t_decode_weights(const ec2t_layer *layer, int8_t *weights, void *scratch,
                                size_t scratch_size);

#ifdef __cplusplus
}
#endif
#endif
