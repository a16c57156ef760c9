/* x86: fitted to the shortest times of single layers of the test nets, option `profile` against
 * XNNPACK, AMD Zen 3, one thread. arm64 and the processors that were not at hand: estimates from
 * published instruction counts of XNNPACK int8, not fits; they err on the side of dense. */
#include "cost.h"

#if defined(__x86_64__)
#include <cpuid.h>
#elif defined(__aarch64__) && defined(__linux__)
#include <sys/auxv.h>
#endif

typedef enum { MACHINE_PLAIN, MACHINE_DOT, MACHINE_MATRIX } machine_class;

#if defined(__aarch64__)
static const ec2t_costs COSTS[] = {
    [MACHINE_PLAIN] = {"arm64", 0.27f, 0.9f, 5.0f, 2000, 0.20f, 0.12f, 1.5f, 1.4f, 60, 0.4f, 1.2f,
                       1.2f, 2000},
    [MACHINE_DOT] = {"arm64, dot product", 0.085f, 0.6f, 5.0f, 2000, 0.20f, 0.12f, 1.5f, 1.4f, 60,
                     0.4f, 1.2f, 1.2f, 2000},
    [MACHINE_MATRIX] = {"arm64, i8mm", 0.016f, 0.6f, 5.0f, 2000, 0.20f, 0.12f, 1.5f, 1.4f, 60, 0.4f,
                        1.2f, 1.2f, 2000},
};
#else
static const ec2t_costs COSTS[] = {
    [MACHINE_PLAIN] = {"x86, AVX2", 0.025f, 0.4f, 0.5f, 400, 0.022f, 0.055f, 0.8f, 0.245f, 150,
                       0.06f, 0.3f, 0.15f, 3000},
    [MACHINE_DOT] = {"x86, VNNI", 0.007f, 0.2f, 0.4f, 400, 0.022f, 0.055f, 0.8f, 0.245f, 150, 0.06f,
                     0.3f, 0.15f, 3000},
    [MACHINE_MATRIX] = {"x86, AMX", 0.003f, 0.15f, 0.4f, 400, 0.022f, 0.055f, 0.8f, 0.245f, 150,
                        0.06f, 0.3f, 0.15f, 3000},
};
#endif

static machine_class machine_here(void) {
#if defined(__x86_64__)
    unsigned a = 0, b = 0, c = 0, d = 0;
    machine_class machine = MACHINE_PLAIN;
    if (__get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 4 & 1)) { /* AVX-VNNI */
        machine = MACHINE_DOT;
    }
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d)) {
        if (c >> 11 & 1) { /* AVX512-VNNI */
            machine = MACHINE_DOT;
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
    const int32_t vector = 16;
    const int32_t pixels = output->height * output->width;
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
    cost += costs->sparse_output * at * (float)output->channels;
    if (layer->op == EC2T_DEPTHWISE_CONV_2D) {
        cost += costs->plane * (float)input->batch * (float)input->channels;
    }
    return cost;
}

float ec2t_cost_dense(const ec2t_costs *costs, const ec2t_layer *layer, const ec2t_extent *output) {
    const float outputs = elements(output);
    if (layer->op == EC2T_DEPTHWISE_CONV_2D) {
        return costs->dense_node + costs->depthwise_output * outputs * (float)layer->taps / 9.0f;
    }
    return costs->dense_node +
           outputs * (costs->dense_output + costs->dense_mac * (float)layer->taps);
}
