/* Preparing a layer for the planar kernels, and the choice among them. */
#include "ec2t_planar.h"

#include <string.h>

enum {
    BAND_BYTES = 32768, /* of lowered activations: a first-level cache */
    TILE = 64,          /* fewer outputs than this in a band waste lanes */
    SLACK = 128,        /* elements a tile may read beyond the last plane */
};

const ec2t_planar_kernel *ec2t_planar_kernels(size_t *count) {
#define ENTRY(how, element, whole)                                                                 \
    {#how, sizeof(element), whole, ec2t_has__##how, ec2t_conv2d_s8_planar__##how},
    static const ec2t_planar_kernel kernels[] = {EC2T_CONV2D_PLANAR_KERNELS(ENTRY)};
#undef ENTRY
    *count = sizeof kernels / sizeof kernels[0];
    return kernels;
}

const ec2t_planar_kernel *ec2t_planar_best_kernel(void) {
    size_t count;
    const ec2t_planar_kernel *const kernels = ec2t_planar_kernels(&count);
    while (count > 1 && !kernels[count - 1].is_supported()) {
        count -= 1;
    }
    return &kernels[count - 1];
}

static size_t channels_size(const ec2t_layer *layer) {
    return (size_t)layer->output_channels * sizeof(ec2t_planar_channel);
}

static size_t tap_list_size(const ec2t_layer *layer) {
    return ((size_t)layer->taps + 1) / 2 * 4;
}

size_t ec2t_planar_conv2d_get_init_buffer_size(const ec2t_layer *layer) {
    return tap_list_size(layer) + ec2t_decoder_get_buffer_size(layer);
}

/* Groups the kernel's rows by their remainder by the stride, and sets how far each reaches. */
static void group_rows(ec2t_planar_conv2d *conv) {
    const ec2t_conv2d_shape *const shape = &conv->shape;
    conv->row_groups = 0;
    for (int32_t ky = 0; ky < shape->kernel_height; ++ky) {
        const int32_t reach = ky * shape->dilation_height;
        const int32_t phase = reach % shape->stride_height;
        int32_t g = 0;
        while (g < conv->row_groups && conv->rows[g].phase != phase) {
            g += 1;
        }
        conv->rows[g].phase = phase;
        conv->rows[g].halo_rows = reach / shape->stride_height; /* grows with ky */
        if (g == conv->row_groups) {
            conv->row_groups += 1;
        }
    }
}

/* Places the row groups one after the other for bands of `band_rows`; returns rows of a plane. */
static int32_t place_rows(ec2t_planar_conv2d *conv, int32_t band_rows) {
    int32_t row = 0;
    for (int32_t g = 0; g < conv->row_groups; ++g) {
        conv->rows[g].first_row = row;
        row += band_rows + conv->rows[g].halo_rows;
    }
    return row;
}

/* Lowered planes of one group. */
static uint64_t group_planes(const ec2t_planar_conv2d *conv) {
    return (uint64_t)(conv->shape.input_channels / conv->shape.groups) *
           (uint64_t)conv->shape.kernel_width;
}

static uint64_t group_bytes(const ec2t_planar_conv2d *conv, int32_t plane_rows) {
    return group_planes(conv) * (uint64_t)plane_rows * (uint64_t)conv->shape.output_width *
           conv->kernel->element_size;
}

/* As many rows as fit the cache, but at least a tile; then bands of equal height. */
static ec2t_status choose_band(ec2t_planar_conv2d *conv) {
    const ec2t_conv2d_shape *const shape = &conv->shape;
    const int32_t height = shape->output_height, width = shape->output_width;
    const int32_t fewest = (TILE + width - 1) / width;
    int32_t rows = height;
    while (rows > fewest && group_bytes(conv, place_rows(conv, rows)) > BAND_BYTES) {
        rows = rows > 2 * fewest ? rows / 2 : rows - 1;
    }
    const int32_t bands = (height + rows - 1) / rows;
    conv->band_rows = (height + bands - 1) / bands;
    /* Lowering writes up to 15 elements beyond a plane. */
    const uint64_t plane = (uint64_t)place_rows(conv, conv->band_rows) * (uint64_t)width;
    const uint64_t padded = (plane + 30) / 16 * 16;
    const uint64_t elements = group_planes(conv) * padded;
    if (elements > INT32_MAX / 4) {
        return EC2T_ERROR_UNSUPPORTED;
    }
    conv->plane_size = (uint32_t)padded;
    conv->offset_size = elements <= 65536 ? 2 : 4;
    return EC2T_OK;
}

/* All that depends on the shape alone. */
static ec2t_status lay_out(ec2t_planar_conv2d *conv, const ec2t_planar_kernel *kernel,
                           const ec2t_conv2d_shape *shape) {
    if (shape->kernel_height > EC2T_PLANAR_LARGEST_KERNEL ||
        shape->kernel_width > EC2T_PLANAR_LARGEST_KERNEL) {
        return EC2T_ERROR_UNSUPPORTED;
    }
    memset(conv, 0, sizeof *conv);
    conv->kernel = kernel;
    conv->shape = *shape;
    group_rows(conv);
    return choose_band(conv);
}

static size_t needed_memory(const ec2t_planar_conv2d *conv, const ec2t_layer *layer) {
    return channels_size(layer) + conv->offset_size * (size_t)layer->nonzeros;
}

size_t ec2t_planar_conv2d_get_memory_size(const ec2t_planar_kernel *kernel, const ec2t_layer *layer,
                                          const ec2t_conv2d_shape *shape) {
    ec2t_planar_conv2d conv;
    return lay_out(&conv, kernel, shape) == EC2T_OK ? needed_memory(&conv, layer) : 0;
}

static uint32_t offset_of_tap(const ec2t_planar_conv2d *conv, uint32_t tap) {
    const ec2t_conv2d_shape *const shape = &conv->shape;
    const uint32_t inputs = (uint32_t)(shape->input_channels / shape->groups);
    const uint32_t width = (uint32_t)shape->kernel_width;
    const uint32_t i = tap % inputs, x = tap / inputs % width, y = tap / inputs / width;
    const int32_t reach = (int32_t)y * shape->dilation_height;
    int32_t g = 0;
    while (conv->rows[g].phase != reach % shape->stride_height) {
        g += 1;
    }
    const uint32_t row = (uint32_t)(conv->rows[g].first_row + reach / shape->stride_height);
    return (i * width + x) * conv->plane_size + row * (uint32_t)shape->output_width;
}

static void store_offset(const ec2t_planar_conv2d *conv, void *offsets, uint32_t index,
                         uint32_t tap) {
    const uint32_t offset = offset_of_tap(conv, tap);
    if (conv->offset_size == 2) {
        ((uint16_t *)offsets)[index] = (uint16_t)offset;
    } else {
        ((uint32_t *)offsets)[index] = offset;
    }
}

/* How the kernel may requantise a channel in FP32 mode, by the largest sum of any input: |sum| is
 * at most |bias| + 128 * (magnitudes of the weights). */
static void choose_requantisation(const ec2t_planar_conv2d *conv, ec2t_planar_channel *channel,
                                  int32_t o) {
    const ec2t_requant *const requant = &conv->requant;
    channel->multiplier = 0;
    channel->fits_int16 = 0;
    if (requant->mode != EC2T_REQUANT_FP32) {
        return;
    }
    const double plus = (double)channel->plus_count * (double)channel->value_plus;
    const double minus = (double)channel->minus_count * (double)channel->value_minus;
    const double weights = (plus < 0 ? -plus : plus) + (minus < 0 ? -minus : minus);
    const double bias = channel->bias < 0 ? -(double)channel->bias : (double)channel->bias;
    const double largest = bias + 128.0 * weights;
    const float factor = requant->factors[o * requant->channel_stride];
    if (conv->kernel->wants_multiplier) {
        channel->multiplier = ec2t_whole_multiplier(requant, factor, largest);
    }
    const double unit = channel->multiplier != 0 ? 1 << EC2T_WHOLE_FRACTION_BITS : 1.0;
    channel->fits_int16 = largest * (double)factor * unit < 32000.0;
}

static ec2t_status list_offsets(ec2t_planar_conv2d *conv, const ec2t_layer *layer,
                                ec2t_planar_channel *channels, void *offsets, void *scratch,
                                size_t scratch_size) {
    uint16_t *const taps = scratch;
    const size_t list_size = tap_list_size(layer);
    ec2t_decoder decoder;
    ec2t_status status = ec2t_decoder_init(&decoder, layer, (uint8_t *)scratch + list_size,
                                           scratch_size - list_size);
    uint32_t next = 0;
    for (int32_t o = 0; status == EC2T_OK && o < layer->output_channels; ++o) {
        ec2t_planar_channel *const channel = &channels[o];
        status = ec2t_decode_channel(&decoder, taps, &channel->plus_count, &channel->minus_count);
        if (status != EC2T_OK) {
            break;
        }
        const uint32_t plus = channel->plus_count, minus = channel->minus_count;
        /* The streams of one symbol each learn of too many non-zeros only at their end. */
        if (plus + minus > layer->nonzeros - next) {
            return EC2T_ERROR_STREAM;
        }
        channel->first = next;
        for (uint32_t i = 0; i < plus; ++i) {
            store_offset(conv, offsets, next + i, taps[i]);
        }
        for (uint32_t i = 0; i < minus; ++i) {
            store_offset(conv, offsets, next + plus + i, taps[(uint32_t)layer->taps - 1 - i]);
        }
        next += plus + minus;
        ec2t_layer_values(layer, o, &channel->value_plus, &channel->value_minus);
        const int32_t weight_sum =
            (int32_t)plus * channel->value_plus + (int32_t)minus * channel->value_minus;
        const uint32_t bias = layer->bias != NULL ? (uint32_t)layer->bias[o] : 0;
        channel->bias = (int32_t)(bias - (uint32_t)(weight_sum * layer->input_zero_point));
        choose_requantisation(conv, channel, o);
    }
    return status == EC2T_OK ? ec2t_decode_finish(&decoder) : status;
}

ec2t_status ec2t_planar_conv2d_init(ec2t_planar_conv2d *conv, const ec2t_planar_kernel *kernel,
                                    const ec2t_layer *layer, const ec2t_conv2d_shape *shape,
                                    const ec2t_requant *requant, void *memory, size_t memory_size,
                                    void *scratch, size_t scratch_size) {
    if (conv == NULL || kernel == NULL || layer == NULL || shape == NULL || requant == NULL ||
        memory == NULL || scratch == NULL) {
        return EC2T_ERROR_ARGUMENT;
    }
    if (requant->mode == EC2T_REQUANT_REAL) {
        return EC2T_ERROR_UNSUPPORTED;
    }
    if ((uintptr_t)memory % 4 != 0 || (uintptr_t)scratch % 4 != 0) {
        return EC2T_ERROR_UNALIGNED;
    }
    const ec2t_status status = lay_out(conv, kernel, shape);
    if (status != EC2T_OK) {
        return status;
    }
    if (memory_size < needed_memory(conv, layer) ||
        scratch_size < ec2t_planar_conv2d_get_init_buffer_size(layer)) {
        return EC2T_ERROR_BUFFER;
    }
    conv->requant = *requant;
    ec2t_planar_channel *const channels = memory;
    void *const offsets = (uint8_t *)memory + channels_size(layer);
    conv->channels = channels;
    conv->offsets = offsets;
    return list_offsets(conv, layer, channels, offsets, scratch, scratch_size);
}

size_t ec2t_planar_conv2d_get_buffer_size(const ec2t_planar_conv2d *conv) {
    const ec2t_conv2d_shape *const shape = &conv->shape;
    const size_t planes =
        (size_t)(shape->input_channels / shape->groups) * (size_t)shape->kernel_width;
    return (planes * conv->plane_size + SLACK) * conv->kernel->element_size;
}

ec2t_status ec2t_planar_conv2d_run(const ec2t_planar_conv2d *conv, const ec2t_planar_part *part,
                                   const int8_t *input, int8_t *output, void *scratch,
                                   size_t scratch_size) {
    if (conv == NULL || input == NULL || output == NULL || scratch == NULL) {
        return EC2T_ERROR_ARGUMENT;
    }
    if (scratch_size < ec2t_planar_conv2d_get_buffer_size(conv)) {
        return EC2T_ERROR_BUFFER;
    }
    if ((uintptr_t)scratch % 4 != 0) {
        return EC2T_ERROR_UNALIGNED;
    }
    const ec2t_planar_part all = {0, conv->shape.output_height, 0, conv->shape.output_channels};
    if (part == NULL) {
        part = &all;
    }
    if (part->row_begin < 0 || part->row_end > all.row_end || part->channel_begin < 0 ||
        part->channel_end > all.channel_end) {
        return EC2T_ERROR_ARGUMENT;
    }
    conv->kernel->run(conv, part, input, output, scratch);
    return EC2T_OK;
}

/* Blocks, so that both sides stay in the cache. */
static void transpose(int32_t rows, int32_t columns, const int8_t *input, int8_t *output) {
    enum { BLOCK = 16 };
    for (int32_t y0 = 0; y0 < rows; y0 += BLOCK) {
        const int32_t y1 = rows - y0 < BLOCK ? rows : y0 + BLOCK;
        for (int32_t x = 0; x < columns; ++x) {
            int8_t *const to = output + (size_t)x * (size_t)rows;
            const int8_t *const from = input + x;
            for (int32_t y = y0; y < y1; ++y) {
                to[y] = from[(size_t)y * (size_t)columns];
            }
        }
    }
}

void ec2t_nhwc_to_planar(int32_t pixels, int32_t channels, const int8_t *input, int8_t *output) {
    transpose(pixels, channels, input, output);
}

void ec2t_planar_to_nhwc(int32_t pixels, int32_t channels, const int8_t *input, int8_t *output) {
    transpose(channels, pixels, input, output);
}
