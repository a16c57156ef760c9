"""SOFTMAX and LOG_SOFTMAX over the last dimension."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ec2t_tf.export.graph import FileError, Operator
from ec2t_tf.export.integer.fixedpoint import log_softmax_tables, softmax_table

from .. import walks
from ..code import Code, Names, array
from ..limits import MOST_CHANNELS, beyond
from ..plan import Layout
from ..step import Step

if TYPE_CHECKING:
    from ..lowering import Lowering


def _ends(net: Lowering, op: Operator, scale: float, zero: int) -> tuple[int, int]:
    """Input and output, after a look at what the fixed point needs."""
    source, target = net.plain(net.activation(op, 0)), op.outputs[0]
    shape = net.graph.tensors[source].shape
    scale_out, zero_out = net.quantisation(net.graph.tensors[target])
    if (
        shape != net.graph.tensors[target].shape
        or shape[-1] > MOST_CHANNELS
        or (float(scale_out), zero_out) != (scale, zero)
    ):
        raise beyond(op.kind, f"shape {shape}, scale {scale_out}, zero point {zero_out}")
    return source, target


def softmax(net: Lowering, op: Operator) -> None:
    source, target = _ends(net, op, 1 / 256, -128)
    scale_in, _ = net.quantisation(net.graph.tensors[source])
    table, _ = softmax_table(float(scale_in), float(op.options["beta"]))
    powers = table[::-1].tolist()  # C indexes them by how far a code lies below the greatest
    _add(net, op, source, target, "softmax", {"powers": ("uint32_t", powers)}, {})


def log_softmax(net: Lowering, op: Operator) -> None:
    source, target = _ends(net, op, 1 / 16, 127)
    scale_in, _ = net.quantisation(net.graph.tensors[source])
    tables = log_softmax_tables(float(scale_in))
    if tables is None:
        raise FileError(f"LOG_SOFTMAX needs an input scale above 2^-26. Received: {scale_in}.")
    arrays = {
        "powers": ("uint32_t", tables.powers[::-1].tolist()),
        "scaled": ("int32_t", tables.scaled[::-1].tolist()),
    }
    multiplier, shift = tables.back
    numbers = {"most": -tables.least, "multiplier": multiplier, "shift": shift}
    _add(net, op, source, target, "log_softmax", arrays, numbers)


def _add(
    net: Lowering,
    op: Operator,
    source: int,
    target: int,
    kernel: str,
    arrays: dict[str, tuple[str, list[int]]],
    numbers: dict[str, int],
) -> None:
    """A step of a kernel whose layer has two layouts, tables and numbers."""
    shape = net.graph.tensors[source].shape
    layout, out = net.layouts[source], net.define(target)

    def emit(names: Names) -> Code:
        n = names.index
        members = {"in": _rows(layout, shape), "out": _rows(out, shape)}
        members |= {name: f"{name}_{n}" for name in arrays}
        members |= {name: str(value) for name, value in numbers.items()}
        given = ", ".join(f".{name} = {value}" for name, value in members.items())
        code = Code(
            [
                *(array(type_name, f"{k}_{n}", v) for k, (type_name, v) in arrays.items()),
                f"static const ec2t_mcu_{kernel} layer_{n} = {{{given}}};",
            ],
            [f"ec2t_mcu_{kernel}_run(&layer_{n}, {names.inputs[0]}, {names.output});"],
            1024 * len(arrays) + 32 + 4 * (len(arrays) + len(numbers)),
        )
        net.frame(code, out, names)
        return code

    name = op.kind.lower().replace("_", " ")
    net.steps.append(Step(name, ("softmax.c", "layout.c"), (source,), target, emit))


def _rows(layout: Layout, shape: tuple[int, ...]) -> str:
    """A C initialiser in which the last dimension is the channels."""
    if walks.is_map(shape):
        return layout.c()
    return (
        f"{{{layout.width}, {layout.height}, 1, {layout.pitch}, 1u, {layout.lead}, "
        f"{layout.zero_point}}}"
    )


OPERATORS = {"SOFTMAX": softmax, "LOG_SOFTMAX": log_softmax}
