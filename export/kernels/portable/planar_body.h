/* Private: what all planar kernels have in common, included once per kernel.
 *
 * The including file defines
 *   PLANAR_KERNEL          `how` of the kernel's name
 *   planar_element         type of a lowered activation: int8_t or int16_t
 *   PLANAR_TARGET          function attributes, or nothing
 *   PLANAR_TILE            most outputs of one tile, a multiple of 16, at most 128
 *   PLANAR_GRAIN           tiles are multiples of this
 *   planar_tile(conv, channel, entry, base, size, output)
 *                          outputs of one channel at `size` places, all of them written
 *   planar_copy(to, from, count)            widening copy of exactly `count`
 *   planar_copy_masked(to, from, mask, zero)
 *                          16 elements, `zero` where mask (16 bytes of 0 or -1) is set
 *   planar_copy_alternate(to, from, count, end)
 *                          every other one; must read nothing at `end` or beyond
 */
#include <string.h>

#include "ec2t_planar.h"

#define PLANAR_JOIN_(a, b) a##b
#define PLANAR_JOIN(a, b) PLANAR_JOIN_(a, b)

enum { PLANAR_BLOCK = 16, PLANAR_MOST_MASKS = 16 };

typedef struct {
    const ec2t_planar_conv2d *conv;
    const int8_t *input, *input_end; /* the whole image: nothing outside may be read */
    planar_element *scratch;
    planar_element zero;
    int32_t first_channel;   /* of the group */
    int32_t row_begin, rows; /* output rows of the band */
} planar_band;

PLANAR_TARGET static void planar_fill(planar_element *to, planar_element value, int32_t count) {
    if (sizeof(planar_element) == 1) {
        memset(to, (uint8_t)value, (size_t)count);
        return;
    }
    for (int32_t i = 0; i < count; ++i) {
        to[i] = value;
    }
}

