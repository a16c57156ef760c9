/* Parser of the layer blob: export/formats/FORMAT.md, in the same order. */
#include <string.h>

#include "ec2t_layer.h"

enum {
    HEADER_SIZE = 80,
    FLAG_BIAS = 1,
    FLAG_CHANNEL_VALUES = 2,
    FLAG_SIGN_FLIPS = 4,
    FLAG_LAYER_REQUANTISATION = 8,
    LARGEST_CHANNELS = 1 << 20,
    LARGEST_EXTENT = 4095,
    LARGEST_TAPS = 65535,
    LARGEST_WEIGHTS = 1 << 28,
    FREE_WEIGHTS = 1 << 16,  /* what any blob may hold */
    WEIGHTS_PER_BYTE = 2048, /* and what it may hold on top, so that work follows from size */
    LARGEST_RICE_PARAMETER = 15,
};

static uint32_t load_u16(const uint8_t *at) {
    return (uint32_t)at[0] | (uint32_t)at[1] << 8;
}

static uint32_t load_u32(const uint8_t *at) {
    return load_u16(at) | load_u16(at + 2) << 16;
}

static int32_t load_i8(const uint8_t *at) {
    return (int8_t)*at;
}

/* Finite, normal and positive, judged by the bits alone. */
static int is_scale(uint32_t bits) {
    return bits >= 0x00800000u && bits < 0x7f800000u;
}

static int is_extent(int32_t value) {
    return value >= 1 && value <= LARGEST_EXTENT;
}

static ec2t_status parse_geometry(const uint8_t *header, size_t size, ec2t_layer *layer) {
    const uint32_t outputs = load_u32(header + 16), inputs = load_u32(header + 20);
    const uint32_t groups = load_u32(header + 48);
    if (outputs < 1 || outputs > LARGEST_CHANNELS || inputs < 1 || inputs > LARGEST_CHANNELS ||
        groups < 1 || outputs % groups != 0 || inputs % groups != 0) {
        return EC2T_ERROR_HEADER;
    }
    layer->output_channels = (int32_t)outputs;
    layer->input_channels = (int32_t)inputs;
    layer->groups = (int32_t)groups;
    layer->kernel_height = (int32_t)load_u16(header + 24);
    layer->kernel_width = (int32_t)load_u16(header + 26);
    layer->stride_height = (int32_t)load_u16(header + 28);
    layer->stride_width = (int32_t)load_u16(header + 30);
    layer->dilation_height = (int32_t)load_u16(header + 32);
    layer->dilation_width = (int32_t)load_u16(header + 34);
    if (!is_extent(layer->kernel_height) || !is_extent(layer->kernel_width) ||
        !is_extent(layer->stride_height) || !is_extent(layer->stride_width) ||
        !is_extent(layer->dilation_height) || !is_extent(layer->dilation_width)) {
        return EC2T_ERROR_HEADER;
    }
    /* At most 4095^2 * 2^20, so 64 bits are needed, and enough. */
    const uint64_t taps =
        (uint64_t)layer->kernel_height * (uint64_t)layer->kernel_width * (inputs / groups);
    const uint64_t most = FREE_WEIGHTS + (uint64_t)WEIGHTS_PER_BYTE * size;
    if (taps > LARGEST_TAPS || taps * outputs > LARGEST_WEIGHTS || taps * outputs > most) {
        return EC2T_ERROR_HEADER;
    }
    layer->taps = (int32_t)taps;

    const uint32_t padding = load_u16(header + 36);
    layer->pad_top = (int32_t)load_u16(header + 38);
    layer->pad_bottom = (int32_t)load_u16(header + 40);
    layer->pad_left = (int32_t)load_u16(header + 42);
    layer->pad_right = (int32_t)load_u16(header + 44);
    const int32_t pads = layer->pad_top | layer->pad_bottom | layer->pad_left | layer->pad_right;
    if (padding > EC2T_PADDING_EXPLICIT || pads > LARGEST_EXTENT ||
        (padding != EC2T_PADDING_EXPLICIT && pads != 0)) {
        return EC2T_ERROR_HEADER;
    }
    layer->padding = (ec2t_padding)padding;

    const int is_plain = layer->kernel_height == 1 && layer->kernel_width == 1 &&
                         layer->stride_height == 1 && layer->stride_width == 1 &&
                         layer->dilation_height == 1 && layer->dilation_width == 1 &&
                         padding == EC2T_PADDING_VALID && groups == 1;
    switch (header[6]) {
    case EC2T_CONV_2D: layer->op = EC2T_CONV_2D; break;
    case EC2T_DEPTHWISE_CONV_2D:
        if (groups != inputs) {
            return EC2T_ERROR_HEADER;
        }
        layer->op = EC2T_DEPTHWISE_CONV_2D;
        break;
    case EC2T_FULLY_CONNECTED:
        if (!is_plain) {
            return EC2T_ERROR_HEADER;
        }
        layer->op = EC2T_FULLY_CONNECTED;
        break;
    default: return EC2T_ERROR_HEADER;
    }
    return EC2T_OK;
}

