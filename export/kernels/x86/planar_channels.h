/* Private: the channels of a tile in the AVX2 and AVX-512 planar kernels. The includer defines
 * `tiles_in_registers` and PLANAR_GRAIN. */

ALWAYS_INLINE void run_channels(const ec2t_planar_conv2d *conv, int32_t first, int32_t last,
                                const int16_t *base, int32_t count, int8_t *output, size_t pitch,
                                int blocks, int wide, int fp32) {
    for (int32_t o = first; o < last; ++o, output += pitch) {
        const ec2t_planar_channel *const channel = &conv->channels[o];
        const int32_t entry = o * conv->requant.channel_stride;
        if (channel->plus_count <= CHUNK && channel->minus_count <= CHUNK) {
            tiles_in_registers(conv, channel, entry, base, count, output, blocks, wide, fp32);
        } else {
            tiles_in_chunks(conv, channel, entry, base, PLANAR_GRAIN * blocks, count, output);
        }
    }
}
