"""SOFTMAX over the last dimension."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ec2t_tf.export.graph import FileError, Operator

from .. import walks
from ..arithmetic import softmax_powers
from ..code import Code, Names, array
from ..plan import Layout
from ..step import Step

if TYPE_CHECKING:
    from ..lowering import Lowering

MOST_CHANNELS = 4095  # their sum, 2^19 each at most, stays below 2^31


def softmax(net: Lowering, op: Operator) -> None:
    source, target = net.plain(net.activation(op, 0)), op.outputs[0]
    tensors = net.graph.tensors
    shape = tensors[source].shape
    scale_out, zero_out = net.quantisation(tensors[target])
    if (
        shape != tensors[target].shape
        or shape[-1] > MOST_CHANNELS
        or (float(scale_out), zero_out) != (1 / 256, -128)
    ):
        raise FileError(
            f"SOFTMAX needs at most {MOST_CHANNELS} channels, output scale 1/256 and zero point "
            f"-128. Received: shape {shape}, {scale_out}, {zero_out}."
        )
    scale_in, _ = net.quantisation(tensors[source])
    powers = softmax_powers(float(scale_in), float(op.options["beta"]))
    layout, out = net.layouts[source], net.define(target)

    def emit(names: Names) -> Code:
        n = names.index
        code = Code(
            [
                array("uint32_t", f"powers_{n}", powers),
                f"static const ec2t_mcu_softmax layer_{n} = {{{_rows(layout, shape)}, "
                f"{_rows(out, shape)}, powers_{n}}};",
            ],
            [f"ec2t_mcu_softmax_run(&layer_{n}, {names.inputs[0]}, {names.output});"],
            1024 + 36,
        )
        net.frame(code, out, names)
        return code

    net.steps.append(Step("softmax", ("softmax.c", "layout.c"), (source,), target, emit))


def _rows(layout: Layout, shape: tuple[int, ...]) -> str:
    """A C initialiser in which the last dimension is the channels."""
    if walks.is_map(shape):
        return layout.c()
    return (
        f"{{{layout.width}, {layout.height}, 1, {layout.pitch}, 1u, {layout.lead}, "
        f"{layout.zero_point}}}"
    )


OPERATORS = {"SOFTMAX": softmax}
