/* Private: a copy of the vector kernels' inner loops for each number of blocks, size of offset and
 * requantisation. The includer defines `run_channels`, `planar_element`, PLANAR_GRAIN and
 * PLANAR_TARGET. */

#define TILE_CASE(blocks, wide, fp32)                                                              \
    case PLANAR_GRAIN *(blocks) + 2 * (wide) + (fp32):                                             \
        run_channels(conv, first, last, base, count, output, pitch, blocks, wide, fp32);           \
        break;
#define TILE_CASES(blocks)                                                                         \
    TILE_CASE(blocks, 0, 0)                                                                        \
    TILE_CASE(blocks, 0, 1)                                                                        \
    TILE_CASE(blocks, 1, 0)                                                                        \
    TILE_CASE(blocks, 1, 1)

PLANAR_TARGET static void planar_tiles(const ec2t_planar_conv2d *conv, int32_t first, int32_t last,
                                       const planar_element *base, int32_t size, int32_t count,
                                       int8_t *output, size_t pitch) {
    const int wide = conv->offset_size == 4, fp32 = conv->requant.mode == EC2T_REQUANT_FP32;
    switch (size + 2 * wide + fp32) {
        TILE_CASES(1)
        TILE_CASES(2)
        TILE_CASES(3)
        TILE_CASES(4)
    }
}
