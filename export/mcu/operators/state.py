"""Variables: memory that is kept from one call to the next."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from ec2t_tf.export.graph import FileError, Graph, Operator

from .. import walks
from ..code import Code, Names, array
from ..plan import Layout
from .movement import Move, add_moves

if TYPE_CHECKING:
    from ..lowering import Lowering


def name_of(graph: Graph, handle: int) -> str:
    """The variable that a resource tensor stands for."""
    for op in graph.operators:
        if op.kind == "VAR_HANDLE" and op.outputs[0] == handle:
            return str(op.options.get("shared_name", ""))
    raise FileError(f"tensor {handle} is no variable: convert the model again.")


def handle(net: Lowering, op: Operator) -> None:
    """Nothing to compute; see `_variable`."""


def _variable(net: Lowering, op: Operator, like: int) -> int:
    """The tensor of a variable with the quantisation and shape of `like`, made if it is new."""
    from ..lowering import State

    name = name_of(net.graph, op.inputs[0])
    tensors = net.graph.tensors
    if name in net.states:
        layout = net.states[name].layout
        index = next(i for i, one in net.layouts.items() if one is layout)
        same = net.quantisation(tensors[index]) == net.quantisation(tensors[like])
        if tensors[index].shape != tensors[like].shape or not same:
            raise FileError(f"variable {name!r} is read and assigned with different types.")
        return index
    index = net.add_tensor(name, tensors[like].shape, like=like)
    layout = net.define(index)
    first = first_value(net, name, index)

    whole = [range(n) for n in first.shape]
    net.states[name] = State(layout, reset_to(net, layout, first, whole), ("move.c",))
    return index


def reset_to(
    net: Lowering, layout: Layout, first: np.ndarray, places: Sequence[range]
) -> Callable[[Names], Code]:
    """The C that gives a state of `layout` its `first` values at `places` of each axis, and zero
    points elsewhere. A value that holds along a whole axis is stored once."""

    def reset(names: Names) -> Code:
        n = names.index
        code = Code([f"static const ec2t_mcu_planar state_{n} = {layout.c()};"], [], 16)
        code.statements.append(f"ec2t_mcu_fill(&state_{n}, {names.output}, {layout.zero_point});")
        if (first == layout.zero_point).all():
            return code
        values = first
        for axis in range(first.ndim):
            one = values.take([0], axis=axis)
            values = one if (values == one).all() else values
        values = net.stored(np.ascontiguousarray(values))
        steps = walks.steps(layout, [r.stop for r in places])
        axes = [
            walks.Axis(size, (0 if n == 1 else a, b))
            for size, n, a, b in zip(first.shape, values.shape, values.strides, steps, strict=True)
        ]
        origin = sum(r.start * step for r, step in zip(places, steps, strict=True))
        axes = walks.merged(axes)
        code.declarations += [
            array("uint8_t", f"values_{n}", values),
            walks.as_c(f"axes_{n}", axes),
            f"static const ec2t_mcu_move move_{n} = {{.axes = axes_{n}, .count = {len(axes)}, "
            f".to = {origin}}};",
        ]
        code.statements.append(f"ec2t_mcu_move_run(&move_{n}, values_{n}, {names.output});")
        code.flash += values.size + 16 * len(axes)
        return code

    return reset


def first_value(net: Lowering, name: str, index: int) -> np.ndarray:
    """What a variable holds before the first call: what CALL_ONCE assigns, or zero points."""
    tensor = net.graph.tensors[index]
    initial = net.graph.initial
    for op in initial.operators if initial is not None else ():
        if op.kind == "ASSIGN_VARIABLE" and initial and name_of(initial, op.inputs[0]) == name:
            data = initial.tensors[op.inputs[1]].data
            if data is None or data.shape != tensor.shape or data.dtype != np.int8:
                raise FileError(f"variable {name!r} must begin as an int8 constant.")
            return data
    return np.full(tensor.shape, net.quantisation(tensor)[1], np.int8)


def _copy(net: Lowering, name: str, source: int, target: int) -> None:
    sizes = net.graph.tensors[target].shape

    def moves() -> list[Move]:
        steps = [walks.steps(net.layouts[i], sizes) for i in (source, target)]
        return [Move(0, [walks.Axis(n, (a, b)) for n, a, b in zip(sizes, *steps, strict=True)])]

    add_moves(net, name, [source], target, moves)


def read(net: Lowering, op: Operator) -> None:
    target = op.outputs[0]
    source = _variable(net, op, target)
    net.define(target)
    _copy(net, "read state", source, target)


def assign(net: Lowering, op: Operator) -> None:
    source = net.plain(net.activation(op, 1))
    _copy(net, "keep state", source, _variable(net, op, source))


def keep_bytes(net: Lowering, key: int, size: int, fill: int) -> int:
    """A state of bytes that are not an activation. Returns the tensor that stands for it."""
    from ..lowering import State

    if key in net.states:
        raise FileError("two operators keep one state: convert the model again.")
    index = net.add_tensor("state", (1, size), like=key)
    layout = Layout(1, 1, size, 0)
    net.layouts[index] = layout

    def reset(names: Names) -> Code:
        loop = f"for (uint32_t i = 0; i < {size}u; ++i) {names.output}[i] = {fill & 0xFF}u;"
        return Code([], [loop])

    net.states[key] = State(layout, reset)
    return index


OPERATORS = {
    "VAR_HANDLE": handle,
    "CALL_ONCE": handle,
    "READ_VARIABLE": read,
    "ASSIGN_VARIABLE": assign,
}
