"""Operators on one operand element by element: tables of 256 values."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ec2t_tf.export.graph import FileError, Operator

from ..code import Code, Names, array
from ..lookup import lookup_table
from ..plan import Layout
from ..step import Step

if TYPE_CHECKING:
    from ..lowering import Lowering

KINDS = (
    "RELU",
    "RELU6",
    "RELU_N1_TO_1",
    "RELU_0_TO_1",
    "LEAKY_RELU",
    "ELU",
    "GELU",
    "HARD_SWISH",
    "LOGISTIC",
    "TANH",
    "QUANTIZE",
    "ABS",
    "NEG",
    "EXP",
    "LOG",
    "SQRT",
    "RSQRT",
)


def add_table(net: Lowering, op: Operator, position: int) -> None:
    """Appends a step that looks up every element of an input, all other inputs being constants of
    one element."""
    add_lookup(net, op, position, lookup_table(net.graph, op, position))


def add_lookup(net: Lowering, op: Operator, position: int, table: npt.NDArray[np.int8]) -> None:
    """Appends a step that looks up every element of an input: int8 [256]."""
    source, target = net.activation(op, position), op.outputs[0]
    layout = net.layouts[source]
    out = net.define(target)
    if (out.height, out.width) != (layout.height, layout.width):  # flattened
        out = Layout(layout.channels, layout.height, layout.width, out.zero_point)
        net.layouts[target] = out
    if out.channels != layout.channels:
        raise FileError(f"{op.kind}: output shape differs from the input's.")

    def emit(names: Names) -> Code:
        n = names.index
        return Code(
            [
                array("int8_t", f"table_{n}", table),
                f"static const ec2t_mcu_planar in_{n} = {layout.c()};",
                f"static const ec2t_mcu_planar out_{n} = {out.c()};",
            ],
            [
                f"ec2t_mcu_lookup_run(table_{n}, &in_{n}, {names.inputs[0]}, &out_{n}, "
                f"{names.output});"
            ],
            288,
        )

    name, sources = op.kind.lower(), ("elementwise.c", "layout.c")
    net.steps.append(Step(name, sources, (source,), target, emit, in_place=True))


def elementwise(net: Lowering, op: Operator) -> None:
    add_table(net, op, 0)


def table(net: Lowering, op: Operator) -> None:
    """See tables.py."""
    add_lookup(net, op, 0, op.options["values"])


OPERATORS = dict.fromkeys(KINDS, elementwise)
