#include "list_places.h"
#include "requantise.h"

static inline uint32_t by_place(const ec2t_mcu_list_conv *layer) {
#if defined(EC2T_MCU_BY_PLACE)
    return layer->by_place;
#else
    (void)layer;
    return 0;
#endif
}

/* Byte offsets of all taps of a channel, in stream order; returns their number. */
static uint32_t tap_offsets(const ec2t_mcu_list_conv *layer, uint16_t *where) {
    const uint32_t planes = layer->depthwise ? 1u : layer->in.channels;
    const uint32_t taps = layer->tap_count, plane = layer->in.plane;
    uint32_t base = 0;
    if (by_place(layer)) {
        uint32_t counts[4] = {0};
        for (uint32_t c = planes; c; --c, base += plane) {
            for (uint32_t t = 0; t < taps; ++t)
                ++counts[(base + layer->taps[t]) & 3u];
        }
        uint16_t *const third = where + counts[0], *const second = third + counts[3];
        uint16_t *to[4] = {where, second + counts[2], second, third};
        base = 0;
        for (uint32_t c = planes; c; --c, base += plane) {
            for (uint32_t t = 0; t < taps; ++t) {
                const uint32_t offset = base + layer->taps[t];
                *to[offset & 3u]++ = (uint16_t)offset;
            }
        }
        return planes * taps;
    }
    for (uint32_t c = planes; c; --c, base += plane) {
        for (uint32_t t = 0; t < taps; ++t)
            *where++ = (uint16_t)(base + layer->taps[t]);
    }
    return planes * taps;
}

/* What `symbols` works on; the order is that of the registers r0 to r11. */
typedef struct {
    uint32_t at; /* bit position in the stream */
    const uint8_t *stream;
    uint32_t limit;              /* bits in the stream */
    const uint16_t *where, *end; /* offset of the tap after the last one, end of the offsets */
    uint16_t *minus, *plus;      /* ends of the two lists */
    uint32_t last_minus, last_plus;
    uint32_t count;   /* symbols to decode, at least 1 */
    uint32_t k, rest; /* Rice parameter, 30 - k */
#if defined(EC2T_MCU_BY_PLACE)
    uint32_t by_place;
#endif
} Decoder;

/* Per weight the zeros before it, in unary (ones, then a zero) and k binary digits, then the sign.
 * Turns positions into byte distances from the tap of the same sign before (by place, into
 * offsets). The lists have room for `count` entries each. */
#if defined(__ARM_ARCH) && __ARM_ARCH >= 7 && defined(__thumb2__)

/* clang-format off */
static __attribute__((naked, noinline)) ec2t_mcu_status symbols(Decoder *d __attribute__((unused))) {
    __asm volatile("push {r0,r4-r11,lr}\n ldm r0,{r0-r11}\n"
                   "1: cmp r0,r2\n bhs 3f\n"
                   /* 32 bits of the stream from r0 on, the last seven of them perhaps zero */
                   "lsr lr,r0,#3\n ldr r12,[r1,lr]\n rev r12,r12\n and lr,r0,#7\n lsl r12,r12,lr\n"
                   "mvn lr,r12\n clz lr,lr\n"
                   /* the zero that ends the ones, the digits, the sign */
                   "lsl r12,r12,lr\n lsr r12,r12,r11\n"
                   "add r0,r0,lr\n add r0,r0,r10\n add r0,r0,#2\n"
                   "lsl lr,lr,r10\n add r3,r3,lr,lsl #1\n lsr lr,r12,#1\n add r3,r3,lr,lsl #1\n"
                   "cmp r3,r4\n bhs 3f\n ldrh lr,[r3],#2\n"
                   "lsrs r12,r12,#1\n bcs 2f\n"
                   "sub r12,lr,r8\n strh r12,[r6],#2\n mov r8,lr\n subs r9,r9,#1\n bne 1b\n b 4f\n"
                   "2: sub r12,lr,r7\n strh r12,[r5],#2\n mov r7,lr\n subs r9,r9,#1\n bne 1b\n"
                   "4: ldr r12,[sp]\n str r0,[r12]\n str r5,[r12,#20]\n"
                   "movs r0,#0\n add sp,#4\n pop {r4-r11,pc}\n"
                   "3: movs r0,#1\n add sp,#4\n pop {r4-r11,pc}\n");
}
/* clang-format on */

#else

