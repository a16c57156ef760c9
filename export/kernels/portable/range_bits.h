/* Private: bits of an adaptive range coder. export/formats/FORMAT.md, "The range coder"; Python's
 * twin is export/formats/range_coder.py. */
#ifndef EC2T_RANGE_BITS_H
#define EC2T_RANGE_BITS_H

#include "ec2t_common.h"

/* Probabilities that a bit is 1, in 1/65536: a fast and a slow average of the bits so far. */
typedef struct {
    uint16_t fast, slow, count;
} ec2t_bit_model;

#define EC2T_EVEN ((ec2t_bit_model){32768, 32768, 0})

/* How soon averages follow: a step covers 1/2^shift of the way, more while few bits are known. */
typedef struct {
    uint32_t fast, slow;
} ec2t_rates;

#define EC2T_QUICK ((ec2t_rates){5, 8})
#define EC2T_STEADY ((ec2t_rates){7, 10})

/* Where a stream stands. The bytes are given at every call: a decoder's scratch is aligned for
 * numbers, not for pointers. */
typedef struct {
    uint32_t size, position, low, high, code;
} ec2t_bit_reader;

static inline uint32_t ec2t_bits_next_byte(ec2t_bit_reader *reader, const uint8_t *stream) {
    const uint32_t at = reader->position++;
    return at < reader->size ? stream[at] : 0;
}

static inline void ec2t_bits_start(ec2t_bit_reader *reader, const uint8_t *stream, uint32_t size) {
    *reader = (ec2t_bit_reader){size, 0, 0, 0xffffffffu, 0};
    for (int i = 0; i < 4; ++i) {
        reader->code = reader->code << 8 | ec2t_bits_next_byte(reader, stream);
    }
}

/* Whether every byte of the stream has been read. */
static inline int ec2t_bits_ended(const ec2t_bit_reader *reader) {
    return reader->position >= reader->size;
}

/* The first probability of "not zero" in a layer of `count` weights. */
static inline uint16_t ec2t_bits_initial(uint32_t nonzeros, uint64_t count) {
    const uint64_t share = ((uint64_t)nonzeros << 16) / count;
    return (uint16_t)(share < 64 ? 64 : share > 65472 ? 65472 : share);
}

static inline uint16_t ec2t_bits_towards(uint32_t value, uint32_t bit, uint32_t shift) {
    return (uint16_t)(bit ? value + ((65535u - value) >> shift) : value - (value >> shift));
}

/* A bit whose probability is `probability` in 1/4096. */
static inline uint32_t ec2t_bits_of(ec2t_bit_reader *reader, const uint8_t *stream,
                                    uint32_t probability) {
    const uint32_t middle = reader->low + ((reader->high - reader->low) >> 12) * probability;
    const uint32_t bit = reader->code <= middle;
    if (bit) {
        reader->high = middle;
    } else {
        reader->low = middle + 1;
    }
    while ((reader->low ^ reader->high) >> 24 == 0) {
        reader->low <<= 8;
        reader->high = reader->high << 8 | 255;
        reader->code = reader->code << 8 | ec2t_bits_next_byte(reader, stream);
    }
    return bit;
}

static inline uint32_t ec2t_bits_next(ec2t_bit_reader *reader, const uint8_t *stream,
                                      ec2t_bit_model *model, ec2t_rates rates) {
    const uint32_t both = ((uint32_t)model->fast + model->slow) >> 5;
    const uint32_t bit = ec2t_bits_of(reader, stream, both < 1 ? 1 : both > 4095 ? 4095 : both);
    uint32_t rate = 1; /* floor(log2(count + 2)) */
    while (rate < rates.slow && (model->count + 2u) >> (rate + 1) != 0) {
        rate += 1;
    }
    model->fast = ec2t_bits_towards(model->fast, bit, rate < rates.fast ? rate : rates.fast);
    model->slow = ec2t_bits_towards(model->slow, bit, rate);
    model->count = (uint16_t)(model->count + (model->count < 1u << rates.slow));
    return bit;
}

#endif
