/* Kernels for microcontrollers: int8 activations in planes (one a channel), ternary weights as
 * lists.
 *
 * A plane holds `height` rows of `pitch` bytes. The bytes behind a row and the rows behind a plane
 * hold the zero point where a convolution that follows reads beyond the border; they are shared:
 * the bytes right of one row are the bytes left of the next. Pointers to activations point at row
 * 0, column 0 of channel 0.
 *
 * Cores without SIMD instructions keep activations as value + 128 (EC2T_MCU_FLIP), because their
 * register-wide additions need unsigned lanes. Nothing outside the kernels sees it. */
#ifndef EC2T_MCU_PLANAR_H
#define EC2T_MCU_PLANAR_H
#include <stddef.h>
#include <stdint.h>

#if defined(EC2T_MCU_CORE_SWAR)
#define EC2T_MCU_SWAR 1
#elif defined(__ARM_FEATURE_MVE) && !defined(EC2T_MCU_CORE_DSP)
#define EC2T_MCU_HELIUM 1
#elif defined(__ARM_FEATURE_DSP) && defined(__thumb__)
#define EC2T_MCU_DSP 1
#else
#define EC2T_MCU_SWAR 1
#endif

#if defined(EC2T_MCU_SWAR)
#define EC2T_MCU_FLIP 0x80u
#else
#define EC2T_MCU_FLIP 0u
#endif

/* Arm cores that load words from multiples of four only. */
#if defined(__arm__) && !defined(__ARM_FEATURE_UNALIGNED)
#define EC2T_MCU_ALIGNED 1
#endif

/* RISC-V cores, but for those that the core "rv32_unaligned" or the compiler says load words from
 * any address. Code for the core "rv32" (EC2T_MCU_BY_PLACE) has lists by place: list_places.h. */
#if defined(__riscv_misaligned_fast) && !defined(EC2T_MCU_RISCV_UNALIGNED) &&                      \
    !defined(EC2T_MCU_BY_PLACE)
#define EC2T_MCU_RISCV_UNALIGNED 1
#elif defined(__riscv) && !defined(EC2T_MCU_RISCV_UNALIGNED)
#define EC2T_MCU_RISCV_ALIGNED 1
#endif

typedef enum {
    EC2T_MCU_OK = 0,
    EC2T_MCU_CORRUPT = 1, /* a weight stream that points outside its layer */
    EC2T_MCU_PLACE = 2    /* a row that an embedding's table does not have */
} ec2t_mcu_status;

/* Shape and layout of one activation tensor. Sizes in bytes. */
typedef struct {
    uint16_t channels, height, width, pitch;
    uint32_t plane; /* from one channel to the next; at least height * pitch */
    uint16_t lead;  /* border bytes before row 0 of channel 0 */
    int8_t zero_point;
} ec2t_mcu_planar;

/* One output channel: sums are bias + plus * (sum of the inputs in the plus list) - minus * (...).
 * Shift and multiplier as TensorFlow Lite's quantised multiplier; see ec2t_mcu_fully_connected for
 * layers that round once. */
typedef struct {
    int32_t bias; /* with the input's zero point folded in */
    int32_t multiplier;
    uint16_t minus_count, plus_count; /* taps in the two lists */
    int8_t shift;
    uint8_t minus, plus;    /* magnitudes of the two values */
    uint8_t multiplier_low; /* layers that round once: eight more bits below the multiplier's */
} ec2t_mcu_channel;

/* The output channels of a layer: EC2T_MCU_CHANNELS_WHOLE, an ec2t_mcu_channel each, or a short
 * table of halfwords, of 32-bit numbers the lower half first: 4 * (multiplier - 2^30) + what the
 * shift is above `shift`; the bias, in 16 bits or 32; with lists (whose bias lacks the zero point)
 * minus_count + 256 * plus_count, + 0x8000 where the channel has the magnitudes the other way round
 * (`flips`). Fast tiles compute every channel of a short table: see `prepare` in list_conv.c. */
