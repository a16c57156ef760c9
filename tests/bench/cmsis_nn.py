"""CMSIS-NN as a yardstick: its sources out of the installed pip package `bakenn`, called from a
program generated from the same .tflite file.

Only compiled at bench time; nothing of it is kept in this repository. Additions, means and
reshapes, for which the package has no sources or which cost nothing, are not part of the program.
"""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path

import numpy as np

from ec2t_tf.export.mcu.arithmetic import activation_range, quantised_multiplier, same_padding
from tests.bench import numbers as graph_module
from tests.bench import qemu
from tests.bench.numbers import ACTIVATIONS, Graph, Operator

_COUNTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "AVERAGE_POOL_2D", "MAX_POOL_2D")


def root() -> Path | None:
    """The folder that holds `cmsis_nn/` and `cmsis_core/`, or None without `bakenn`."""
    spec = importlib.util.find_spec("bakenn")
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent / "backend" / "cmsis_nn" / "vendor"


def layer_counts(model: bytes, core: str, folder: Path) -> dict[int, qemu.Count]:
    """Counts of every convolution, fully connected layer and pool, by operator number.

    Inputs are zeros: CMSIS-NN's instruction count does not depend on the values.
    """
    found = root()
    if found is None:
        raise RuntimeError("the CMSIS-NN yardstick needs the package bakenn: pip install bakenn")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "string.h").write_text(qemu.STRING_H)
    (folder / "math.h").write_text("")  # included, not used; not every toolchain has it
    net = graph_module.read(model)
    numbers = [i for i, op in enumerate(net.operators) if op.kind in _COUNTED]
    pieces = [_call(net, net.operators[i], i) for i in numbers]
    program = folder / f"yardstick-{hashlib.sha256(model).hexdigest()[:16]}.c"
    program.write_text(
        '#include "arm_nnfunctions.h"\n#include "semihost.h"\n'
        "static int8_t input[1 << 17], output[1 << 17];\n"
        "static int8_t scratch[1 << 16] __attribute__((aligned(8)));\n"
        + "\n".join(declaration for declaration, _ in pieces)
        + "\nint main(void) {\n  arm_cmsis_nn_status status;\n"
        + "\n".join(call for _, call in pieces)
        + "\n  return 0;\n}\n"
    )
    sources = sorted((found / "cmsis_nn" / "Source").rglob("*.c"))
    include = [found / "cmsis_nn" / "Include", found / "cmsis_core" / "Include", folder]
    image = qemu.build(
        core, [], folder, include=include, yardstick=[program, *sources], name="yardstick"
    )
    run = qemu.run(core, image.path, folder=folder)
    if run.status or len(run.counts) != len(numbers):
        raise RuntimeError(f"the yardstick on {core} returned {run.status}: {run.text}")
    return dict(zip(numbers, run.counts, strict=True))


def _call(net: Graph, op: Operator, n: int) -> tuple[str, str]:
    source, target = net.tensors[op.inputs[0]], net.tensors[op.outputs[0]]
    declarations = []

    def array(kind: str, name: str, values: np.ndarray) -> str:
        flat = ",".join(map(str, np.asarray(values).reshape(-1).tolist()))
        declarations.append(f"static const {kind} {name}_{n}[] = {{{flat}}};")
        return f"{name}_{n}"

    def dims(shape: tuple[int, ...]) -> str:
        return f"&(cmsis_nn_dims){{{','.join(map(str, shape))}}}"

    scale_out = target.scale[0]
    low, high = activation_range(
        ACTIVATIONS[int(op.options["activation"])], scale_out, int(target.zero_point[0])
    )
    offsets = f"{-int(source.zero_point[0])}, {int(target.zero_point[0])}"
    clamp = f"{{{low}, {high}}}"
    context = "&(cmsis_nn_context){scratch, sizeof scratch}"
    o = op.options
    if op.kind == "FULLY_CONNECTED":
        filters, bias = (net.tensors[i] for i in op.inputs[1:3])
        assert filters.data is not None
        assert bias.data is not None
        real = float(source.scale[0]) * float(filters.scale[0]) / float(scale_out)
        m, s = quantised_multiplier(real)
        rows, columns = filters.shape
        w = array("int8_t", "weights", filters.data)
        b = array("int32_t", "bias", bias.data)
        low_offset, out_offset = offsets.split(", ")
        call = (
            f"arm_fully_connected_s8({context}, &(cmsis_nn_fc_params){{{low_offset}, 0, "
            f"{out_offset}, {clamp}}}, &(cmsis_nn_per_tensor_quant_params){{{m}, {s}}}, "
            f"{dims((1, 1, 1, columns))}, input, {dims((columns, 1, 1, rows))}, {w}, "
            f"{dims((1, 1, 1, rows))}, {b}, {dims((1, 1, 1, rows))}, output)"
        )
    else:
        strides = int(o["stride_h"]), int(o["stride_w"])
        _, ih, iw, ic = source.shape
        _, oh, ow, oc = target.shape
        pool = op.kind.endswith("POOL_2D")
        if pool:
            kernel = int(o["filter_h"]), int(o["filter_w"])
        else:
            filters, bias = (net.tensors[i] for i in op.inputs[1:3])
            kernel = filters.shape[1], filters.shape[2]
        pads = [
            same_padding(size, out, k, s, 1)[0] if o["padding"] == 0 else 0
            for size, out, k, s in zip((ih, iw), (oh, ow), kernel, strides, strict=True)
        ]
        tiles = f"{{{strides[1]}, {strides[0]}}}, {{{pads[1]}, {pads[0]}}}"
        ins, outs = dims((1, ih, iw, ic)), dims((1, oh, ow, oc))
        if pool:
            name = "arm_avgpool_s8" if op.kind.startswith("AVERAGE") else "arm_max_pool_s8"
            call = (
                f"{name}({context}, &(cmsis_nn_pool_params){{{tiles}, {clamp}}}, {ins}, input, "
                f"{dims((1, *kernel, ic))}, {outs}, output)"
            )
        else:
            assert filters.data is not None
            assert bias.data is not None
            scales = np.broadcast_to(filters.scale, (oc,)).astype(float)
            pairs = [
                quantised_multiplier(float(source.scale[0]) * v / float(scale_out)) for v in scales
            ]
            m = array("int32_t", "multiplier", np.array([p[0] for p in pairs]))
            s = array("int32_t", "shift", np.array([p[1] for p in pairs]))
            w = array("int8_t", "weights", filters.data)
            b = array("int32_t", "bias", bias.data)
            depthwise = op.kind == "DEPTHWISE_CONV_2D"
            multiplier = f"{oc // ic}, " if depthwise else ""
            kind = "dw_conv" if depthwise else "conv"
            function = "depthwise_conv" if depthwise else "convolve"
            shape = (1, *kernel, oc) if depthwise else (oc, *kernel, ic)
            call = (
                f"arm_{function}_wrapper_s8({context}, &(cmsis_nn_{kind}_params){{{offsets}, "
                f"{multiplier}{tiles}, {{1, 1}}, {clamp}}}, "
                f"&(cmsis_nn_per_channel_quant_params){{(int32_t *){m}, (int32_t *){s}}}, {ins}, "
                f"input, {dims(shape)}, {w}, {dims((1, 1, 1, oc))}, {b}, {outs}, output)"
            )
    statement = (
        f"  EC2T_COUNT_BEGIN();\n  status = {call};\n  EC2T_COUNT_END();\n"
        f"  if (status != ARM_CMSIS_NN_SUCCESS) return {n + 1};"
    )
    return "\n".join(declarations), statement
