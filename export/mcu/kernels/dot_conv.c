#include "dot_conv.h"

#include "requantise.h"

#if defined(EC2T_MCU_HELIUM)

/* One row of pixels, from planes to side by side: sixteen or eight pixels at a time. */
#define INTERLEAVE(pixels, type, load, store)                                                      \
    for (uint32_t x = 0; x < columns; x += pixels, from += pixels * stride, to += pixels * step) { \
        const uint8_t *p = from;                                                                   \
        const uint16_t *next = distances;                                                          \
        uint8_t *d = to;                                                                           \
        for (uint32_t n = layer->bytes; n; --n) {                                                  \
            p += *next++;                                                                          \
            const type values = load;                                                              \
            store(d++, places, values);                                                            \
        }                                                                                          \
    }
static void interleave(const ec2t_mcu_dot_conv *layer, const uint16_t *distances,
                       const uint8_t *from, uint8_t *to) {
    const uint32_t stride = layer->copy_stride, step = layer->step, columns = layer->columns;
    if (step <= 17u && columns > 8u) {
        const uint8x16_t places = vmulq_n_u8(vidupq_n_u8(0, 1), (uint8_t)step);
        if (stride == 1u) {
            INTERLEAVE(16u, uint8x16_t, vldrbq_u8(p), vstrbq_scatter_offset_u8)
            return;
        }
        if (stride <= 17u) {
            const uint8x16_t sources = vmulq_n_u8(vidupq_n_u8(0, 1), (uint8_t)stride);
            INTERLEAVE(16u, uint8x16_t, vldrbq_gather_offset_u8(p, sources),
                       vstrbq_scatter_offset_u8)
            return;
        }
    }
    const uint16x8_t eight = vidupq_n_u16(0, 1);
    if (stride == 1u && columns >= 8u) {
        const uint16x8_t places = vmulq_n_u16(eight, (uint16_t)step);
        INTERLEAVE(8u, uint16x8_t, vldrbq_u16(p), vstrbq_scatter_offset_u16)
    } else {
        /* Of fewer than eight pixels the last comes several times: none is written behind it. */
        const uint16x8_t pixels = vminq_u16(eight, vdupq_n_u16((uint16_t)(columns - 1u)));
        const uint16x8_t places = vmulq_n_u16(pixels, (uint16_t)step);
        const uint16x8_t sources = vmulq_n_u16(pixels, (uint16_t)stride);
        INTERLEAVE(8u, uint16x8_t, vldrbq_gather_offset_u16(p, sources), vstrbq_scatter_offset_u16)
    }
}

/* Calls of a tile: all whole pairs of channels, and the last of an odd number by itself. */
typedef struct {
    ec2t_mcu_dot_args pairs, last;
    uint32_t odd;
} Calls;

static inline void place(Calls *calls, uint32_t pixel, uint32_t at, uint32_t plane) {
    calls->pairs.offsets[2u * pixel] = (uint16_t)at;
    calls->pairs.offsets[2u * pixel + 1u] = (uint16_t)(plane + at);
}

static void run_last(const ec2t_mcu_dot_conv *layer, Calls *calls, uint8_t *output) {
    for (uint32_t i = 0; i < 8u; ++i)
        calls->last.offsets[i] = calls->pairs.offsets[i / 2u * 2u];
    calls->last.output = output + (layer->out.channels - 1u) * layer->out.plane;
    layer->tile(&calls->last);
}
static inline void run_tiles(const ec2t_mcu_dot_conv *layer, Calls *calls, uint8_t *output) {
    if (calls->pairs.pair != calls->pairs.end) {
        calls->pairs.output = output;
        layer->tile(&calls->pairs);
    }
    if (calls->odd)
        run_last(layer, calls, output);
}