enum { EC2T_MCU_CHANNELS_WHOLE = 0, EC2T_MCU_CHANNELS_SHORT = 1 };
enum { EC2T_MCU_CHANNELS_LISTS = 2, EC2T_MCU_CHANNELS_WIDE_BIAS = 4 }; /* or-ed to SHORT */
typedef struct {
    const void *table;
    uint8_t form;
    int8_t shift;
    uint8_t minus, plus, flips; /* with lists: magnitudes of all channels */
} ec2t_mcu_channels;

typedef struct {
    int32_t zero_point, minimum, maximum; /* of the output */
} ec2t_mcu_clamp;

/* Pixels of a tile: four groups of neighbours in a row; where the groups lie is the layer's choice.
 */
#if defined(EC2T_MCU_HELIUM)
enum { EC2T_MCU_GROUP = 8 };
#else
enum { EC2T_MCU_GROUP = 4 };
#endif
enum { EC2T_MCU_TILE_PIXELS = 4 * EC2T_MCU_GROUP };

/* Adds value * (sum of the taps in a list) to the sums of one tile. A list holds byte distances,
 * each from the tap before, the first from `input`; by place all from `input`. At most
 * EC2T_MCU_LANE_TAPS taps a call. */
typedef void (*ec2t_mcu_tile_sums)(const uint8_t *input, const uint16_t *list, uint32_t count,
                                   int32_t value, int32_t *sums);
#if defined(EC2T_MCU_SWAR)
enum { EC2T_MCU_LANE_TAPS = 257 };
#else
enum { EC2T_MCU_LANE_TAPS = 255 };
#endif

#if defined(EC2T_MCU_BY_PLACE)
/* Of a list the taps of one place. */
typedef struct {
    const uint16_t *from, *end;
} ec2t_mcu_part;
enum { EC2T_MCU_PARTS = 7 }; /* four, and three of them again: any may be the first */
#endif

/* One channel for the fast tiles; lists and constants, see prepare in list_conv.c. */
typedef struct {
    const uint16_t *minus_list;
    uint32_t minus_count;
    const uint16_t *plus_list;
    uint32_t plus_count;
    int32_t bias; /* this and what follows: see prepare in list_conv.c */
    int32_t minus_scale, plus_scale, multiplier, rounding, right;
#if defined(EC2T_MCU_HELIUM)
    uint32_t tiles, in_step, out_step; /* of a row, and bytes between them */
#elif defined(EC2T_MCU_BY_PLACE)
    ec2t_mcu_part minus_parts[EC2T_MCU_PARTS], plus_parts[EC2T_MCU_PARTS];
#endif
} ec2t_mcu_fast;
/* The whole tile: sums, requantisation, stores to output + the layer's groups. On Helium all tiles
 * of a row. */
typedef void (*ec2t_mcu_tile_fast)(const uint8_t *input, const ec2t_mcu_fast *channel,
                                   uint8_t *output);

enum {
    EC2T_MCU_ENCODING_DISTANCES = 0,
    EC2T_MCU_ENCODING_RICE = 1,
    EC2T_MCU_ENCODING_GAPS = 2 /* a byte each; see ec2t_mcu_gap_list */
};

/* One list from gaps: per weight the number of taps from the one before, the first from tap 0; on
 * Helium the low byte of the weight's tap instead. Writes byte distances; `where` is the byte
 * offset of each of `taps` taps. `list` has room for `count` rounded up to 8. Returns 0 where a gap
 * leads outside. */
int ec2t_mcu_gap_list(const uint8_t *gaps, uint32_t count, const uint16_t *where, uint32_t taps,
                      uint16_t *list);
/* The same for lists by place: byte offsets, not distances. */
int ec2t_mcu_gap_offsets(const uint8_t *gaps, uint32_t count, const uint16_t *where, uint32_t taps,
                         uint16_t *list);

