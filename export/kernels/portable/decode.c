/* Decoders of the weight streams: symbols of one output channel at a time, as two lists of taps.
 * Every read is checked against the end of the stream and every symbol against the layer. */
#include <string.h>

#include "ec2t_layer.h"
#include "range_decoder.h"

/* The two lists of one channel growing towards each other in `taps`. They cannot meet: every tap is
 * listed at most once. */
typedef struct {
    uint16_t *taps;
    uint32_t size, plus, minus;
} tap_lists;

static void list_tap(tap_lists *lists, uint32_t tap, uint32_t is_minus) {
    if (is_minus) {
        lists->minus += 1;
        lists->taps[lists->size - lists->minus] = (uint16_t)tap;
    } else {
        lists->taps[lists->plus] = (uint16_t)tap;
        lists->plus += 1;
    }
}

/* Zero bits above the highest one bit; 32 for 0. */
static uint32_t leading_zeros(uint32_t value) {
#if defined(__GNUC__)
    return value == 0 ? 32 : (uint32_t)__builtin_clz(value);
#else
    uint32_t count = 0;
    for (; count < 32 && (value & 0x80000000u) == 0; ++count) {
        value <<= 1;
    }
    return count;
#endif
}

static uint32_t load_word(const uint8_t *stream, uint32_t index) {
    uint32_t word;
    memcpy(&word, stream + 4 * (size_t)index, sizeof word);
    return word;
}

static uint32_t symbol_count(const ec2t_layer *layer) {
    return (uint32_t)layer->taps * (uint32_t)layer->output_channels;
}

static uint32_t words_for_bits(uint32_t bits) {
    return bits / 32 + (bits % 32 != 0);
}

/* The exact stream size of the encodings that have one; otherwise any size passes here. */
static int stream_size_fits(const ec2t_layer *layer) {
    const uint32_t count = symbol_count(layer), size = layer->stream_size;
    switch (layer->encoding) {
    case EC2T_ENCODING_INT8: return size == count;
    case EC2T_ENCODING_TWO_BIT: return size == count / 4 + (count % 4 != 0);
    case EC2T_ENCODING_FIVE_TRITS: return size == count / 5 + (count % 5 != 0);
    case EC2T_ENCODING_BITMAP:
        return size % 4 == 0 && size / 4 == words_for_bits(count) + words_for_bits(layer->nonzeros);
    case EC2T_ENCODING_GAP8: return size >= layer->nonzeros;
    case EC2T_ENCODING_RICE: return size % 4 == 0;
    case EC2T_ENCODING_RANGE: return 1;
    }
    return 0;
}

size_t ec2t_decoder_get_buffer_size(const ec2t_layer *layer) {
    return layer->encoding == EC2T_ENCODING_RANGE ? ec2t_range_get_buffer_size(layer) : 0;
}

ec2t_status ec2t_decoder_init(ec2t_decoder *decoder, const ec2t_layer *layer, void *scratch,
                              size_t scratch_size) {
    if (decoder == NULL || layer == NULL) {
        return EC2T_ERROR_ARGUMENT;
    }
    if (scratch_size < ec2t_decoder_get_buffer_size(layer)) {
        return EC2T_ERROR_BUFFER;
    }
    if (layer->encoding == EC2T_ENCODING_INT8) {
        return EC2T_ERROR_UNSUPPORTED;
    }
    if (!stream_size_fits(layer)) {
        return EC2T_ERROR_STREAM;
    }
    memset(decoder, 0, sizeof *decoder);
    decoder->layer = layer;
    if (layer->encoding == EC2T_ENCODING_RANGE) {
        return ec2t_range_init(decoder, scratch);
    }
    return EC2T_OK;
}

static ec2t_status decode_two_bit(ec2t_decoder *decoder, tap_lists *lists) {
    const uint8_t *const stream = decoder->layer->stream;
    for (uint32_t tap = 0; tap < lists->size; ++tap) {
        const uint32_t at = decoder->position++;
        const uint32_t code = (uint32_t)stream[at / 4] >> (2 * (at % 4)) & 3u;
        if (code == 3) {
            return EC2T_ERROR_STREAM;
        }
        if (code != 0) {
            list_tap(lists, tap, code >> 1);
        }
    }
    return EC2T_OK;
}

/* `position` counts symbols; `bit` keeps the rest of the current byte, smallest digit first. */
static ec2t_status decode_five_trits(ec2t_decoder *decoder, tap_lists *lists) {
    const uint8_t *const stream = decoder->layer->stream;
    for (uint32_t tap = 0; tap < lists->size; ++tap) {
        const uint32_t at = decoder->position++;
        if (at % 5 == 0) {
            decoder->bit = stream[at / 5];
            if (decoder->bit > 242) {
                return EC2T_ERROR_STREAM;
            }
        }
        const uint32_t rest = decoder->bit / 3, digit = decoder->bit - 3 * rest;
        decoder->bit = rest;
        if (digit != 1) {
            list_tap(lists, tap, digit == 0);
        }
    }
    return EC2T_OK;
}

