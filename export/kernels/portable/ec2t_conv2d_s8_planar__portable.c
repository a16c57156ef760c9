/* Planar convolution in plain C; compilers vectorise its inner loops. */
#include <string.h>

#include "ec2t_planar.h"

#define PLANAR_KERNEL portable
#define PLANAR_TARGET
#define PLANAR_TILE 64
#define PLANAR_GRAIN 16
typedef int8_t planar_element;

enum {
    CHUNK = 255, /* activations that an int16 sum holds for certain */
    BLOCK = 16,
};

static uint32_t offset_at(const ec2t_planar_conv2d *conv, uint32_t index) {
    return conv->offset_size == 2 ? ((const uint16_t *)conv->offsets)[index]
                                  : ((const uint32_t *)conv->offsets)[index];
}

/* Fixed sizes let compilers vectorise: a tile is done in blocks of 16. */
static void add_block(int16_t *restrict sums, const int8_t *restrict from) {
    for (int i = 0; i < BLOCK; ++i) {
        sums[i] = (int16_t)(sums[i] + from[i]);
    }
}

static void weigh_block(int32_t *restrict accumulators, const int16_t *restrict sums,
                        int32_t value) {
    for (int i = 0; i < BLOCK; ++i) {
        accumulators[i] = (int32_t)((uint32_t)accumulators[i] + (uint32_t)(value * sums[i]));
    }
}

/* accumulators += value * (sum over the listed places) */
static void add_list(const ec2t_planar_conv2d *conv, uint32_t first, uint32_t count, int32_t value,
                     const int8_t *base, int32_t size, int32_t *accumulators) {
    while (count > 0) {
        const uint32_t chunk = count < CHUNK ? count : CHUNK;
        int16_t sums[PLANAR_TILE] = {0};
        for (uint32_t t = first; t < first + chunk; ++t) {
            const int8_t *const from = base + offset_at(conv, t);
            for (int32_t at = 0; at < size; at += BLOCK) {
                add_block(sums + at, from + at);
            }
        }
        for (int32_t at = 0; at < size; at += BLOCK) {
            weigh_block(accumulators + at, sums + at, value);
        }
        first += chunk;
        count -= chunk;
    }
}

static void run_tile(const ec2t_planar_conv2d *conv, int32_t o, const int8_t *base, int32_t size,
                     int8_t *output) {
    const ec2t_planar_channel *const channel = &conv->channels[o];
    int32_t accumulators[PLANAR_TILE];
    for (int32_t i = 0; i < size; ++i) {
        accumulators[i] = channel->bias;
    }
    add_list(conv, channel->first, channel->plus_count, channel->value_plus, base, size,
             accumulators);
    add_list(conv, channel->first + channel->plus_count, channel->minus_count, channel->value_minus,
             base, size, accumulators);
    for (int32_t i = 0; i < size; ++i) {
        output[i] = ec2t_requantise(accumulators[i], &conv->requant, o);
    }
}

static void planar_tiles(const ec2t_planar_conv2d *conv, int32_t first, int32_t last,
                         const int8_t *base, int32_t size, int32_t count, int8_t *output,
                         size_t pitch) {
    for (int32_t o = first; o < last; ++o, output += pitch) {
        for (int32_t i = 0; i < count; ++i) {
            run_tile(conv, o, base + i * size, size, output + i * size);
        }
    }
}

static void planar_fill(int8_t *to, int8_t value, int32_t count) {
    memset(to, (uint8_t)value, (size_t)count);
}

static void planar_copy_blocks(int8_t *to, const int8_t *from, int32_t blocks) {
    memcpy(to, from, 16 * (size_t)blocks);
}

static void planar_copy(int8_t *to, const int8_t *from, int32_t count) {
    memcpy(to, from, (size_t)count);
}

static void planar_copy_masked(int8_t *to, const int8_t *from, int32_t blocks, const int8_t *masks,
                               int32_t mask_count, int8_t zero) {
    for (int32_t b = 0; b < blocks; ++b) {
        const int8_t *const mask = masks + b % mask_count * 16;
        for (int i = 0; i < 16; ++i) {
            to[16 * b + i] = (int8_t)((from[16 * b + i] & ~mask[i]) | (zero & mask[i]));
        }
    }
}

static void planar_copy_alternate(int8_t *to, const int8_t *from, int32_t rows, int32_t count,
                                  int32_t room, int32_t to_pitch, int32_t from_pitch,
                                  const int8_t *end) {
    (void)room;
    (void)end;
    for (; rows > 0; --rows, to += to_pitch, from += from_pitch) {
        for (int32_t i = 0; i < count; ++i) {
            to[i] = from[2 * (size_t)i];
        }
    }
}

#include "planar_body.h"

int ec2t_has__portable(void) {
    return 1;
}