/* A convolution whose weights are lists. Tiles cover an output plane row by row, or the plane taken
 * as one long row; `taps` are the byte offsets of one channel's kernel positions. */
typedef struct {
    ec2t_mcu_planar in, out;
    ec2t_mcu_channels channels;
    const void *weights; /* uint16_t distances (on Helium each list ends at a multiple of four
                            bytes) or, by place, offsets; the bytes of a Rice stream and 4 more; or
                            gaps */
    const uint16_t *taps;
    uint16_t tap_count;
    uint16_t most; /* weights other than 0 of any channel: the room of a list in scratch */
    uint8_t encoding, rice_k;
    uint8_t depthwise;    /* output channels an input channel has; 0: an ordinary convolution */
    uint32_t stream_bits; /* length of a Rice stream */
    uint16_t tile_count, tiles_across; /* tiles down a plane and along a row */
    uint16_t in_row_step,
        in_tile_step; /* bytes between rows and tiles of the output, in the input */
    uint16_t out_row_step, out_tile_step;
    ec2t_mcu_clamp clamp;
    uint16_t out_group[4]; /* bytes from a tile's first pixel to each group, in the output */
    ec2t_mcu_tile_sums sums;
    ec2t_mcu_tile_fast fast;
    int (*gap_list)(const uint8_t *gaps, uint32_t count, const uint16_t *where, uint32_t taps,
                    uint16_t *list); /* ec2t_mcu_gap_list or _gap_offsets for gaps */
#if defined(EC2T_MCU_BY_PLACE)
    uint8_t by_place; /* the taps of a channel in the order of their offsets' place in a word: 0, 3,
                         2, 1; else in that of their offsets */
#endif
} ec2t_mcu_list_conv;

/* `scratch`: none for distances; else 2 bytes for every tap of a channel, and 4 * most + 4 for a
 * Rice stream or 2 * (most + 16) for gaps. */
ec2t_mcu_status ec2t_mcu_list_conv_run(const ec2t_mcu_list_conv *layer, const uint8_t *input,
                                       uint8_t *output, uint16_t *scratch);

/* Int8 convolutions on cores with DSP instructions, any kernel and stride. `taps`: byte offsets of
 * `runs` runs of four neighbours in a row, of 2 * `doubles` runs of three and of 2 * `pairs` single
 * taps. `stream` holds an entry for every two output channels, some for one alone: the sums to
 * start from (bias 0, bias 0 + 256 * bias 1), a word a step (two taps of both channels, see
 * panel_conv.c; a run has two steps, a double three, a pair one; at least two steps), then
 * multiplier, rounding (2^(right-1) + zero point * 2^right) and right shift of each channel. */
enum {
    EC2T_MCU_PANEL_PAIRS = 0, /* right shifts of 1 to 20, sums within 30 bits */
    EC2T_MCU_PANEL_ALONE = 1, /* one channel, twice */
    EC2T_MCU_PANEL_EXACT = 2, /* any sums and multipliers; in place of the right shift the shift */
};
typedef struct {
    uint16_t entries; /* 0 behind the last part */
    uint16_t kind;
} ec2t_mcu_panel_part;
typedef struct {
    ec2t_mcu_planar in, out;
    const uint32_t *stream;
    const uint16_t *taps;
    const ec2t_mcu_panel_part *parts;
    uint16_t runs, doubles, pairs;
    uint8_t stride_y, stride_x;
    ec2t_mcu_clamp clamp;
} ec2t_mcu_panel_conv;
/* `panel`: scratch, four words a step. */
void ec2t_mcu_panel_conv_run(const ec2t_mcu_panel_conv *layer, const uint8_t *input,
                             uint8_t *output, uint32_t *panel);

/* Int8 convolutions on the other cores, in tiles of dense_tile.h: weights [out][tap]. Helium:
 * `taps` are byte distances, each from the tap before. Others: `taps` are the byte offsets of
 * `runs` runs of neighbouring taps, and where activations are stored as value + 128
 * (EC2T_MCU_FLIP) the biases are less by 128 times the sum of the weights. */