static void windows(const ec2t_mcu_dot_conv *layer, Calls *calls, const uint8_t *input,
                    uint8_t *output, uint8_t *scratch, const uint8_t **runs) {
    const uint32_t width = layer->out.width, count = layer->rows, chunks = layer->chunks;
    const uint32_t plane = layer->out.plane, pixel = (uint32_t)layer->stride_x * layer->step;
    const uint32_t row_bytes = layer->row_bytes;
    for (uint32_t i = 0; i < 4u; ++i)
        place(calls, i, i, plane);
    uint32_t ready = 0, slot = 0; /* rows copied, where the next one goes */
    for (uint32_t y = 0; y < layer->out.height; ++y, output += layer->out.pitch) {
        for (; ready < y * layer->stride_y + count; ++ready, input += layer->row_step) {
            for (uint32_t k = 0; k < chunks; ++k) {
                interleave(layer, layer->distances + k * layer->bytes, input,
                           scratch + (slot * chunks + k) * row_bytes);
            }
            slot = slot + 1u == count ? 0u : slot + 1u;
        }
        const uint8_t **end = runs; /* of the first pixels, the oldest row first */
        for (uint32_t i = count, at = slot; i; --i) {
            const uint8_t *row = scratch + at * chunks * row_bytes;
            for (uint32_t k = chunks; k; --k, row += row_bytes)
                *end++ = row;
            at = at + 1u == count ? 0u : at + 1u;
        }
        run_tiles(layer, calls, output);
        for (uint32_t x = 0; x + 4u < width;) {
            const uint32_t step = width - x < 8u ? width - x - 4u : 4u;
            for (const uint8_t **run = runs; run != end;)
                *run++ += step * pixel;
            x += step;
            run_tiles(layer, calls, output + x);
        }
    }
}

static void patches(const ec2t_mcu_dot_conv *layer, Calls *calls, const uint8_t *input,
                    uint8_t *output, uint8_t *scratch, const uint8_t **runs) {
    const uint32_t width = layer->out.width, height = layer->out.height, plane = layer->out.plane;
    for (uint32_t next = 0; next < height; next += layer->strip) {
        const uint32_t y = next + layer->strip <= height ? next : height - layer->strip;
        for (uint32_t r = 0; r < layer->strip; ++r) {
            interleave(layer, layer->distances, input + (y + r) * layer->row_step,
                       scratch + r * layer->row_bytes);
        }
        const uint32_t pixels = layer->strip * width, skip = layer->out.pitch - width;
        uint32_t column = 0, at = 0; /* of the next pixel */
        for (uint32_t start = 0; start < pixels; start += 4u) {
            uint32_t first = start;
            if (start + 4u > pixels) { /* the last four, some once more */
                first = pixels - 4u;
                const uint32_t row = first / width;
                column = first - row * width, at = row * layer->out.pitch + column;
            }
            for (uint32_t i = 0; i < 4u; ++i, ++at) {
                place(calls, i, at, plane);
                if (++column == width)
                    column = 0, at += skip;
            }
            runs[0] = scratch + first * layer->step;
            run_tiles(layer, calls, output + y * layer->out.pitch);
        }
    }
}

void ec2t_mcu_dot_conv_run(const ec2t_mcu_dot_conv *layer, const uint8_t *input, uint8_t *output,
                           uint8_t *scratch) {
    const ec2t_mcu_planar *out = &layer->out;
    const uint8_t *runs[EC2T_MCU_DOT_RUNS + 1] = {0};
    const uint32_t pairs = out->channels / 2u, odd = out->channels & 1u;
    const ec2t_mcu_dot_pair *const end = layer->pairs + pairs;
    const uint32_t bytes = layer->pair_bytes;
    Calls calls = {
        {layer->weights, layer->pairs, 0, runs, end, 2u * out->plane, layer->clamp.zero_point, {0}},
        {layer->weights + pairs * bytes, end, 0, runs, end + odd, 0, layer->clamp.zero_point, {0}},
        odd};
    ec2t_mcu_lead(out, output);
    (layer->windows ? windows : patches)(layer, &calls, input, output, scratch, runs);
    for (uint32_t o = 0; o < out->channels; ++o) {
        ec2t_mcu_limit_whole(out, output + o * out->plane, &layer->clamp);
        ec2t_mcu_border(out, output, o);
    }
}

#endif