static planar_element *planar_plane(const planar_band *band, int32_t channel, int32_t kx) {
    return band->scratch +
           (size_t)(channel * band->conv->shape.kernel_width + kx) * (size_t)band->conv->plane_size;
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

/* Stride 1 and as many columns out as in: a lowered plane is the input plane, shifted, with the
 * columns that wrapped around set to the zero point. `masks` repeats along the plane. */
PLANAR_TARGET static void planar_lower_shifted(const planar_band *band, int32_t channel, int32_t kx,
                                               const int8_t *masks, int32_t mask_count) {
    const ec2t_conv2d_shape *const shape = &band->conv->shape;
    const int32_t width = shape->input_width;
    const int32_t shift = kx * shape->dilation_width - shape->pad_left;
    const ec2t_planar_rows *const rows = &band->conv->rows[0];
    const int32_t count = band->rows + rows->halo_rows;
    int32_t first, last;
    planar_rows_inside(band, rows, count, &first, &last);
    planar_element *const to = planar_plane(band, channel, kx);
    planar_fill(to, band->zero, first * width);
    planar_fill(to + last * width, band->zero, (count - last) * width);
    const int32_t size = (last - first) * width;
    const int32_t in_row = band->row_begin + first - shape->pad_top;
    const int8_t *const plane = band->input + (size_t)(band->first_channel + channel) *
                                                  (size_t)shape->input_height * (size_t)width;
    const int8_t *const from = plane + (ptrdiff_t)in_row * width + shift;
    planar_element *const start = to + first * width;
    if (shift == 0) {
        planar_copy(start, from, size);
        return;
    }
    /* Blocks that would read outside the image are done one by one, at most one at either end. */
    const ptrdiff_t before = band->input - from, left = band->input_end - from;
    int32_t mask = 0, at = 0;
    for (; at + PLANAR_BLOCK <= size; at += PLANAR_BLOCK) {
        if (at >= before && at + PLANAR_BLOCK <= left) {
            planar_copy_masked(start + at, from + at, masks + mask * PLANAR_BLOCK, band->zero);
        } else {
            for (int32_t i = 0; i < PLANAR_BLOCK; ++i) {
                start[at + i] = masks[mask * PLANAR_BLOCK + i] ? band->zero : from[at + i];
            }
        }
        mask = mask + 1 == mask_count ? 0 : mask + 1;
    }
    for (int32_t i = 0; at + i < size; ++i) {
        start[at + i] = masks[mask * PLANAR_BLOCK + i] ? band->zero : from[at + i];
    }
}

/* Any stride and width: row by row. */
PLANAR_TARGET static void planar_lower_rows(const planar_band *band, int32_t channel, int32_t kx) {
    const ec2t_conv2d_shape *const shape = &band->conv->shape;
    const int32_t stride = shape->stride_width, width = shape->output_width;
    const int32_t shift = kx * shape->dilation_width - shape->pad_left;
    /* Output columns [x0, x1) read inside the image. */
    int32_t x0 = shift < 0 ? (-shift + stride - 1) / stride : 0;
    int32_t x1 =
        shift < shape->input_width ? (shape->input_width - shift + stride - 1) / stride : 0;
    x1 = x1 > width ? width : x1;
    x0 = x0 > x1 ? x1 : x0;
    const int8_t *const plane = band->input + (size_t)(band->first_channel + channel) *
                                                  (size_t)shape->input_height *
                                                  (size_t)shape->input_width;
    for (int32_t g = 0; g < band->conv->row_groups; ++g) {
        const ec2t_planar_rows *const rows = &band->conv->rows[g];
        const int32_t count = band->rows + rows->halo_rows;
        int32_t first, last;
        planar_rows_inside(band, rows, count, &first, &last);
        planar_element *to = planar_plane(band, channel, kx) + rows->first_row * width;
        planar_fill(to, band->zero, first * width);
        planar_fill(to + last * width, band->zero, (count - last) * width);
        to += first * width;
        int32_t in_row =
            (band->row_begin + first) * shape->stride_height + rows->phase - shape->pad_top;
        for (int32_t j = first; j < last; ++j) {
            const int8_t *const from = plane + (size_t)in_row * (size_t)shape->input_width +
                                       (ptrdiff_t)x0 * stride + shift;
            for (int32_t x = 0; x < x0; ++x) {
                to[x] = band->zero;
            }
            if (stride == 1) {
                planar_copy(to + x0, from, x1 - x0);
            } else if (stride == 2) {
                planar_copy_alternate(to + x0, from, x1 - x0, band->input_end);
            } else {
                for (int32_t x = 0; x < x1 - x0; ++x) {
                    to[x0 + x] = from[(size_t)x * (size_t)stride];
                }
            }
            for (int32_t x = x1; x < width; ++x) {
                to[x] = band->zero;
            }
            to += width;
            in_row += shape->stride_height;
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

PLANAR_TARGET static void planar_lower(const planar_band *band) {
    const ec2t_conv2d_shape *const shape = &band->conv->shape;
    const int32_t inputs = shape->input_channels / shape->groups, width = shape->output_width;
    const int32_t mask_count = width / planar_gcd(PLANAR_BLOCK, width);
    const int shifted = shape->stride_height == 1 && shape->stride_width == 1 &&
                        width == shape->input_width && mask_count <= PLANAR_MOST_MASKS;
    for (int32_t kx = 0; kx < shape->kernel_width; ++kx) {
        int8_t masks[PLANAR_MOST_MASKS * PLANAR_BLOCK];
        const int32_t shift = kx * shape->dilation_width - shape->pad_left;
        if (shifted && shift != 0) {
            int32_t x = 0;
            for (int32_t i = 0; i < mask_count * PLANAR_BLOCK; ++i) {
                masks[i] = x + shift < 0 || x + shift >= width ? -1 : 0;
                x = x + 1 == width ? 0 : x + 1;
            }
        }
        for (int32_t channel = 0; channel < inputs; ++channel) {
            if (shifted) {
                planar_lower_shifted(band, channel, kx, masks, mask_count);
            } else {
                planar_lower_rows(band, channel, kx);
            }
        }
    }
}

/* All outputs of one channel in a band. Tiles overlap rather than write beyond the band. */
PLANAR_TARGET static void planar_run_channel(const planar_band *band, int32_t o, int8_t *output) {
    const ec2t_planar_conv2d *const conv = band->conv;
    const ec2t_planar_channel *const channel = &conv->channels[o];
    const int32_t entry = o * conv->requant.channel_stride;
    const int32_t size = band->rows * conv->shape.output_width;
    int32_t at = 0;
    for (; at + PLANAR_TILE <= size; at += PLANAR_TILE) {
        planar_tile(conv, channel, entry, band->scratch + at, PLANAR_TILE, output + at);
    }
    if (at == size) {
        return;
    }
    const int32_t rest = (size - at + PLANAR_GRAIN - 1) / PLANAR_GRAIN * PLANAR_GRAIN;
    if (rest <= size) {
        at = size - rest;
        planar_tile(conv, channel, entry, band->scratch + at, rest, output + at);
    } else {
        int8_t tile[PLANAR_TILE];
        planar_tile(conv, channel, entry, band->scratch + at, rest, tile);
        memcpy(output + at, tile, (size_t)(size - at));
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
    for (int32_t o = part->channel_begin; o < part->channel_end;) {
        const int32_t group = o / outputs;
        const int32_t group_end = (group + 1) * outputs;
        const int32_t end = part->channel_end < group_end ? part->channel_end : group_end;
        band.first_channel = group * inputs;
        for (int32_t row = part->row_begin; row < part->row_end; row += conv->band_rows) {
            const int32_t rest = part->row_end - row;
            band.row_begin = row;
            band.rows = rest < conv->band_rows ? rest : conv->band_rows;
            planar_lower(&band);
            for (int32_t channel = o; channel < end; ++channel) {
                planar_run_channel(&band, channel,
                                   output + (size_t)channel * out_plane +
                                       (size_t)row * (size_t)shape->output_width);
            }
        }
        o = end;
    }
}