static ec2t_status parse_numbers(const uint8_t *header, uint32_t flags, ec2t_layer *layer) {
    const uint32_t encoding = header[7];
    if (encoding > EC2T_ENCODING_RANGE) {
        return EC2T_ERROR_HEADER;
    }
    layer->encoding = (ec2t_encoding)encoding;
    layer->input_zero_point = load_i8(header + 52);
    layer->output_zero_point = load_i8(header + 53);
    layer->output_min = load_i8(header + 54);
    layer->output_max = load_i8(header + 55);
    layer->value_plus = load_i8(header + 56);
    layer->value_minus = load_i8(header + 57);
    layer->stream_parameter = header[59];
    layer->nonzeros = load_u32(header + 60);
    layer->stream_size = load_u32(header + 64);
    const int has_values = encoding != EC2T_ENCODING_INT8 && (flags & FLAG_CHANNEL_VALUES) == 0;
    const uint32_t largest_parameter =
        encoding == EC2T_ENCODING_RICE ? (uint32_t)LARGEST_RICE_PARAMETER : 0u;
    if (layer->output_min > layer->output_max || layer->value_plus == -128 ||
        layer->value_minus == -128 ||
        (!has_values && (layer->value_plus != 0 || layer->value_minus != 0)) ||
        layer->stream_parameter > largest_parameter ||
        layer->nonzeros > (uint32_t)layer->taps * (uint32_t)layer->output_channels ||
        load_u32(header + 76) != 0) {
        return EC2T_ERROR_HEADER;
    }
    if (header[58] > 1) {
        return EC2T_ERROR_HEADER;
    }
    const uint32_t input_scale = load_u32(header + 68), output_scale = load_u32(header + 72);
    const int scales_fit = header[58] == 0 ? is_scale(input_scale) && is_scale(output_scale)
                                           : input_scale == 0 && output_scale == 0;
    if (!scales_fit) {
        return EC2T_ERROR_HEADER;
    }
    memcpy(&layer->input_scale, &input_scale, sizeof(float));
    memcpy(&layer->output_scale, &output_scale, sizeof(float));
    return EC2T_OK;
}

/* Cuts a blob into sections; once one does not fit, `status` says so and `at` stays. */
typedef struct {
    const uint8_t *at;
    size_t left;
    ec2t_status status;
} section_cutter;

static const uint8_t *take_section(section_cutter *cutter, size_t size) {
    const size_t padded = size + (4 - size % 4) % 4;
    if (cutter->status != EC2T_OK) {
        return NULL;
    }
    if (padded < size || padded > cutter->left) {
        cutter->status = EC2T_ERROR_TRUNCATED;
        return NULL;
    }
    const uint8_t *const section = cutter->at;
    for (size_t i = size; i < padded; ++i) {
        if (section[i] != 0) {
            cutter->status = EC2T_ERROR_HEADER;
            return NULL;
        }
    }
    cutter->at += padded;
    cutter->left -= padded;
    return section;
}

static ec2t_status check_sections(const ec2t_layer *layer) {
    const int32_t channels = layer->output_channels;
    if (layer->channel_values != NULL) {
        for (int32_t i = 0; i < 2 * channels; ++i) {
            if (layer->channel_values[i] == -128) {
                return EC2T_ERROR_HEADER;
            }
        }
    }
    if (layer->flips != NULL && channels % 8 != 0 &&
        layer->flips[channels / 8] >> (channels % 8) != 0) {
        return EC2T_ERROR_HEADER;
    }
    const int32_t entries = layer->requant_stride ? channels : 1;
    for (int32_t i = 0; i < entries; ++i) {
        if (layer->weight_scales != NULL) {
            uint32_t bits;
            memcpy(&bits, layer->weight_scales + i, sizeof bits);
            if (bits != 0 && !is_scale(bits)) {
                return EC2T_ERROR_HEADER;
            }
        } else if (layer->multipliers[i] < 0 || layer->shifts[i] < -31 || layer->shifts[i] > 30) {
            return EC2T_ERROR_HEADER;
        }
    }
    return EC2T_OK;
}

