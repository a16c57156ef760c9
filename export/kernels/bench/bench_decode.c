/* Counts, for qemu_count_plugin.c, the instructions of decoding blobs channel by channel.
 *
 * Input: u32 blob size and the blob, repeated. Marks: an empty pair first, then a pair per blob. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "bench.h"
#include "ec2t_layer.h"

int main(void) {
    MARK_BEGIN();
    MARK_END();
    uint32_t size;
    while (fread(&size, sizeof size, 1, stdin) == 1) {
        void *const blob = allocate(size);
        ec2t_layer layer;
        if (fread(blob, 1, size, stdin) != size ||
            ec2t_layer_parse(blob, size, &layer) != EC2T_OK) {
            fail("a blob does not parse");
        }
        const size_t scratch_size = ec2t_decoder_get_buffer_size(&layer);
        void *const scratch = allocate(scratch_size);
        uint16_t *const taps = allocate(2 * (size_t)layer.taps);
        ec2t_decoder decoder;
        MARK_BEGIN();
        ec2t_status status = ec2t_decoder_init(&decoder, &layer, scratch, scratch_size);
        for (int32_t o = 0; status == EC2T_OK && o < layer.output_channels; ++o) {
            uint32_t plus, minus;
            status = ec2t_decode_channel(&decoder, taps, &plus, &minus);
        }
        MARK_END();
        if (status != EC2T_OK || ec2t_decode_finish(&decoder) != EC2T_OK) {
            fail("a blob does not decode");
        }
        free(taps);
        free(scratch);
        free(blob);
    }
    return 0;
}