static ec2t_status decode_bitmap(ec2t_decoder *decoder, tap_lists *lists) {
    const ec2t_layer *const layer = decoder->layer;
    const uint8_t *const signs = layer->stream + 4 * (size_t)words_for_bits(symbol_count(layer));
    uint32_t tap = 0;
    while (tap < lists->size) {
        const uint32_t at = decoder->position + tap, used = at % 32;
        uint32_t width = 32 - used;
        if (width > lists->size - tap) {
            width = lists->size - tap;
        }
        uint32_t word = load_word(layer->stream, at / 32) << used;
        if (width < 32) {
            word &= ~(0xffffffffu >> width);
        }
        while (word != 0) {
            const uint32_t place = leading_zeros(word);
            word &= ~(0x80000000u >> place);
            if (decoder->sign == layer->nonzeros) {
                return EC2T_ERROR_STREAM;
            }
            const uint32_t sign = load_word(signs, decoder->sign / 32) >> (31 - decoder->sign % 32);
            decoder->sign += 1;
            list_tap(lists, tap + place, sign & 1u);
        }
        tap += width;
    }
    decoder->position += lists->size;
    return EC2T_OK;
}

/* A gap stream being read, and the place of its next non-zero: kept in a local while a channel is
 * decoded, so that compilers hold it in registers. */
typedef struct {
    const uint8_t *stream;
    uint32_t size;      /* gap8: bytes; rice: words */
    uint32_t parameter; /* rice */
    uint32_t position, bit;
    uint32_t zeros, minus; /* the gap just read */
} gap_reader;

static int read_gap8(gap_reader *reader) {
    uint32_t sum = 0;
    for (;;) {
        if (reader->position == reader->size) {
            return 0;
        }
        const uint32_t code = reader->stream[reader->position++];
        sum += code & 127u;
        if (code != 127) {
            reader->zeros = sum;
            reader->minus = code >> 7;
            return code != 255;
        }
        /* Stops a stream of escapes before the sum could wrap. */
        if (sum > INT32_MAX) {
            return 0;
        }
    }
}

/* The 32 bits from the reader's place on, zeros after the end of the stream. */
static uint32_t peek_bits(const gap_reader *reader) {
    const uint32_t at = reader->position;
    const uint32_t high = at < reader->size ? load_word(reader->stream, at) : 0;
    const uint32_t low = at + 1 < reader->size ? load_word(reader->stream, at + 1) : 0;
    return high << reader->bit | low >> 1 >> (31 - reader->bit);
}

static void skip_bits(gap_reader *reader, uint32_t count) {
    reader->bit += count;
    reader->position += reader->bit / 32;
    reader->bit %= 32;
}

/* Codes of more than 32 bits, and those at the end of the stream. */
static int read_rice_slowly(gap_reader *reader) {
    uint32_t quotient = 0, bits = peek_bits(reader);
    while (bits == 0) {
        /* The second bound keeps the quotient within its 32 bits. */
        if (reader->position >= reader->size || quotient > INT32_MAX) {
            return 0;
        }
        quotient += 32;
        skip_bits(reader, 32);
        bits = peek_bits(reader);
    }
    const uint32_t run = leading_zeros(bits);
    quotient += run;
    skip_bits(reader, run + 1);
    /* Remainder and sign: at most 16 bits. */
    bits = peek_bits(reader) >> (31 - reader->parameter);
    skip_bits(reader, reader->parameter + 1);
    if (reader->position > reader->size || (reader->position == reader->size && reader->bit != 0) ||
        quotient > (uint32_t)INT32_MAX >> reader->parameter) {
        return 0;
    }
    reader->zeros = (quotient << reader->parameter) + (bits >> 1);
    reader->minus = bits & 1u;
    return 1;
}

static int read_rice(gap_reader *reader) {
    if (reader->position + 1 >= reader->size) {
        return read_rice_slowly(reader);
    }
    const uint32_t high = load_word(reader->stream, reader->position);
    const uint32_t low = load_word(reader->stream, reader->position + 1);
    const uint32_t bits = high << reader->bit | low >> 1 >> (31 - reader->bit);
    const uint32_t run = leading_zeros(bits), length = run + reader->parameter + 2;
    if (length > 32) {
        return read_rice_slowly(reader);
    }
    const uint32_t code = bits >> (32 - length); /* 1, remainder, sign */
    reader->zeros =
        (run << reader->parameter) + ((code >> 1) & ((UINT32_C(1) << reader->parameter) - 1));
    reader->minus = code & 1u;
    skip_bits(reader, length);
    return 1;
}

