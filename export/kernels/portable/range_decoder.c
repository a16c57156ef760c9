/* Adaptive binary range decoder with neighbour contexts: export/formats/FORMAT.md, "The range
 * coder". */
#include "range_decoder.h"

#include "range_bits.h"

enum { ZERO_CONTEXTS = 16, SIGN_CONTEXTS = 9 };

typedef struct {
    ec2t_bit_reader reader;
    ec2t_bit_model zero[ZERO_CONTEXTS], sign[SIGN_CONTEXTS];
    /* Then two rows of symbols in tap order: the current channel's and the previous one's. */
} range_state;

size_t ec2t_range_get_buffer_size(const ec2t_layer *layer) {
    return sizeof(range_state) + 2 * (size_t)layer->taps;
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
    ec2t_bits_start(&state->reader, layer->stream, layer->stream_size);
    const uint64_t count = (uint64_t)layer->taps * (uint64_t)layer->output_channels;
    const uint16_t initial = ec2t_bits_initial(layer->nonzeros, count);
    for (int i = 0; i < ZERO_CONTEXTS; ++i) {
        state->zero[i] = (ec2t_bit_model){initial, initial, 0};
    }
    for (int i = 0; i < SIGN_CONTEXTS; ++i) {
        state->sign[i] = EC2T_EVEN;
    }
    int8_t *const previous = symbol_row(decoder, 1);
    for (int32_t i = 0; i < layer->taps; ++i) {
        previous[i] = 0;
    }
    return EC2T_OK;
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
                if (ec2t_bits_next(&state->reader, layer->stream, &state->zero[context],
                                   EC2T_QUICK)) {
                    const int32_t signs = 3 * (left + 1) + up + 1;
                    symbol = ec2t_bits_next(&state->reader, layer->stream, &state->sign[signs],
                                            EC2T_QUICK)
                                 ? -1
                                 : 1;
                }
                current[tap] = symbol;
            }
        }
    }
    return current;
}

int ec2t_range_has_ended(const ec2t_decoder *decoder) {
    const range_state *const state = decoder->range;
    return ec2t_bits_ended(&state->reader);
}
