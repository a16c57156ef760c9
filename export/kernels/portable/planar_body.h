/* Private: what all planar kernels have in common, included once per kernel.
 *
 * The including file defines
 *   PLANAR_KERNEL          `how` of the kernel's name
 *   planar_element         type of a lowered activation: int8_t or int16_t
 *   PLANAR_TARGET          function attributes, or nothing
 *   PLANAR_TILE            most outputs of one tile, a multiple of 16, at most 128
 *   PLANAR_GRAIN           tiles are multiples of this
 *   planar_tiles(conv, first, last, base, size, count, output, pitch)
 *                          outputs of channels [first, last) at `count` times `size` places, all of
 *                          them written; `output` is the first channel's, `pitch` leads to the next
 *   planar_fill(to, value, count)           may write up to 15 elements more
 *   planar_copy_blocks(to, from, blocks)    blocks of 16 elements
 *   planar_copy(to, from, count)            widening copy of exactly `count`
 *   planar_copy_masked(to, from, blocks, masks, mask_count, zero)
 *                          blocks of 16 elements, `zero` where a mask byte is -1 (else it is 0);
 *                          block b has mask b % mask_count
 *   planar_copy_alternate(to, from, rows, count, room, to_pitch, from_pitch, end)
 *                          rows of `count`, every other element of `from`; may write up to `room`
 *                          elements of a row, must read nothing at `end` or beyond
 */
#include <string.h>

#include "ec2t_planar.h"

#define PLANAR_JOIN_(a, b) a##b
#define PLANAR_JOIN(a, b) PLANAR_JOIN_(a, b)

enum { PLANAR_BLOCK = 16, PLANAR_MOST_MASKS = 16, PLANAR_MOST_COLUMNS = 8 };

typedef struct {
    const ec2t_planar_conv2d *conv;
    const int8_t *input, *input_end; /* the whole image: nothing outside may be read */
    planar_element *scratch;
    planar_element zero;
    int32_t first_channel;   /* of the group */
    int32_t row_begin, rows; /* output rows of the band */
} planar_band;

static planar_element *planar_plane(const planar_band *band, int32_t channel, int32_t kx) {
    return band->scratch +
           (size_t)(channel * band->conv->shape.kernel_width + kx) * (size_t)band->conv->plane_size;
}

static void planar_fill_column(planar_element *to, planar_element value, int32_t rows,
                               int32_t pitch) {
    for (; rows > 0; --rows, to += pitch) {
        *to = value;
    }
}

/* Rows [*first, *last) of a row group that lie inside the image. */
static void planar_rows_inside(const planar_band *band, const ec2t_planar_rows *rows, int32_t count,
                               int32_t *first, int32_t *last) {
    const ec2t_conv2d_shape *const shape = &band->conv->shape;
    const int32_t start = band->row_begin * shape->stride_height + rows->phase - shape->pad_top;
    const int32_t stride = shape->stride_height;
    int32_t low = start < 0 ? (-start + stride - 1) / stride : 0;
    int32_t high =
        start < shape->input_height ? (shape->input_height - start + stride - 1) / stride : 0;
    high = high > count ? count : high;
    low = low > high ? high : low;
    *first = low;
    *last = high;
}

/* One plane of planar_lower_shifted that touches an end of the image, where whole blocks would read
 * outside it: the elements there one by one. */
PLANAR_TARGET __attribute__((noinline)) static void
planar_copy_at_ends(const planar_band *band, planar_element *to, const int8_t *from, int32_t size,
                    const int8_t *masks, int32_t mask_count) {
    const ptrdiff_t before = band->input - from, left = band->input_end - from;
    int32_t head = before > 0 ? (int32_t)((before + PLANAR_BLOCK - 1) / PLANAR_BLOCK) : 0;
    int32_t tail = (int32_t)(left < size ? left : size) / PLANAR_BLOCK;
    const int32_t all = size / PLANAR_BLOCK;
    /* Whole blocks start where the masks do. */
    head = (head + mask_count - 1) / mask_count * mask_count;
    head = head < all ? head : all;
    tail = tail > head ? tail : head;
    planar_copy_masked(to + head * PLANAR_BLOCK, from + head * PLANAR_BLOCK, tail - head, masks,
                       mask_count, band->zero);
    for (int32_t i = 0; i < size; ++i) {
        i = i == head * PLANAR_BLOCK ? tail * PLANAR_BLOCK : i;
        if (i < size) {
            to[i] = masks[i % (mask_count * PLANAR_BLOCK)] ? band->zero : from[i];
        }
    }
}

/* Stride 1 and as many columns out as in: a lowered plane is the input plane, shifted, with the
 * columns that wrapped around set to the zero point. `masks` repeats along the plane. */
