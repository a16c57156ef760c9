"""Operators on two operands element by element, either repeated along any axis, or constant."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from ec2t_tf.export.graph import FileError, Operator

from .. import walks
from ..arithmetic import add_multipliers, quantised_multiplier
from ..code import Code, Names, array, struct
from ..step import Step
from ..walks import Axis
from .elementwise import add_table

if TYPE_CHECKING:
    from ..lowering import Lowering

_ZERO = (0, 0)
Pairs = tuple[tuple[int, int], tuple[int, int], tuple[int, int]]


def _sum(a: float, b: float, out: float) -> Pairs:
    """Multipliers and shifts of a, b and output."""
    twice = 2.0 * max(a, b)
    return (
        quantised_multiplier(a / twice),
        quantised_multiplier(b / twice),
        quantised_multiplier(twice / ((1 << 20) * out)),
    )


def _product(a: float, b: float, out: float) -> Pairs:
    """TensorFlow Lite divides in single precision here."""
    real = np.float32(np.float32(a) * np.float32(b)) / np.float32(out)
    return _ZERO, _ZERO, quantised_multiplier(float(real))


def _squared_difference(a: float, b: float, out: float) -> Pairs:
    twice = 2.0 * max(a, b)
    return (
        quantised_multiplier(a / twice),
        quantised_multiplier(b / twice),
        quantised_multiplier(twice * twice / ((1 << 14) * out)),
    )


def _prelu(a: float, b: float, out: float) -> Pairs:
    real = np.float32(np.float32(a) * np.float32(b)) / np.float32(out)
    first = quantised_multiplier(float(np.float32(a) / np.float32(out)))
    return first, _ZERO, quantised_multiplier(float(real))


def _codes(a: float, b: float, out: float) -> Pairs:
    return _ZERO, _ZERO, _ZERO


_KERNELS: dict[str, tuple[str, Callable[[float, float, float], Pairs]]] = {
    "ADD": ("sum", _sum),
    "SUB": ("difference", _sum),
    "MUL": ("product", _product),
    "SQUARED_DIFFERENCE": ("squared_difference", _squared_difference),
    "MAXIMUM": ("maximum", _codes),
    "MINIMUM": ("minimum", _codes),
    "PRELU": ("prelu", _prelu),
}

KINDS = tuple(_KERNELS)


def pair(net: Lowering, op: Operator) -> None:
    tensors, target = net.graph.tensors, op.outputs[0]
    constants = [tensors[i].data for i in op.inputs]
    if all(values is not None for values in constants):
        constants[0] = None  # copied from flash
    constant = [c is not None for c in constants]
    for i, values in enumerate(constants):
        if values is not None and values.size == 1 and _broadcasts(net, op, 1 - i):
            _table(net, op, 1 - i)
            return
    if op.kind == "ADD" and not any(constant) and _alike(net, op):
        add_maps(net, op)
        return
    operands = [
        i if flag else net.plain(net.activation(op, position))
        for position, (i, flag) in enumerate(zip(op.inputs, constant, strict=True))
    ]
    sizes = tensors[target].shape
    shapes = [(1,) * (len(sizes) - len(tensors[i].shape)) + tensors[i].shape for i in operands]
    fit = all(
        len(s) == len(sizes) and all(n in (1, m) for n, m in zip(s, sizes, strict=True))
        for s in shapes
    )
    if not fit:
        raise FileError(f"{op.kind} of {shapes} to {sizes}: shapes do not broadcast.")
    function, prepare = _KERNELS[op.kind]
    (scale_a, zero_a), (scale_b, zero_b) = (net.quantisation(tensors[i]) for i in operands)
    scale_out, _ = net.quantisation(tensors[target])
    (ma, sa), (mb, sb), (mo, so) = prepare(float(scale_a), float(scale_b), float(scale_out))
    if min(sa, sb) < -29:
        raise FileError(f"{op.kind} {tensors[target].name!r}: scales too far apart.")
    clamp = net.clamp(op, tensors[target])
    out = net.define(target)
    live = [i for i, flag in zip(operands, constant, strict=True) if not flag]

    def emit(names: Names) -> Code:
        n, code = names.index, Code()
        pointers, steps, given = [], [], iter(names.inputs)
        for which, (index, values, shape) in enumerate(
            zip(operands, constants, shapes, strict=True)
        ):
            if values is None:
                own = walks.steps(net.layouts[index], tensors[index].shape)
                pointers.append(next(given))
            else:
                own = [s // values.itemsize for s in values.strides]
                stored = net.stored(values)
                code.declarations.append(array("uint8_t", f"operand_{n}_{which}", stored))
                code.flash += stored.size
                pointers.append(f"operand_{n}_{which}")
            own = [0] * (len(sizes) - len(own)) + own
            steps.append([0 if size == 1 else s for size, s in zip(shape, own, strict=True)])
        steps.append(walks.steps(out, sizes))
        axes = walks.merged(
            [Axis(size, (a, b, c)) for size, a, b, c in zip(sizes, *steps, strict=True)]
        )
        code.declarations += [
            walks.as_c(f"axes_{n}", axes),
            f"static const ec2t_mcu_binary layer_{n} = {{.axes = axes_{n}, .count = {len(axes)}, "
            f".zero_point_a = {zero_a}, .zero_point_b = {zero_b}, .multiplier_a = {ma}, "
            f".multiplier_b = {mb}, .multiplier_out = {mo}, .shift_a = {sa}, .shift_b = {sb}, "
            f".shift_out = {so}, .clamp = {clamp}}};",
        ]
        code.statements.append(
            f"ec2t_mcu_{function}_run(&layer_{n}, {pointers[0]}, {pointers[1]}, {names.output});"
        )
        code.flash += 56 + 16 * len(axes)
        net.frame(code, out, names)
        return code

    name = op.kind.lower().replace("_", " ")
    net.steps.append(Step(name, ("binary.c", "layout.c"), tuple(live), target, emit))


def _broadcasts(net: Lowering, op: Operator, position: int) -> bool:
    tensors = net.graph.tensors
    return tensors[op.inputs[position]].shape == tensors[op.outputs[0]].shape


def _alike(net: Lowering, op: Operator) -> bool:
    """Whether two maps have one layout, perhaps flattened the same way."""
    layouts = [net.layouts[net.activation(op, i)] for i in range(2)]
    shapes = {(x.channels, x.height, x.width) for x in layouts}
    sizes = walks.dimensions(net.graph.tensors[op.outputs[0]].shape)
    rows, columns, channels = sizes
    return shapes == {(channels, rows, columns)}


def _table(net: Lowering, op: Operator, position: int) -> None:
    net.activation(op, position)
    add_table(net, op, position)


def add_maps(net: Lowering, op: Operator) -> None:
    """ADD of two maps of one layout."""
    a, b, target = net.activation(op, 0), net.activation(op, 1), op.outputs[0]
    la, lb = net.layouts[a], net.layouts[b]
    lo = net.define(target)
    tensors = net.graph.tensors
    (scale_a, zero_a), (scale_b, zero_b) = (net.quantisation(tensors[i]) for i in (a, b))
    scale_out, _ = net.quantisation(tensors[target])
    (ma, mb), mo = add_multipliers(float(scale_a), float(scale_b), float(scale_out))
    clamp = net.clamp(op, tensors[target])
    if min(ma.shift, mb.shift) < -29:
        raise FileError(f"ADD {tensors[target].name!r}: scales too far apart to add.")
    helium = net.core.family == "helium" and max(ma.shift, mb.shift) <= 0 and mo.shift < 0
    function = f"ec2t_mcu_add_{'helium_' if helium else ''}run"

    def reads(position: int) -> int:
        """Eight are read at once, whatever is left of a row."""
        x = (la, lb)[position]
        last = (x.channels - 1) * x.plane + (x.height - 1) * x.pitch + x.width
        return last + 7 if helium else 0

    def emit(names: Names) -> Code:
        n = names.index
        return Code(
            [
                struct(
                    "add",
                    f"layer_{n}",
                    {
                        "a": la.c(),
                        "b": lb.c(),
                        "out": lo.c(),
                        "zero_point_a": zero_a,
                        "zero_point_b": zero_b,
                        "multiplier_a": ma.multiplier,
                        "multiplier_b": mb.multiplier,
                        "multiplier_out": mo.multiplier,
                        "shift_a": ma.shift,
                        "shift_b": mb.shift,
                        "shift_out": mo.shift,
                        "clamp": clamp,
                    },
                )
            ],
            [
                f"{function}(&layer_{n}, {names.inputs[0]}, {names.inputs[1]}, "
                f"{names.output}, (int32_t *)(void *){names.scratch});"
            ],
            84,
        )

    net.steps.append(
        Step(
            "add",
            ("elementwise.c", "add_helium.c", "layout.c"),
            (a, b),
            target,
            emit,
            lambda: 2048,
            in_place=True,
            reads=reads,
        )
    )


OPERATORS = dict.fromkeys(_KERNELS, pair)