typedef struct {
    const uint16_t *taps;
    const int8_t *weights;
    uint32_t count;
    int32_t bias, multiplier, zero_point, shift;
} ec2t_mcu_dense_fast;
typedef void (*ec2t_mcu_dense_tile)(const uint8_t *input, const ec2t_mcu_dense_fast *channel,
                                    uint8_t *output);
/* Adds to the sums of a tile; the array has eight whatever the tile. */
typedef void (*ec2t_mcu_dense_sums)(const uint8_t *input, const uint16_t *taps, uint32_t runs,
                                    const int8_t *weights, int32_t *sums);
typedef struct {
    ec2t_mcu_planar in, out;
    ec2t_mcu_channels channels;
    const int8_t *weights;
    const uint16_t *taps;
    uint16_t tap_count;
    uint8_t stride_x, depth_multiplier; /* depth_multiplier 0: an ordinary convolution */
    ec2t_mcu_clamp clamp;
    uint16_t in_row_step; /* bytes in the input from one row (of tiles) to the next */
#if defined(EC2T_MCU_HELIUM)
    uint16_t in_tile_step, out_row_step, out_tile_step;
    uint16_t tile_count, tiles_across;
    uint16_t in_group[4], out_group[4]; /* bytes from a tile's first pixel to each group */
    ec2t_mcu_dense_tile tile;
#else
    uint16_t runs;
    uint16_t rows, columns; /* that tiles cover: the output's, or one row, borders included */
    uint8_t pixels;         /* of a tile, at most 8 */
    ec2t_mcu_dense_sums sums;
#endif
} ec2t_mcu_tiled_conv;
void ec2t_mcu_tiled_conv_run(const ec2t_mcu_tiled_conv *layer, const uint8_t *input,
                             uint8_t *output);

/* Fully connected over a vector. Dense: int8 weights [out][in]. Lists: uint16_t indices.
 *
 * TensorFlow Lite's reference rounds the outputs of its fully connected layers once, after a
 * product in double precision; those of a convolution twice. With `rounds_once` the multiplier is
 * not TensorFlow Lite's: the exporter chooses it so that whole numbers give the same output for
 * every sum there can be. */
typedef struct {
    const ec2t_mcu_channel *channel;
    const void *weights;
    uint16_t inputs, outputs;
    uint8_t lists, rounds_once;
    ec2t_mcu_clamp clamp;
} ec2t_mcu_fully_connected;
void ec2t_mcu_fully_connected_run(const ec2t_mcu_fully_connected *layer, const uint8_t *input,
                                  uint8_t *output);
/* The same, dense, on Helium. */
void ec2t_mcu_rows_helium_run(const ec2t_mcu_fully_connected *layer, const uint8_t *input,
                              uint8_t *output);

/* The same, dense, on cores with DSP instructions: rows in groups of eight, then of two, the last
 * perhaps of one. `words`, for each group and four inputs: of every two rows a word for inputs 0
 * and 2, then of every two rows one for inputs 1 and 3; halves as in ec2t_mcu_panel_conv. Reads
 * `inputs`, rounded up to a multiple of 8, whose weights are 0. Sums without the bias of every
 * second row have 24 bits. */
typedef struct {
    const ec2t_mcu_channel *channel;
    const uint32_t *words;
    uint16_t inputs, outputs;
    uint8_t rounds_once;
    ec2t_mcu_clamp clamp;
} ec2t_mcu_paired_rows;
void ec2t_mcu_paired_rows_run(const ec2t_mcu_paired_rows *layer, const uint8_t *input,
                              uint8_t *output);