PLANAR_TARGET static void planar_lower_shifted(const planar_band *band, int32_t kx,
                                               const int8_t *masks, int32_t mask_count) {
    const ec2t_conv2d_shape *const shape = &band->conv->shape;
    const int32_t width = shape->input_width;
    const int32_t shift = kx * shape->dilation_width - shape->pad_left;
    const ec2t_planar_rows *const rows = &band->conv->rows[0];
    const int32_t count = band->rows + rows->halo_rows;
    int32_t first, last;
    planar_rows_inside(band, rows, count, &first, &last);
    const int32_t top = first * width, size = (last - first) * width;
    const int32_t bottom = (count - last) * width;
    /* The last block may be more than is needed: planes have room for it. */
    const int32_t blocks = (size + PLANAR_BLOCK - 1) / PLANAR_BLOCK;
    const int32_t reach = blocks * PLANAR_BLOCK;
    const size_t plane = (size_t)shape->input_height * (size_t)width;
    const size_t step = (size_t)shape->kernel_width * band->conv->plane_size;
    const int8_t *from = band->input + (size_t)band->first_channel * plane +
                         (ptrdiff_t)(band->row_begin + first - shape->pad_top) * width + shift;
    planar_element *to = planar_plane(band, 0, kx);
    const int32_t inputs = shape->input_channels / shape->groups;
    /* Copies: the compiler must take the stores below for writes to the band itself. */
    const planar_element zero = band->zero;
    const int8_t *const input = band->input, *const input_end = band->input_end;
    for (int32_t channel = 0; channel < inputs; ++channel, from += plane, to += step) {
        planar_element *const start = to + top;
        planar_fill(to, zero, top);
        if (from < input || from + reach > input_end) {
            planar_copy_at_ends(band, start, from, size, masks, mask_count);
        } else if (shift == 0) {
            planar_copy_blocks(start, from, blocks);
        } else {
            planar_copy_masked(start, from, blocks, masks, mask_count, zero);
        }
        planar_fill(start + size, zero, bottom);
    }
}

PLANAR_TARGET static void planar_copy_rows(const planar_band *band, planar_element *to,
                                           const int8_t *from, int32_t rows, int32_t count,
                                           int32_t room, int32_t pitch) {
    const int32_t width = band->conv->shape.output_width, stride = band->conv->shape.stride_width;
    if (stride == 2) {
        planar_copy_alternate(to, from, rows, count, room, width, pitch, band->input_end);
        return;
    }
    for (int32_t j = 0; j < rows; ++j) {
        if (stride == 1) {
            planar_copy(to, from, count);
        } else {
            for (int32_t x = 0; x < count; ++x) {
                to[x] = from[(size_t)x * (size_t)stride];
            }
        }
        to += width;
        from += pitch;
    }
}

/* Any stride and width: row by row. */
PLANAR_TARGET static void planar_lower_rows(const planar_band *band, int32_t kx) {
    const ec2t_conv2d_shape *const shape = &band->conv->shape;
    const int32_t stride = shape->stride_width, width = shape->output_width;
    const int32_t shift = kx * shape->dilation_width - shape->pad_left;
    /* Output columns [x0, x1) read inside the image. */
    int32_t x0 = shift < 0 ? (-shift + stride - 1) / stride : 0;
    int32_t x1 =
        shift < shape->input_width ? (shape->input_width - shift + stride - 1) / stride : 0;
    x1 = x1 > width ? width : x1;
    x0 = x0 > x1 ? x1 : x0;
    const size_t plane = (size_t)shape->input_height * (size_t)shape->input_width;
    const size_t step = (size_t)shape->kernel_width * band->conv->plane_size;
    const int32_t inputs = shape->input_channels / shape->groups;
    const int32_t pitch = shape->stride_height * shape->input_width;
    const planar_element zero = band->zero; /* a copy: stores could change the band's */
    for (int32_t g = 0; g < band->conv->row_groups; ++g) {
        const ec2t_planar_rows *const rows = &band->conv->rows[g];
        const int32_t count = band->rows + rows->halo_rows;
        int32_t first, last;
        planar_rows_inside(band, rows, count, &first, &last);
        const int32_t in_row =
            (band->row_begin + first) * shape->stride_height + rows->phase - shape->pad_top;
        const int8_t *from = band->input + (size_t)band->first_channel * plane +
                             (ptrdiff_t)in_row * shape->input_width + (ptrdiff_t)x0 * stride +
                             shift;
        planar_element *to = planar_plane(band, 0, kx) + rows->first_row * width;
        for (int32_t channel = 0; channel < inputs; ++channel, from += plane, to += step) {
            planar_element *row = to + first * width;
            planar_fill(to, zero, first * width);
            planar_copy_rows(band, row + x0, from, last - first, x1 - x0, width - x0, pitch);
            for (int32_t x = 0; x < x0; ++x) {
                planar_fill_column(row + x, zero, last - first, width);
            }
            for (int32_t x = x1; x < width; ++x) {
                planar_fill_column(row + x, zero, last - first, width);
            }
            planar_fill(to + last * width, zero, (count - last) * width);
        }
    }
}