/* Gaps run on over channel borders: the next non-zero waits in the decoder until its channel comes,
 * as its distance from the start of the current channel plus 1; NO_NEXT: there is none. */
#define NO_NEXT 0xffffffffu

static inline ec2t_status decode_gaps(ec2t_decoder *decoder, tap_lists *target,
                                      int (*read_gap)(gap_reader *)) {
    const ec2t_layer *const layer = decoder->layer;
    const int is_rice = layer->encoding == EC2T_ENCODING_RICE;
    tap_lists lists = *target;
    gap_reader reader = {
        .stream = layer->stream,
        .size = is_rice ? layer->stream_size / 4 : layer->stream_size,
        .parameter = layer->stream_parameter,
        .position = decoder->position,
        .bit = decoder->bit,
        .minus = decoder->next_minus,
    };
    const uint32_t remaining =
        symbol_count(layer) - (uint32_t)decoder->channel * (uint32_t)layer->taps;
    uint32_t next = decoder->next_plus, left = layer->nonzeros - decoder->decoded;
    ec2t_status status = EC2T_OK;
    if (decoder->channel == 0) {
        /* No place before the first tap: the loop below adds the first gap. */
        next = 0;
    }
    while (next <= lists.size) {
        if (next != 0) {
            list_tap(&lists, next - 1, reader.minus);
        }
        if (left == 0) {
            next = NO_NEXT;
            break;
        }
        /* Both sides are below 2^31, so the sum does not wrap. */
        if (!read_gap(&reader) || reader.zeros + next + 1 > remaining) {
            status = EC2T_ERROR_STREAM;
            break;
        }
        next += reader.zeros + 1;
        left -= 1;
    }
    decoder->next_plus = next == NO_NEXT ? NO_NEXT : next - lists.size;
    decoder->next_minus = reader.minus;
    decoder->position = reader.position;
    decoder->bit = reader.bit;
    decoder->decoded = layer->nonzeros - left;
    *target = lists;
    return status;
}

static ec2t_status decode_range(ec2t_decoder *decoder, tap_lists *lists) {
    const int8_t *const symbols = ec2t_range_decode_channel(decoder);
    for (uint32_t tap = 0; tap < lists->size; ++tap) {
        if (symbols[tap] != 0) {
            list_tap(lists, tap, symbols[tap] < 0);
        }
    }
    return EC2T_OK;
}

ec2t_status ec2t_decode_channel(ec2t_decoder *decoder, uint16_t *taps, uint32_t *plus_count,
                                uint32_t *minus_count) {
    if (decoder == NULL || taps == NULL || plus_count == NULL || minus_count == NULL ||
        decoder->channel >= decoder->layer->output_channels) {
        return EC2T_ERROR_ARGUMENT;
    }
    tap_lists lists = {taps, (uint32_t)decoder->layer->taps, 0, 0};
    ec2t_status status = EC2T_ERROR_UNSUPPORTED;
    switch (decoder->layer->encoding) {
    case EC2T_ENCODING_TWO_BIT: status = decode_two_bit(decoder, &lists); break;
    case EC2T_ENCODING_FIVE_TRITS: status = decode_five_trits(decoder, &lists); break;
    case EC2T_ENCODING_BITMAP: status = decode_bitmap(decoder, &lists); break;
    case EC2T_ENCODING_GAP8: status = decode_gaps(decoder, &lists, read_gap8); break;
    case EC2T_ENCODING_RICE: status = decode_gaps(decoder, &lists, read_rice); break;
    case EC2T_ENCODING_RANGE: status = decode_range(decoder, &lists); break;
    case EC2T_ENCODING_INT8: break;
    }
    if (decoder->layer->encoding != EC2T_ENCODING_GAP8 &&
        decoder->layer->encoding != EC2T_ENCODING_RICE) {
        decoder->decoded += lists.plus + lists.minus;
    }
    decoder->channel += 1;
    *plus_count = lists.plus;
    *minus_count = lists.minus;
    return status;
}

