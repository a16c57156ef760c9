/* Adaptive binary range decoder with neighbour contexts: export/formats/FORMAT.md, "The range
 * coder". */
#include "range_decoder.h"

enum { ZERO_CONTEXTS = 16, SIGN_CONTEXTS = 9, COUNT_LIMIT = 256, FAST_SHIFT = 5, SLOW_SHIFT = 8 };

/* Probabilities that a bit is 1, in 1/65536. */
typedef struct {
    uint16_t fast, slow, count;
} bit_model;

typedef struct {
    uint32_t low, high, code, position;
    bit_model zero[ZERO_CONTEXTS], sign[SIGN_CONTEXTS];
    /* Then two rows of symbols in tap order: the current channel's and the previous one's. */
} range_state;

size_t ec2t_range_get_buffer_size(const ec2t_layer *layer) {
    return sizeof(range_state) + 2 * (size_t)layer->taps;
}

static uint32_t next_byte(const ec2t_layer *layer, range_state *state) {
    const uint32_t at = state->position++;
    return at < layer->stream_size ? layer->stream[at] : 0;
}

static int8_t *symbol_row(const ec2t_decoder *decoder, int32_t channel) {
    int8_t *const rows = (int8_t *)decoder->range + sizeof(range_state);
    return rows + (channel % 2 != 0 ? decoder->layer->taps : 0);
}

ec2t_status ec2t_range_init(ec2t_decoder *decoder, void *scratch) {
    const ec2t_layer *const layer = decoder->layer;
    range_state *const state = scratch;
    if (scratch == NULL) {
        return EC2T_ERROR_ARGUMENT;
    }
    if ((uintptr_t)scratch % 4 != 0) {
        return EC2T_ERROR_UNALIGNED;
    }
    decoder->range = scratch;
    state->low = 0;
    state->high = 0xffffffffu;
    state->code = 0;
    state->position = 0;
    for (int i = 0; i < 4; ++i) {
        state->code = state->code << 8 | next_byte(layer, state);
    }
    const uint64_t count = (uint64_t)layer->taps * (uint64_t)layer->output_channels;
    const uint64_t share = ((uint64_t)layer->nonzeros << 16) / count;
    const uint16_t initial = (uint16_t)(share < 64 ? 64 : share > 65472 ? 65472 : share);
    for (int i = 0; i < ZERO_CONTEXTS; ++i) {
        state->zero[i] = (bit_model){initial, initial, 0};
    }
    for (int i = 0; i < SIGN_CONTEXTS; ++i) {
        state->sign[i] = (bit_model){32768, 32768, 0};
    }
    int8_t *const previous = symbol_row(decoder, 1);
    for (int32_t i = 0; i < layer->taps; ++i) {
        previous[i] = 0;
    }
    return EC2T_OK;
}

static uint16_t towards_one(uint32_t value, uint32_t shift) {
    return (uint16_t)(value + ((65535u - value) >> shift));
}

static uint16_t towards_zero(uint32_t value, uint32_t shift) {
    return (uint16_t)(value - (value >> shift));
}

static uint32_t decode_bit(const ec2t_layer *layer, range_state *state, bit_model *model) {
    uint32_t probability = ((uint32_t)model->fast + model->slow) >> 5;
    probability = probability < 1 ? 1 : probability > 4095 ? 4095 : probability;
    const uint32_t middle = state->low + ((state->high - state->low) >> 12) * probability;
    const uint32_t bit = state->code <= middle;
    if (bit) {
        state->high = middle;
    } else {
        state->low = middle + 1;
    }
    while ((state->low ^ state->high) >> 24 == 0) {
        state->low <<= 8;
        state->high = state->high << 8 | 255;
        state->code = state->code << 8 | next_byte(layer, state);
    }
    uint32_t rate = 1; /* floor(log2(count + 2)) */
    while (rate < SLOW_SHIFT && (model->count + 2u) >> (rate + 1) != 0) {
        rate += 1;
    }
    const uint32_t fast_shift = rate < FAST_SHIFT ? rate : FAST_SHIFT;
    model->fast =
        bit ? towards_one(model->fast, fast_shift) : towards_zero(model->fast, fast_shift);
    model->slow = bit ? towards_one(model->slow, rate) : towards_zero(model->slow, rate);
    model->count = (uint16_t)(model->count + (model->count < COUNT_LIMIT));
    return bit;
}

const int8_t *ec2t_range_decode_channel(ec2t_decoder *decoder) {
    const ec2t_layer *const layer = decoder->layer;
    range_state *const state = decoder->range;
    const int32_t inputs = layer->input_channels / layer->groups;
    const int32_t row = layer->kernel_width * inputs; /* taps of a kernel row */
    int8_t *const current = symbol_row(decoder, decoder->channel);
    const int8_t *const previous = symbol_row(decoder, decoder->channel + 1);
    for (int32_t i = 0; i < inputs; ++i) {
        for (int32_t y = 0; y < layer->kernel_height; ++y) {
            for (int32_t x = 0; x < layer->kernel_width; ++x) {
                const int32_t tap = y * row + x * inputs + i;
                const int32_t left = x > 0 ? current[tap - inputs] : 0;
                const int32_t up = y > 0 ? current[tap - row] : 0;
                const int32_t before = i > 0 ? current[tap - 1] : 0;
                const int32_t context =
                    (left != 0) + 2 * (up != 0) + 4 * (before != 0) + 8 * (previous[tap] != 0);
                int8_t symbol = 0;
                if (decode_bit(layer, state, &state->zero[context])) {
                    const int32_t signs = 3 * (left + 1) + up + 1;
                    symbol = decode_bit(layer, state, &state->sign[signs]) ? -1 : 1;
                }
                current[tap] = symbol;
            }
        }
    }
    return current;
}

int ec2t_range_has_ended(const ec2t_decoder *decoder) {
    const range_state *const state = decoder->range;
    return state->position >= decoder->layer->stream_size;
}