static int32_t planar_gcd(int32_t a, int32_t b) {
    while (b != 0) {
        const int32_t rest = a % b;
        a = b;
        b = rest;
    }
    return a;
}

/* How planar_lower_shifted can serve a layer: the masks of each kernel column, or none. */
typedef struct {
    int32_t count; /* masks a column has; 0: the layer is lowered row by row */
    int8_t masks[PLANAR_MOST_COLUMNS][PLANAR_MOST_MASKS * PLANAR_BLOCK];
} planar_masks;

static void planar_make_masks(const ec2t_conv2d_shape *shape, planar_masks *masks) {
    const int32_t width = shape->output_width;
    masks->count = width / planar_gcd(PLANAR_BLOCK, width);
    if (shape->stride_height != 1 || shape->stride_width != 1 || width != shape->input_width ||
        masks->count > PLANAR_MOST_MASKS || shape->kernel_width > PLANAR_MOST_COLUMNS) {
        masks->count = 0;
        return;
    }
    for (int32_t kx = 0; kx < shape->kernel_width; ++kx) {
        const int32_t shift = kx * shape->dilation_width - shape->pad_left;
        int32_t x = 0;
        for (int32_t i = 0; i < masks->count * PLANAR_BLOCK; ++i) {
            masks->masks[kx][i] = x + shift < 0 || x + shift >= width ? -1 : 0;
            x = x + 1 == width ? 0 : x + 1;
        }
    }
}

PLANAR_TARGET static void planar_lower(const planar_band *band, const planar_masks *masks) {
    for (int32_t kx = 0; kx < band->conv->shape.kernel_width; ++kx) {
        if (masks->count > 0) {
            planar_lower_shifted(band, kx, masks->masks[kx], masks->count);
        } else {
            planar_lower_rows(band, kx);
        }
    }
}

/* All outputs of some channels in a band. Tiles overlap rather than write beyond the band. */
PLANAR_TARGET static void planar_run_channels(const planar_band *band, int32_t first, int32_t last,
                                              int8_t *output, size_t pitch) {
    const ec2t_planar_conv2d *const conv = band->conv;
    const int32_t size = band->rows * conv->shape.output_width;
    const int32_t tiles = size / PLANAR_TILE;
    int32_t at = tiles * PLANAR_TILE;
    if (tiles > 0) {
        planar_tiles(conv, first, last, band->scratch, PLANAR_TILE, tiles, output, pitch);
    }
    if (at == size) {
        return;
    }
    const int32_t rest = (size - at + PLANAR_GRAIN - 1) / PLANAR_GRAIN * PLANAR_GRAIN;
    if (rest <= size) {
        at = size - rest;
        planar_tiles(conv, first, last, band->scratch + at, rest, 1, output + at, pitch);
        return;
    }
    for (int32_t o = first; o < last; ++o) {
        int8_t tile[PLANAR_TILE];
        planar_tiles(conv, o, o + 1, band->scratch, rest, 1, tile, 0);
        memcpy(output, tile, (size_t)size);
        output += pitch;
    }
}

PLANAR_TARGET void PLANAR_JOIN(ec2t_conv2d_s8_planar__,
                               PLANAR_KERNEL)(const ec2t_planar_conv2d *conv,
                                              const ec2t_planar_part *part, const int8_t *input,
                                              int8_t *output, void *scratch) {
    const ec2t_conv2d_shape *const shape = &conv->shape;
    const int32_t inputs = shape->input_channels / shape->groups;
    const int32_t outputs = shape->output_channels / shape->groups;
    const size_t out_plane = (size_t)shape->output_height * (size_t)shape->output_width;
    planar_band band = {
        .conv = conv,
        .input = input,
        .input_end = input + (size_t)shape->input_channels * (size_t)shape->input_height *
                                 (size_t)shape->input_width,
        .scratch = scratch,
        .zero = (planar_element)shape->input_zero_point,
    };
    planar_masks masks;
    planar_make_masks(shape, &masks);
    for (int32_t o = part->channel_begin; o < part->channel_end;) {
        const int32_t group = o / outputs;
        const int32_t group_end = (group + 1) * outputs;
        const int32_t end = part->channel_end < group_end ? part->channel_end : group_end;
        band.first_channel = group * inputs;
        for (int32_t row = part->row_begin; row < part->row_end; row += conv->band_rows) {
            const int32_t rest = part->row_end - row;
            band.row_begin = row;
            band.rows = rest < conv->band_rows ? rest : conv->band_rows;
            planar_lower(&band, &masks);
            planar_run_channels(&band, o, end,
                                output + (size_t)o * out_plane +
                                    (size_t)row * (size_t)shape->output_width,
                                out_plane);
        }
        o = end;
    }
}
