/* x86: fitted to the shortest times of single layers of the test nets, option `profile` against
 * XNNPACK, AMD Zen 3, one thread. arm64 without and with dot product: fitted to instructions of
 * single layers of the test nets in QEMU. AVX-512 VNNI: such that no test net is slower than in
 * XNNPACK on an AMD EPYC that has it. The processors that were not at hand: estimates, which err on
 * the side of dense. */
#include "cost.h"

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

typedef enum { MACHINE_PLAIN, MACHINE_DOT, MACHINE_WIDE_DOT, MACHINE_MATRIX } machine_class;

#if defined(__aarch64__)
#define SPARSE                                                                                     \
    .sparse_tap = 0.18f, .sparse_lowered = 0.25f, .sparse_strided = 0.2f, .sparse_row = 160,       \
    .sparse_output = 1.75f, .sparse_channel = 190, .plane = 600, .byte_turned = 0.42f,             \
    .byte_turned_alone = 5, .byte_added = 1.2f, .byte_added_dense = 1.2f, .partition = 4000,       \
    .dense_lanes = 16
static const ec2t_costs COSTS[] = {
    [MACHINE_PLAIN] = {"arm64", .dense_mac = 0.25f, .dense_output = 5.0f, .depthwise_output = 7.2f,
                       .dense_node = 2000, SPARSE},
    [MACHINE_DOT] = {"arm64, dot product", .dense_mac = 0.085f, .dense_output = 3.0f,
                     .depthwise_output = 7.2f, .dense_node = 2000, SPARSE},
    [MACHINE_MATRIX] = {"arm64, i8mm", .dense_mac = 0.016f, .dense_output = 1.0f,
                        .depthwise_output = 5.0f, .dense_node = 2000, SPARSE},
};
#else
#define SPARSE                                                                                     \
    .sparse_tap = 0.022f, .sparse_lowered = 0.055f, .sparse_strided = 0.8f, .sparse_row = 0,       \
    .sparse_output = 0.245f, .sparse_channel = 0, .plane = 150, .byte_turned = 0.06f,              \
    .byte_turned_alone = 0.1f, .byte_added = 0.3f, .byte_added_dense = 0.15f, .partition = 3000,   \
    .dense_lanes = 8
static const ec2t_costs COSTS[] = {
    [MACHINE_PLAIN] = {"x86, AVX2", .dense_mac = 0.025f, .dense_output = 0.4f,
                       .depthwise_output = 0.5f, .dense_node = 400, SPARSE},
    [MACHINE_DOT] = {"x86, VNNI", .dense_mac = 0.007f, .dense_output = 0.2f,
                     .depthwise_output = 0.4f, .dense_node = 400, SPARSE},
    [MACHINE_WIDE_DOT] = {"x86, AVX-512 VNNI", .dense_mac = 0.0025f, .dense_output = 0.1f,
                          .depthwise_output = 0.2f, .dense_node = 300, SPARSE},
    [MACHINE_MATRIX] = {"x86, AMX", .dense_mac = 0.003f, .dense_output = 0.15f,
                        .depthwise_output = 0.4f, .dense_node = 400, SPARSE},
};
#endif
#undef SPARSE

static machine_class machine_here(void) {
#if defined(__x86_64__)
    unsigned a = 0, b = 0, c = 0, d = 0;
    machine_class machine = MACHINE_PLAIN;
    if (__get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 4 & 1)) { /* AVX-VNNI */
        machine = MACHINE_DOT;
    }
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d)) {
        if (c >> 11 & 1) { /* AVX512-VNNI */
            machine = MACHINE_WIDE_DOT;
        }
        if (d >> 25 & 1) { /* AMX-INT8 */
            machine = MACHINE_MATRIX;
        }
    }
    return machine;
#elif defined(__aarch64__) && defined(__linux__)
    const unsigned long dot = 1ul << 20, i8mm = 1ul << 13, sme = 1ul << 23;
    if (getauxval(AT_HWCAP2) & (i8mm | sme)) {
        return MACHINE_MATRIX;
    }
    return getauxval(AT_HWCAP) & dot ? MACHINE_DOT : MACHINE_PLAIN;
#elif defined(__aarch64__)
    return MACHINE_MATRIX; /* Apple: all of them but the oldest have it */
#else
    return MACHINE_PLAIN;
#endif
}

const ec2t_costs *ec2t_costs_here(void) {
    return &COSTS[machine_here()];
}

static float elements(const ec2t_extent *extent) {
    return (float)extent->batch * (float)extent->height * (float)extent->width *
           (float)extent->channels;
}

/* Positions that the planar kernels compute for one channel: whole vectors of them. */
static float positions(const ec2t_extent *output) {
    const int64_t vector = 16;
    const int64_t pixels = (int64_t)output->height * output->width;
    return (float)output->batch * (float)((pixels + vector - 1) / vector * vector);
}

float ec2t_cost_sparse(const ec2t_costs *costs, const ec2t_layer *layer, const ec2t_extent *input,
                       const ec2t_extent *output) {
    const float at = positions(output);
    const float planes = (float)input->channels * (float)layer->kernel_width;
    const bool strided = layer->stride_width > 1;
    const float rows = (float)(layer->kernel_height + layer->stride_height - 1) /
                       (float)layer->stride_height; /* of the input that an output row reads anew */
    float cost = costs->sparse_tap * (float)layer->nonzeros * at;
    cost += (strided ? costs->sparse_strided : costs->sparse_lowered) * planes * at *
            (rows < 2 ? rows : 1.0f);
    if (strided) {
        const float whole_vectors = output->width % 16 == 0 ? 0.25f : 1.0f;
        cost += costs->sparse_row * whole_vectors * planes * (float)output->height;
    }
    cost += costs->sparse_output * at * (float)output->channels;
    cost += costs->sparse_channel * (float)output->batch * (float)output->channels;
    if (layer->op == EC2T_DEPTHWISE_CONV_2D) {
        cost += costs->plane * (float)input->batch * (float)input->channels;
    }
    return cost;
}

static float rounded_up(int32_t count, int32_t multiple) {
    return (float)((count + multiple - 1) / multiple * multiple);
}

float ec2t_cost_dense(const ec2t_costs *costs, const ec2t_layer *layer, const ec2t_extent *output) {
    const float outputs = elements(output);
    if (layer->op == EC2T_DEPTHWISE_CONV_2D) {
        return costs->dense_node + costs->depthwise_output * outputs * (float)layer->taps / 9.0f;
    }
    /* XNNPACK fills up input channels to eight and output channels to a vector. */
    const float inputs = rounded_up(layer->input_channels / layer->groups, 8);
    const float lanes = rounded_up(layer->output_channels, (int32_t)costs->dense_lanes) /
                        (float)layer->output_channels;
    const float taps = (float)layer->kernel_height * (float)layer->kernel_width * inputs;
    return costs->dense_node + outputs * lanes * (costs->dense_output + costs->dense_mac * taps);
}
