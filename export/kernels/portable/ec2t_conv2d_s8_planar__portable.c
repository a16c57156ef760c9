/* Planar convolution in plain C; compilers vectorise its inner loops. */
#include <string.h>

#include "ec2t_planar.h"

#define PLANAR_KERNEL portable
#define PLANAR_TARGET
#define PLANAR_TILE 64
#define PLANAR_GRAIN 16
typedef int8_t planar_element;

enum { CHUNK = 255 }; /* activations that an int16 sum holds for certain */

static uint32_t offset_at(const ec2t_planar_conv2d *conv, uint32_t index) {
    return conv->offset_size == 2 ? ((const uint16_t *)conv->offsets)[index]
                                  : ((const uint32_t *)conv->offsets)[index];
}

/* accumulators += value * (sum over the listed places) */
static void add_list(const ec2t_planar_conv2d *conv, uint32_t first, uint32_t count, int32_t value,
                     const int8_t *base, int32_t size, int32_t *accumulators) {
    while (count > 0) {
        const uint32_t chunk = count < CHUNK ? count : CHUNK;
        int16_t sums[PLANAR_TILE] = {0};
        for (uint32_t t = first; t < first + chunk; ++t) {
            const int8_t *const from = base + offset_at(conv, t);
            for (int32_t i = 0; i < size; ++i) {
                sums[i] = (int16_t)(sums[i] + from[i]);
            }
        }
        for (int32_t i = 0; i < size; ++i) {
            accumulators[i] = (int32_t)((uint32_t)accumulators[i] + (uint32_t)(value * sums[i]));
        }
        first += chunk;
        count -= chunk;
    }
}

static void planar_tile(const ec2t_planar_conv2d *conv, const ec2t_planar_channel *channel,
                        int32_t entry, const int8_t *base, int32_t size, int8_t *output) {
    int32_t accumulators[PLANAR_TILE];
    for (int32_t i = 0; i < size; ++i) {
        accumulators[i] = channel->bias;
    }
    add_list(conv, channel->first, channel->plus_count, channel->value_plus, base, size,
             accumulators);
    add_list(conv, channel->first + channel->plus_count, channel->minus_count, channel->value_minus,
             base, size, accumulators);
    ec2t_requant requant = conv->requant;
    requant.channel_stride = 1;
    for (int32_t i = 0; i < size; ++i) {
        output[i] = ec2t_requantise(accumulators[i], &requant, entry);
    }
}

static void planar_copy(int8_t *to, const int8_t *from, int32_t count) {
    memcpy(to, from, (size_t)count);
}

static void planar_copy_masked(int8_t *to, const int8_t *from, const int8_t *mask, int8_t zero) {
    for (int i = 0; i < 16; ++i) {
        to[i] = (int8_t)((from[i] & ~mask[i]) | (zero & mask[i]));
    }
}

static void planar_copy_alternate(int8_t *to, const int8_t *from, int32_t count,
                                  const int8_t *end) {
    (void)end;
    for (int32_t i = 0; i < count; ++i) {
        to[i] = from[2 * (size_t)i];
    }
}

#include "planar_body.h"

int ec2t_has__portable(void) {
    return 1;
}