ec2t_status ec2t_decode_finish(const ec2t_decoder *decoder) {
    if (decoder == NULL) {
        return EC2T_ERROR_ARGUMENT;
    }
    const ec2t_layer *const layer = decoder->layer;
    const uint32_t count = symbol_count(layer), size = layer->stream_size;
    if (decoder->channel != layer->output_channels) {
        return EC2T_ERROR_ARGUMENT;
    }
    int ended = decoder->decoded == layer->nonzeros;
    switch (layer->encoding) {
    case EC2T_ENCODING_TWO_BIT:
        ended = ended && (count % 4 == 0 || layer->stream[size - 1] >> (2 * (count % 4)) == 0);
        break;
    case EC2T_ENCODING_FIVE_TRITS: {
        /* What is left of the last byte are digits 1: (3^left - 1) / 2. */
        static const uint8_t fill[5] = {0, 40, 13, 4, 1};
        ended = ended && decoder->bit == fill[count % 5];
        break;
    }
    case EC2T_ENCODING_BITMAP: {
        const uint32_t map_words = words_for_bits(count);
        const uint32_t signs = layer->nonzeros;
        ended = ended && decoder->sign == signs &&
                (count % 32 == 0 || load_word(layer->stream, map_words - 1) << (count % 32) == 0) &&
                (signs % 32 == 0 || load_word(layer->stream, size / 4 - 1) << (signs % 32) == 0);
        break;
    }
    case EC2T_ENCODING_GAP8: ended = ended && decoder->position == size; break;
    case EC2T_ENCODING_RICE: {
        const uint32_t words = decoder->position + (decoder->bit != 0);
        ended =
            ended && words == size / 4 &&
            (decoder->bit == 0 || load_word(layer->stream, decoder->position) << decoder->bit == 0);
        break;
    }
    case EC2T_ENCODING_RANGE: ended = ended && ec2t_range_has_ended(decoder); break;
    case EC2T_ENCODING_INT8: break;
    }
    return ended ? EC2T_OK : EC2T_ERROR_STREAM;
}

/* A list of taps, kept at an even size so that what follows it stays aligned. */
static size_t tap_list_size(const ec2t_layer *layer) {
    return ((size_t)layer->taps + 1) / 2 * 4;
}

size_t ec2t_decode_weights_get_buffer_size(const ec2t_layer *layer) {
    if (layer->encoding == EC2T_ENCODING_INT8) {
        return 0;
    }
    return tap_list_size(layer) + ec2t_decoder_get_buffer_size(layer);
}

static ec2t_status copy_int8(const ec2t_layer *layer, int8_t *weights) {
    const uint32_t count = symbol_count(layer);
    if (!stream_size_fits(layer)) {
        return EC2T_ERROR_STREAM;
    }
    uint32_t nonzeros = 0;
    for (uint32_t i = 0; i < count; ++i) {
        const int8_t weight = (int8_t)layer->stream[i];
        if (weight == -128) {
            return EC2T_ERROR_STREAM;
        }
        weights[i] = weight;
        nonzeros += weight != 0;
    }
    return nonzeros == layer->nonzeros ? EC2T_OK : EC2T_ERROR_STREAM;
}

ec2t_status ec2t_decode_weights(const ec2t_layer *layer, int8_t *weights, void *scratch,
                                size_t scratch_size) {
    if (layer == NULL || weights == NULL) {
        return EC2T_ERROR_ARGUMENT;
    }
    if (scratch_size < ec2t_decode_weights_get_buffer_size(layer)) {
        return EC2T_ERROR_BUFFER;
    }
    if (layer->encoding == EC2T_ENCODING_INT8) {
        return copy_int8(layer, weights);
    }
    if (scratch == NULL) {
        return EC2T_ERROR_ARGUMENT;
    }
    if ((uintptr_t)scratch % 4 != 0) {
        return EC2T_ERROR_UNALIGNED;
    }
    uint16_t *const taps = scratch;
    const size_t list_size = tap_list_size(layer);
    ec2t_decoder decoder;
    ec2t_status status = ec2t_decoder_init(&decoder, layer, (uint8_t *)scratch + list_size,
                                           scratch_size - list_size);
    memset(weights, 0, symbol_count(layer));
    for (int32_t channel = 0; status == EC2T_OK && channel < layer->output_channels; ++channel) {
        uint32_t plus_count, minus_count;
        status = ec2t_decode_channel(&decoder, taps, &plus_count, &minus_count);
        if (status != EC2T_OK) {
            break;
        }
        int32_t plus, minus;
        ec2t_layer_values(layer, channel, &plus, &minus);
        int8_t *const row = weights + (size_t)channel * (size_t)layer->taps;
        for (uint32_t i = 0; i < plus_count; ++i) {
            row[taps[i]] = (int8_t)plus;
        }
        for (uint32_t i = 1; i <= minus_count; ++i) {
            row[taps[(uint32_t)layer->taps - i]] = (int8_t)minus;
        }
    }
    return status == EC2T_OK ? ec2t_decode_finish(&decoder) : status;
}