/* a + b, element by element, TensorFlow Lite's arithmetic (left shift 20). */
typedef struct {
    ec2t_mcu_planar a, b, out;
    int32_t zero_point_a, zero_point_b;
    int32_t multiplier_a, multiplier_b, multiplier_out;
    int8_t shift_a, shift_b, shift_out;
    ec2t_mcu_clamp clamp;
} ec2t_mcu_add;
/* `tables`: scratch for 512 int32. */
void ec2t_mcu_add_run(const ec2t_mcu_add *layer, const uint8_t *a, const uint8_t *b,
                      uint8_t *output, int32_t *tables);
/* The same on Helium; shifts of the inputs at most 0, of the output less. */
void ec2t_mcu_add_helium_run(const ec2t_mcu_add *layer, const uint8_t *a, const uint8_t *b,
                             uint8_t *output, int32_t *tables);

typedef struct {
    ec2t_mcu_planar in, out;
    uint8_t height, width, stride_y, stride_x, pad_y, pad_x, maximum;
    ec2t_mcu_clamp clamp;
} ec2t_mcu_pool;
void ec2t_mcu_pool_run(const ec2t_mcu_pool *layer, const uint8_t *input, uint8_t *output);
/* The same where no window goes beyond the input. */
void ec2t_mcu_pool_inside_run(const ec2t_mcu_pool *layer, const uint8_t *input, uint8_t *output);
/* That on cores with DSP instructions, horizontal stride 1 or 2; means of at most 255 values. */
void ec2t_mcu_pool_maxima_run(const ec2t_mcu_pool *layer, const uint8_t *input, uint8_t *output);
void ec2t_mcu_pool_means_run(const ec2t_mcu_pool *layer, const uint8_t *input, uint8_t *output);
/* On Helium. The mean of a window that does not cover the input is of at least 2 and at most 22
 * values. */
void ec2t_mcu_pool_helium_run(const ec2t_mcu_pool *layer, const uint8_t *input, uint8_t *output);

/* Mean over rows and columns. */
typedef struct {
    ec2t_mcu_planar in;
    int32_t bias, multiplier, shift;
    ec2t_mcu_clamp clamp;
} ec2t_mcu_mean;
void ec2t_mcu_mean_run(const ec2t_mcu_mean *layer, const uint8_t *input, uint8_t *output);
void ec2t_mcu_mean_helium_run(const ec2t_mcu_mean *layer, const uint8_t *input, uint8_t *output);

/* Over the channels of each pixel, border left alone; the output has scale 1/256 and zero point
 * -128. Fixed point, as TensorFlow Lite's reference. */
typedef struct {
    ec2t_mcu_planar in, out;
    const uint32_t
        *powers; /* exp(-d * input scale * beta) * 2^31 for the differences d = 0 to 255 */
} ec2t_mcu_softmax;
void ec2t_mcu_softmax_run(const ec2t_mcu_softmax *layer, const uint8_t *input, uint8_t *output);

/* The same of its logarithm; the output has scale 1/16 and zero point 127. */
typedef struct {
    ec2t_mcu_planar in, out;
    const uint32_t *powers;    /* exp(-d * input scale) * 2^19, 0 beyond `most` */
    const int32_t *scaled;     /* -d * input scale in 2^-26 */
    int32_t most;              /* greatest difference that counts */
    int32_t multiplier, shift; /* from 2^-26 to differences */
} ec2t_mcu_log_softmax;
void ec2t_mcu_log_softmax_run(const ec2t_mcu_log_softmax *layer, const uint8_t *input,
                              uint8_t *output);

/* One axis of a walk over tensors: elements, and bytes from one to the next in each tensor. */
typedef struct {
    uint32_t size;
    int32_t step[3];
} ec2t_mcu_axis;
enum { EC2T_MCU_AXES = 8 };

/* Copies elements; steps are those of input and output. */
typedef struct {
    const ec2t_mcu_axis *axes; /* the outermost first */
    uint32_t count;            /* 1 to EC2T_MCU_AXES */
    int32_t from, to;          /* where the first element is */
} ec2t_mcu_move;
void ec2t_mcu_move_run(const ec2t_mcu_move *move, const uint8_t *input, uint8_t *output);

