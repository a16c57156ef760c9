/* An int8 convolution on Helium by dot products; not depthwise. Every sum within 30 bits, after a
 * left shift too; at least four output pixels a row (windows) or in all (patches). */
#ifndef EC2T_MCU_DOT_CONV_H
#define EC2T_MCU_DOT_CONV_H
#include "dot_tile.h"

/* Planes are copied into scratch with the bytes of one pixel side by side. Two kinds of copy:
 * windows: a pixel is one input pixel; the last `rows` input rows are kept, each in `chunks` of the
 *   channels; a tile reads a run of neighbouring pixels of every row and chunk.
 * patches: a pixel is everything one output pixel sees; `strip` output rows are kept, tiles run on
 *   from one row to the next. */
typedef struct {
    ec2t_mcu_planar in, out;
    const ec2t_mcu_dot_pair *pairs; /* the last of an odd number of channels comes twice */
    const int8_t *weights;          /* as the tile reads them, runs padded with zeros */
    const uint16_t *distances;      /* of a pixel's bytes in the input, each from the one before; of
                                     * every chunk's first from the first channel */
    uint32_t pair_bytes;            /* of the weights of two channels */
    uint32_t row_bytes;             /* from one row (of a chunk) in scratch to the next */
    uint16_t bytes;                 /* of a pixel (of a chunk) that are copied */
    uint16_t step;                  /* from one pixel to the next in scratch, a multiple of 4 */
    uint16_t columns;               /* pixels of a row in scratch */
    uint16_t row_step;              /* from one row in scratch to the next, in the input */
    uint8_t windows, rows, chunks, strip; /* at most EC2T_MCU_DOT_RUNS rows times chunks */
    uint8_t copy_stride;                  /* distance of neighbouring pixels in the input */
    uint8_t stride_y, stride_x;           /* of windows */
    ec2t_mcu_clamp clamp;
    ec2t_mcu_dot_tile tile;
} ec2t_mcu_dot_conv;
enum { EC2T_MCU_DOT_RUNS = 32 };

/* `scratch`, aligned to 4: windows: rows * chunks * row_bytes + 16 with row_bytes = step *
 * (columns, where they are 8 or more rounded up to 16); patches: step * ((strip - 1) * columns +
 * the same) + 16 bytes. */
void ec2t_mcu_dot_conv_run(const ec2t_mcu_dot_conv *layer, const uint8_t *input, uint8_t *output,
                           uint8_t *scratch);
#endif
