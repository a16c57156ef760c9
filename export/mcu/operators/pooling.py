"""Windows over rows and columns, and the mean of whole maps."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from ec2t_tf.export.graph import FileError, Operator

from ..arithmetic import mean_multiplier, same_padding
from ..code import Code, Names, struct
from ..code import clamp as clamp_of
from ..limits import MOST_STEP, beyond
from ..step import Step
from ..work import Window
from .fully_connected import spread

if TYPE_CHECKING:
    from ..lowering import Lowering

MOST_WORD_MEAN = 255  # values whose sum is within 16 bits
MOST_VECTOR_MEAN = 22  # values whose mean Helium takes by a reciprocal


def paddings(op: Operator) -> tuple[str, str]:
    """Of rows and of columns: "same" or "valid". Files have one of them for both, strips of a map
    (strips.py) a pair."""
    padding = op.options["padding"]
    return padding if isinstance(padding, tuple) else (padding, padding)


def pool(net: Lowering, op: Operator) -> None:
    source, target = net.plain(net.activation(op, 0)), op.outputs[0]
    layout = net.layouts[source]
    o = op.options
    out = net.define(target)
    sizes, outs = (layout.height, layout.width), (out.height, out.width)
    strides, kernels = o["stride"], o["size"]
    if min(*strides, *kernels) < 1 or max(*strides, *kernels) > MOST_STEP:
        raise beyond(op.kind, f"window {kernels}, strides {strides}")
    pads = []
    for axis, padding in enumerate(paddings(op)):
        if padding == "same":
            expected = -(-sizes[axis] // strides[axis])
            pads.append(same_padding(sizes[axis], outs[axis], kernels[axis], strides[axis], 1))
        else:
            expected = (sizes[axis] - kernels[axis]) // strides[axis] + 1
            pads.append((0, 0))
        if expected != outs[axis] or expected < 1 or out.channels != layout.channels:
            raise FileError(f"{op.kind}: output shape does not follow from the input's.")
    clamp = net.clamp(op, net.graph.tensors[target])
    kind = int(op.kind == "MAX_POOL_2D")
    inside = all(
        pad == (0, 0) and (o - 1) * stride + k <= size
        for pad, o, stride, k, size in zip(pads, outs, strides, kernels, sizes, strict=True)
    )
    facts = Window(kernels, strides[1], bool(kind))
    run, source_file = _kernel(net.core.family, facts, inside, kernels == sizes, outs[1])

    def reads(_: int) -> int:
        """Helium reads eight windows at once, words four columns, whatever is left of a row."""
        last = (layout.channels - 1) * layout.plane + (sizes[0] - 1) * layout.pitch
        more = {"pool_helium.c": 7 * strides[1], "pool_words.c": 3}.get(source_file)
        return last + (outs[1] - 1) * strides[1] + kernels[1] + more if more else 0

    def emit(names: Names) -> Code:
        n = names.index
        return Code(
            [
                struct(
                    "pool",
                    f"layer_{n}",
                    {
                        "in": layout.c(),
                        "out": out.c(),
                        "height": kernels[0],
                        "width": kernels[1],
                        "stride_y": strides[0],
                        "stride_x": strides[1],
                        "pad_y": pads[0][0],
                        "pad_x": pads[1][0],
                        "maximum": kind,
                        "clamp": clamp,
                    },
                )
            ],
            [f"ec2t_mcu_{run}_run(&layer_{n}, {names.inputs[0]}, {names.output});"],
            60,
        )

    name = f"{'max' if kind else 'average'} pool {kernels[0]}x{kernels[1]}"
    sources = (source_file, "layout.c")
    net.steps.append(
        Step(name, sources, (source,), target, emit, reads=reads, by_planes=True, facts=facts)
    )


def _kernel(
    family: str, window: Window, inside: bool, whole: bool, columns: int
) -> tuple[str, str]:
    """Function and file. `inside`: no window goes beyond the input; `whole`: one window covers it;
    `columns`: of the output."""
    maximum, values = window.maximum, prod(window.size)
    if not inside:
        return "pool", "pool.c"
    if family == "helium" and (maximum or whole or 2 <= values <= MOST_VECTOR_MEAN):
        return "pool_helium", "pool_helium.c"
    neighbours = window.stride <= 2 and columns > 1
    if family == "dsp" and neighbours and (maximum or values <= MOST_WORD_MEAN):
        return ("pool_maxima" if maximum else "pool_means"), "pool_words.c"
    return "pool_inside", "pool_inside.c"


def mean_of_maps(net: Lowering, op: Operator, source: int) -> None:
    """MEAN over rows and columns."""
    target, tensors = op.outputs[0], net.graph.tensors
    layout, out = net.layouts[source], net.define(target)
    scale_in, zero_in = net.quantisation(tensors[source])
    scale_out, zero_out = net.quantisation(tensors[target])
    elements = layout.height * layout.width
    real = float(scale_in) / float(scale_out)
    multiplier, shift = mean_multiplier(real, elements)
    function = f"ec2t_mcu_mean_{'helium_' if net.core.family == 'helium' else ''}run"

    def emit(names: Names) -> Code:
        n = names.index
        code = Code(
            [
                struct(
                    "mean",
                    f"layer_{n}",
                    {
                        "in": layout.c(),
                        "bias": -zero_in * elements,
                        "multiplier": multiplier,
                        "shift": shift,
                        "clamp": clamp_of(zero_out),
                    },
                )
            ],
            [f"{function}(&layer_{n}, {names.inputs[0]}, {names.output});"],
            40,
        )
        spread(code, out, names)
        return code

    sources = ("pool.c", "pool_helium.c", "layout.c")
    net.steps.append(Step("mean", sources, (source,), target, emit))


OPERATORS = {"AVERAGE_POOL_2D": pool, "MAX_POOL_2D": pool}