/* Moves what a window holds by so many rows or else columns, and puts the new ones at its end. */
typedef struct {
    ec2t_mcu_planar in, window;
    uint16_t rows, columns;
} ec2t_mcu_slide;
void ec2t_mcu_slide_run(const ec2t_mcu_slide *layer, const uint8_t *input, uint8_t *window);

/* out[c][y][x] = in[c][rows[y]][columns[x]], border included. */
typedef struct {
    ec2t_mcu_planar in, out;
    const uint16_t *rows, *columns;
} ec2t_mcu_sample;
void ec2t_mcu_sample_run(const ec2t_mcu_sample *layer, const uint8_t *input, uint8_t *output);

/* Between two rows or columns: `part` 1024ths of the second. */
typedef struct {
    uint16_t first, second;
    int16_t part;
} ec2t_mcu_between;
typedef struct {
    ec2t_mcu_planar in, out;
    const ec2t_mcu_between *rows, *columns;
} ec2t_mcu_bilinear;
void ec2t_mcu_bilinear_run(const ec2t_mcu_bilinear *layer, const uint8_t *input, uint8_t *output);

/* Two operands element by element, in any layouts, either of them repeated along any axis. Steps
 * are those of a, b and the output. TensorFlow Lite's arithmetic of each operator. */
typedef struct {
    const ec2t_mcu_axis *axes;
    uint32_t count;
    int32_t zero_point_a, zero_point_b;
    int32_t multiplier_a, multiplier_b, multiplier_out;
    int32_t shift_a, shift_b, shift_out;
    ec2t_mcu_clamp clamp;
} ec2t_mcu_binary;
typedef void ec2t_mcu_binary_run(const ec2t_mcu_binary *layer, const uint8_t *a, const uint8_t *b,
                                 uint8_t *output);
ec2t_mcu_binary_run ec2t_mcu_sum_run, ec2t_mcu_difference_run, ec2t_mcu_product_run;
ec2t_mcu_binary_run ec2t_mcu_squared_difference_run, ec2t_mcu_maximum_run, ec2t_mcu_minimum_run;
ec2t_mcu_binary_run ec2t_mcu_prelu_run;

/* Sums of products along one axis of two tensors; steps are those of a, b and the output. */
typedef struct {
    const ec2t_mcu_axis *axes;
    uint32_t count, depth;
    int32_t step_a, step_b, zero_point_a, zero_point_b, multiplier, shift;
    ec2t_mcu_clamp clamp;
} ec2t_mcu_matmul;
void ec2t_mcu_matmul_run(const ec2t_mcu_matmul *layer, const uint8_t *a, const uint8_t *b,
                         uint8_t *output);

/* Sum (and mean), greatest or least along some axes. Steps: `outer` input and output, `inner`
 * input.
 */
enum { EC2T_MCU_REDUCE_SUM, EC2T_MCU_REDUCE_MAXIMUM, EC2T_MCU_REDUCE_MINIMUM };
typedef struct {
    const ec2t_mcu_axis *outer, *inner;
    uint32_t outer_count, inner_count;
    int32_t kind, bias, multiplier, shift;
    ec2t_mcu_clamp clamp;
} ec2t_mcu_reduce;
void ec2t_mcu_reduce_run(const ec2t_mcu_reduce *layer, const uint8_t *input, uint8_t *output);

/* Rows of a table; steps are bytes of the output, between places and between the values of a row.
 */
typedef struct {
    const int8_t *table;
    uint32_t rows, width, count;
    int32_t place_step, value_step;
} ec2t_mcu_embed;
ec2t_mcu_status ec2t_mcu_embed_run(const ec2t_mcu_embed *layer, const int32_t *places,
                                   uint8_t *output);

/* table[value + 128], element by element. */
void ec2t_mcu_lookup_run(const int8_t *table, const ec2t_mcu_planar *layout_in,
                         const uint8_t *input, const ec2t_mcu_planar *layout_out, uint8_t *output);