ec2t_status ec2t_layer_parse(const void *blob, size_t size, ec2t_layer *layer) {
    const uint8_t *const header = blob;
    if (blob == NULL || layer == NULL) {
        return EC2T_ERROR_ARGUMENT;
    }
    if ((uintptr_t)blob % 4 != 0) {
        return EC2T_ERROR_UNALIGNED;
    }
    memset(layer, 0, sizeof *layer);
    if (size < HEADER_SIZE) {
        return EC2T_ERROR_TRUNCATED;
    }
    if (memcmp(header, "EC2T", 4) != 0) {
        return EC2T_ERROR_MAGIC;
    }
    if (load_u16(header + 4) != 1) {
        return EC2T_ERROR_VERSION;
    }
    if (load_u32(header + 8) != size || size > INT32_MAX) {
        return EC2T_ERROR_TRUNCATED;
    }
    const uint32_t flags = load_u16(header + 46);
    const uint32_t both_values = FLAG_CHANNEL_VALUES | FLAG_SIGN_FLIPS;
    if (flags > 15 || (flags & both_values) == both_values ||
        (header[7] == EC2T_ENCODING_INT8 && (flags & both_values) != 0)) {
        return EC2T_ERROR_HEADER;
    }
    ec2t_status status = parse_geometry(header, size, layer);
    if (status == EC2T_OK) {
        status = parse_numbers(header, flags, layer);
    }
    if (status != EC2T_OK) {
        return status;
    }

    const size_t channels = (size_t)layer->output_channels;
    section_cutter cutter = {header + HEADER_SIZE, size - HEADER_SIZE, EC2T_OK};
    if (flags & FLAG_CHANNEL_VALUES) {
        layer->channel_values = (const int8_t *)take_section(&cutter, 2 * channels);
    }
    if (flags & FLAG_SIGN_FLIPS) {
        layer->flips = take_section(&cutter, (channels + 7) / 8);
    }
    /* Every section starts on a 4-byte boundary, as the blob does: the casts below are aligned. */
    if (flags & FLAG_BIAS) {
        layer->bias = (const int32_t *)(const void *)take_section(&cutter, 4 * channels);
    }
    layer->requant_stride = (flags & FLAG_LAYER_REQUANTISATION) ? 0 : 1;
    const size_t entries = layer->requant_stride ? channels : 1;
    if (header[58] == 0) {
        layer->weight_scales = (const float *)(const void *)take_section(&cutter, 4 * entries);
    } else {
        layer->multipliers = (const int32_t *)(const void *)take_section(&cutter, 4 * entries);
        layer->shifts = (const int8_t *)take_section(&cutter, entries);
    }
    layer->stream = take_section(&cutter, layer->stream_size);
    if (cutter.status != EC2T_OK) {
        return cutter.status;
    }
    if (cutter.left != 0) {
        return EC2T_ERROR_TRUNCATED;
    }
    return check_sections(layer);
}

uint32_t ec2t_checksum(const uint8_t *bytes, size_t size) {
    /* zlib's CRC-32, four bits at a time: a table of 64 bytes. */
    static const uint32_t table[16] = {
        0x00000000u, 0x1db71064u, 0x3b6e20c8u, 0x26d930acu, 0x76dc4190u, 0x6b6b51f4u,
        0x4db26158u, 0x5005713cu, 0xedb88320u, 0xf00f9344u, 0xd6d6a3e8u, 0xcb61b38cu,
        0x9b64c2b0u, 0x86d3d2d4u, 0xa00ae278u, 0xbdbdf21cu,
    };
    uint32_t crc = 0xffffffffu;
    for (size_t i = 0; i < size; ++i) {
        crc ^= bytes[i];
        crc = crc >> 4 ^ table[crc & 15];
        crc = crc >> 4 ^ table[crc & 15];
    }
    return ~crc;
}

ec2t_status ec2t_layer_verify_checksum(const void *blob, size_t size) {
    const uint8_t *const bytes = blob;
    if (blob == NULL) {
        return EC2T_ERROR_ARGUMENT;
    }
    if (size < HEADER_SIZE) {
        return EC2T_ERROR_TRUNCATED;
    }
    return ec2t_checksum(bytes + 16, size - 16) == load_u32(bytes + 12) ? EC2T_OK
                                                                        : EC2T_ERROR_CHECKSUM;
}

void ec2t_layer_values(const ec2t_layer *layer, int32_t channel, int32_t *plus, int32_t *minus) {
    *plus = layer->value_plus;
    *minus = layer->value_minus;
    if (layer->channel_values != NULL) {
        *plus = layer->channel_values[2 * channel];
        *minus = layer->channel_values[2 * channel + 1];
    } else if (layer->flips != NULL && (layer->flips[channel / 8] >> (channel % 8) & 1) != 0) {
        *plus = -*plus;
        *minus = -*minus;
    }
}