/* Thirty-two bits of the stream from `position` on, the last seven of them perhaps zero. */
static inline uint32_t peek(const uint8_t *stream, uint32_t position) {
    const uint8_t *p = stream + (position >> 3);
#if defined(EC2T_MCU_ALIGNED)
    const uint32_t value = (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
#else
    uint32_t value;
    __builtin_memcpy(&value, p, 4);
    value = __builtin_bswap32(value);
#endif
    return value << (position & 7u);
}

static inline uint32_t leading_ones(uint32_t value) {
#if defined(EC2T_MCU_ALIGNED)
    uint32_t count = 0; /* these cores have no CLZ; runs are short */
    for (; (int32_t)value < 0; value <<= 1)
        ++count;
    return count;
#else
    return value == 0xffffffffu ? 32u : (uint32_t)__builtin_clz(~value);
#endif
}

static ec2t_mcu_status symbols(Decoder *d) {
    for (; d->count; --d->count) {
        if (d->at >= d->limit)
            return EC2T_MCU_CORRUPT;
        const uint32_t value = peek(d->stream, d->at), quotient = leading_ones(value);
        /* The zero that ends the ones, the digits, the sign. Thirty-two ones are too many. */
        const uint32_t field = quotient > 31u ? 0u : value << quotient >> d->rest;
        const uint32_t skipped = (quotient << d->k) + (field >> 1);
        if (skipped >= (uint32_t)(d->end - d->where))
            return EC2T_MCU_CORRUPT;
        d->at += quotient + d->k + 2u;
        d->where += skipped;
        const uint32_t offset = *d->where++;
#if defined(EC2T_MCU_BY_PLACE)
        if (d->by_place)
            d->last_minus = d->last_plus = 0;
#endif
        if (field & 1u) {
            *d->minus++ = (uint16_t)(offset - d->last_minus);
            d->last_minus = offset;
        } else {
            *d->plus++ = (uint16_t)(offset - d->last_plus);
            d->last_plus = offset;
        }
    }
    return EC2T_MCU_OK;
}

#endif

/* One channel's lists; what a damaged stream does is found here at the latest. */
static ec2t_mcu_status decode(const ec2t_mcu_list_conv *layer, const ec2t_mcu_fast *channel,
                              uint32_t *position, const uint16_t *where, uint32_t taps,
                              uint16_t *minus, uint16_t *plus) {
    const uint32_t count = channel->minus_count + channel->plus_count;
    if (!count)
        return EC2T_MCU_OK;
    Decoder d = {
        *position,
        layer->weights,
        layer->stream_bits,
        where,
        where + taps,
        minus,
        plus,
        0,
        0,
        count,
        layer->rice_k,
        30u - layer->rice_k,
#if defined(EC2T_MCU_BY_PLACE)
        layer->by_place,
#endif
    };
    const ec2t_mcu_status status = symbols(&d);
    if (status != EC2T_MCU_OK || d.at > d.limit || d.minus != minus + channel->minus_count)
        return EC2T_MCU_CORRUPT;
    *position = d.at;
    return EC2T_MCU_OK;
}

/* Where a list starts from `to` on: on Helium it ends at a multiple of four bytes. */
static inline uint16_t *start_of(uint16_t *to, uint32_t count) {
#if defined(EC2T_MCU_HELIUM)
    return to + (((uintptr_t)to / 2u + count) & 1u);
#else
    (void)count;
    return to;
#endif
}

/* The lists of one channel of a stream, in `to`, from their lengths; `position` is that of the next
 * channel. */
static ec2t_mcu_status lists(const ec2t_mcu_list_conv *layer, uint32_t *position,
                             const uint16_t *where, uint32_t taps, uint16_t *to,
                             ec2t_mcu_fast *fast) {
    uint16_t *const minus = start_of(to, fast->minus_count);
    fast->minus_list = minus;
    if (fast->minus_count + fast->plus_count > layer->most)
        return EC2T_MCU_CORRUPT;
    if (layer->encoding == EC2T_MCU_ENCODING_GAPS) {
        const uint8_t *gaps = (const uint8_t *)layer->weights + *position;
        /* behind the last of the minus list, which may begin a place later than `to` */
        uint16_t *const plus =
            start_of(minus + (fast->minus_count + 7u) / 8u * 8u, fast->plus_count);
        fast->plus_list = plus;
        *position += fast->minus_count + fast->plus_count;
        return layer->gap_list(gaps, fast->minus_count, where, taps, minus) &&
                       layer->gap_list(gaps + fast->minus_count, fast->plus_count, where, taps,
                                       plus)
                   ? EC2T_MCU_OK
                   : EC2T_MCU_CORRUPT;
    }
    uint16_t *const plus = start_of(minus + layer->most, fast->plus_count);
    fast->plus_list = plus;
    return decode(layer, fast, position, where, taps, minus, plus);
}

/* A list of any length: lanes are emptied into the sums before they overflow. */
static void long_list(const ec2t_mcu_list_conv *layer, const uint8_t *input, const uint16_t *list,
                      uint32_t count, int32_t value, int32_t *sums) {
    while (count) {
        const uint32_t part = count < EC2T_MCU_LANE_TAPS ? count : EC2T_MCU_LANE_TAPS;
        layer->sums(input, list, part, value, sums);
        count -= part;
        if (!count)
            break;
        if (by_place(layer)) {
            list += part;
            continue;
        }
        for (const uint16_t *end = list + part; list < end;)
            input += *list++;
    }
}

/* What the fast tiles need of a channel but its lists. */
static inline void constants(const ec2t_mcu_channel *channel, uint32_t left, uint32_t right,
                             int32_t zero_point, ec2t_mcu_fast *fast) {
#if defined(EC2T_MCU_HELIUM)
    fast->bias = channel->bias * (1 << left);
    fast->minus_scale = -(int32_t)((uint32_t)channel->minus << left);
    fast->plus_scale = (int32_t)((uint32_t)channel->plus << left);
    fast->right = -(int32_t)right;
#elif defined(EC2T_MCU_DSP)
    fast->bias = channel->bias * (int32_t)(2u << left);
    const uint32_t minus = (0u - ((uint32_t)channel->minus << (1u + left))) & 0xffffu;
    fast->minus_scale = (int32_t)(minus << 16 | minus);
    fast->plus_scale = (int32_t)((uint32_t)channel->plus << (17u + left) | right);
    fast->right = 0;
#else
    /* Inputs and outputs are 128 greater. */
    const int32_t excess = 128 * ((int32_t)channel->plus * channel->plus_count -
                                  (int32_t)channel->minus * channel->minus_count);
    left += EC2T_MCU_MORE_BITS;
    fast->bias = (channel->bias - excess) * (int32_t)(2u << left);
    fast->minus_scale = -(int32_t)((uint32_t)channel->minus << (1u + left));
    fast->plus_scale = (int32_t)((uint32_t)channel->plus << (1u + left));
    fast->right = (int32_t)right;
#endif
    fast->multiplier = channel->multiplier;
#if defined(EC2T_MCU_HELIUM)
    fast->rounding = zero_point;
#else
    fast->rounding = ec2t_mcu_more_rounding((1 << (right - 1u)) +
                                            (zero_point + (int32_t)EC2T_MCU_FLIP) * (1 << right));
#endif
}

/* The fast tiles compute, with sum = bias + plus * P - minus * M and |sum| <= bound,
 *   high = round((sum << (1 + left)) * multiplier / 2^32)
 *   ((high + rounding) - (sum < 0)) >> right,  rounding = 2^(right-1) + (zero_point << right)
 * in 32 bits, and pack after a 16-bit saturation: TensorFlow Lite's two roundings, exactly.
 * Returns 0 where something would not fit. */
static int prepare(const ec2t_mcu_channel *channel, int32_t zero_point, ec2t_mcu_fast *fast) {
    const uint32_t left = channel->shift > 0 ? (uint32_t)channel->shift : 0u;
    const uint32_t right = channel->shift < 0 ? (uint32_t)-channel->shift : 0u;
    const uint32_t magnitude =
        channel->bias < 0 ? 0u - (uint32_t)channel->bias : (uint32_t)channel->bias;
    const uint32_t bound = magnitude + 128u * ((uint32_t)channel->minus * channel->minus_count +
                                               (uint32_t)channel->plus * channel->plus_count);
    if (channel->minus_count > EC2T_MCU_LANE_TAPS || channel->plus_count > EC2T_MCU_LANE_TAPS)
        return 0;
    if (right < 1 || right > 20 || left > 6)
        return 0;
    if (channel->minus > 127 || channel->plus > 127)
        return 0;
    if (magnitude > EC2T_MCU_LARGEST_SUM || bound > (EC2T_MCU_LARGEST_SUM >> left))
        return 0;
    if (((bound << left) >> right) > 32000u)
        return 0;
    constants(channel, left, right, zero_point, fast);
    return 1;
}

/* The tile in any case: wide sums, exact requantisation of each. */
static __attribute__((noinline)) void slow_tile(const ec2t_mcu_list_conv *layer,
                                                const ec2t_mcu_channel *channel,
                                                const uint8_t *input, const uint16_t *minus,
                                                const uint16_t *plus, uint8_t *output) {
    int32_t sums[EC2T_MCU_TILE_PIXELS];
    for (uint32_t i = 0; i < EC2T_MCU_TILE_PIXELS; ++i)
        sums[i] = channel->bias;
    long_list(layer, input, minus, channel->minus_count, -(int32_t)channel->minus, sums);
    long_list(layer, input, plus, channel->plus_count, channel->plus, sums);
    const int32_t *sum = sums;
    for (uint32_t group = 0; group < 4; ++group) {
        uint8_t *to = output + layer->out_group[group];
        for (uint32_t i = 0; i < EC2T_MCU_GROUP; ++i) {
            const int32_t value = ec2t_mcu_requantise(*sum++, channel->multiplier, channel->shift);
            to[i] = ec2t_mcu_byte(ec2t_mcu_clamped(value, &layer->clamp));
        }
    }
}

ec2t_mcu_status ec2t_mcu_list_conv_run(const ec2t_mcu_list_conv *layer, const uint8_t *input,
                                       uint8_t *output, uint16_t *scratch) {
    const uint16_t *stored = layer->weights;
    const ec2t_mcu_tile_fast tile = layer->fast;
    uint32_t position = 0;
    uint32_t across = layer->tiles_across, rows = layer->tile_count;
    uint32_t in_step = layer->in_tile_step, out_step = layer->out_tile_step;
    uint32_t in_row_step = layer->in_row_step, out_row_step = layer->out_row_step;
    if (across == 1) { /* one tile a row: the inner loop goes down the rows */
        across = rows, in_step = in_row_step, out_step = out_row_step;
        rows = 1;
    }
    const uint32_t taps =
        layer->encoding == EC2T_MCU_ENCODING_DISTANCES ? 0u : tap_offsets(layer, scratch);
    uint16_t *const decoded = scratch + taps;
    ec2t_mcu_lead(&layer->out, output);
    for (uint32_t o = 0; o < layer->out.channels; ++o) {
        const ec2t_mcu_channel *channel = NULL; /* where a fast tile may not do */
        ec2t_mcu_fast fast;
#if defined(EC2T_MCU_HELIUM)
        fast.tiles = across, fast.in_step = in_step, fast.out_step = out_step;
        const uint32_t calls = 1;
#else
        const uint32_t calls = across;
#endif
        int is_fast = 1;
        if (layer->channels.form == EC2T_MCU_CHANNELS_WHOLE) {
            channel = (const ec2t_mcu_channel *)layer->channels.table + o;
            fast.minus_count = channel->minus_count;
            fast.plus_count = channel->plus_count;
            is_fast = prepare(channel, layer->clamp.zero_point, &fast);
        } else {
            const ec2t_mcu_channel record =
                ec2t_mcu_short_channel(&layer->channels, o, layer->in.zero_point);
            fast.minus_count = record.minus_count;
            fast.plus_count = record.plus_count;
            constants(&record, 0, (uint32_t)-record.shift, layer->clamp.zero_point, &fast);
        }
        if (layer->encoding == EC2T_MCU_ENCODING_DISTANCES) {
#if defined(EC2T_MCU_HELIUM) /* lists of odd lengths lie behind an unused halfword */
            stored += fast.minus_count & 1u;
            fast.minus_list = stored;
            fast.plus_list = stored + fast.minus_count + (fast.plus_count & 1u);
#else
            fast.minus_list = stored;
            fast.plus_list = stored + fast.minus_count;
#endif
            stored = fast.plus_list + fast.plus_count;
        } else {
            const ec2t_mcu_status status = lists(layer, &position, scratch, taps, decoded, &fast);
            if (status != EC2T_MCU_OK)
                return status;
        }
#if defined(EC2T_MCU_BY_PLACE)
        if (layer->by_place) {
            ec2t_mcu_split(fast.minus_list, fast.minus_count, fast.minus_parts);
            ec2t_mcu_split(fast.plus_list, fast.plus_count, fast.plus_parts);
        }
#endif
        const uint8_t *in =
            layer->depthwise ? input + o / layer->depthwise * layer->in.plane : input;
        uint8_t *out = output + o * layer->out.plane;
        for (uint32_t y = rows; y; --y, in += in_row_step, out += out_row_step) {
            const uint8_t *from = in;
            uint8_t *to = out;
            if (is_fast) {
                for (uint32_t x = calls; x; --x, from += in_step, to += out_step)
                    tile(from, &fast, to);
            } else {
                for (uint32_t x = across; x; --x, from += in_step, to += out_step) {
                    slow_tile(layer, channel, from, fast.minus_list, fast.plus_list, to);
                }
            }
        }
        if (is_fast)
            EC2T_MCU_LIMIT(&layer->out, output + o * layer->out.plane, &layer->clamp);
        ec2t_mcu_border(&layer->out, output, o);
    }
    return EC2T_MCU_OK;
}