/* Copies planes to `output` at (row, column, channel); also padding and concatenation. */
void ec2t_mcu_place(const ec2t_mcu_planar *layout_in, const uint8_t *input,
                    const ec2t_mcu_planar *layout_out, uint8_t *output, uint32_t row,
                    uint32_t column, uint32_t channel);
/* Rows from `row` on, which may lie outside the input (zero points then), to a band, its columns
 * beginning at `column`; and a band back to `row`, as far as the output goes. */
void ec2t_mcu_band_in(const ec2t_mcu_planar *layout_in, const uint8_t *input,
                      const ec2t_mcu_planar *band, uint8_t *output, int32_t row, uint32_t column);
void ec2t_mcu_band_out(const ec2t_mcu_planar *band, const uint8_t *input,
                       const ec2t_mcu_planar *layout_out, uint8_t *output, int32_t row);
/* Fills every byte with a value, border included. */
void ec2t_mcu_fill(const ec2t_mcu_planar *layout, uint8_t *tensor, int32_t value);
/* Writes the zero point behind the rows and behind the plane of one channel. */
void ec2t_mcu_border(const ec2t_mcu_planar *layout, uint8_t *tensor, uint32_t channel);
/* Writes the zero point before row 0 of channel 0. */
void ec2t_mcu_lead(const ec2t_mcu_planar *layout, uint8_t *tensor);
/* One row and column: channels that lie back to back to their planes, in place, with borders. */
void ec2t_mcu_spread(const ec2t_mcu_planar *layout, uint8_t *tensor);
/* All of a tensor's border: before the first row, behind rows and behind planes. */
void ec2t_mcu_frame(const ec2t_mcu_planar *layout, uint8_t *tensor);
/* Rows, columns, channels (as TensorFlow Lite has them) to planes and back. */
void ec2t_mcu_from_nhwc(const int8_t *nhwc, const ec2t_mcu_planar *layout, uint8_t *tensor);
void ec2t_mcu_to_nhwc(const ec2t_mcu_planar *layout, const uint8_t *tensor, int8_t *nhwc);
/* The same of uint8 values, which are int8 ones and 128 more. */
void ec2t_mcu_from_nhwc_u8(const uint8_t *nhwc, const ec2t_mcu_planar *layout, uint8_t *tensor);
void ec2t_mcu_to_nhwc_u8(const ec2t_mcu_planar *layout, const uint8_t *tensor, uint8_t *nhwc);

/* TensorFlow Lite's MultiplyByQuantizedMultiplier with two roundings. */
static inline int32_t ec2t_mcu_requantise(int32_t value, int32_t multiplier, int32_t shift) {
    const uint32_t left = shift > 0 ? (uint32_t)shift : 0u;
    const uint32_t right = shift < 0 ? (uint32_t)-shift : 0u;
    const int64_t product = (int64_t)(int32_t)((uint32_t)value << left) * multiplier;
    const int32_t high = (int32_t)((product + (1 << 30)) >> 31);
    const int32_t mask = (int32_t)((1u << right) - 1u);
    return (high >> right) + ((high & mask) > (mask >> 1) + (high < 0));
}
static inline int32_t ec2t_mcu_clamped(int32_t value, const ec2t_mcu_clamp *clamp) {
    value += clamp->zero_point;
    if (value < clamp->minimum)
        value = clamp->minimum;
    if (value > clamp->maximum)
        value = clamp->maximum;
    return value;
}
static inline int32_t ec2t_mcu_value(uint8_t byte) {
    return (int8_t)(byte ^ EC2T_MCU_FLIP);
}
static inline uint8_t ec2t_mcu_byte(int32_t value) {
    return (uint8_t)((uint32_t)value ^ EC2T_MCU_FLIP);
}
#include "depthwise.h"
#include "recurrent.h"
#include "rows.h"
#endif
