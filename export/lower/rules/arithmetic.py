"""Sums, products and the like of two or more values, broadcast; constants among them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..calls import Call
from ..net import Net
from ..pending import CODES, ONE_SCALE, NoRuleError, Pending, TensorIndex, Value, quantisation, rule
from .ranges import array

_FUSES = {"activation": "none"}


def operand(net: Net, given: Any, name: str, *, is_float: bool, axes: int = 1) -> Value:
    """A value, or a constant of a call as a tensor of that many axes or more."""
    if isinstance(given, Pending | TensorIndex):
        return given
    values = np.array(array(given), np.float32, ndmin=axes)
    if is_float:
        return net.constant(name, values, "float32")
    scale, zero = quantisation(values.min(), values.max())
    return net.codes(name, values, scale, zero)


def joined(net: Net, kind: str, name: str, given: Sequence[Value], shape: Sequence[int]) -> Pending:
    """A chain of operators with two inputs; between them, a range that surely suffices."""
    if len(given) < 2:
        raise NoRuleError(f"'{name}' of one value has no rule: leave it out.")
    first = given[0]
    for number, other in enumerate(given[1:-1]):
        part = _two(net, kind, f"{name}/part_{number}", first, other)
        first = _with_sure_range(net, kind, part)
    made = _two(net, kind, name, first, given[-1])
    if made.shape != tuple(shape):
        raise NoRuleError(f"'{name}' of shapes {[net.shape(x) for x in given]}.")
    return made


def _two(net: Net, kind: str, name: str, a: Value, b: Value) -> Pending:
    shape = np.broadcast_shapes(net.shape(a), net.shape(b))
    keeps = kind in ONE_SCALE
    inputs: tuple[Value, ...] = (a, b) if keeps else (net.settled(a), net.settled(b))
    if not keeps and net.is_float(inputs[0]) != net.is_float(inputs[1]):
        inputs = tuple(net.real(x) for x in inputs)
    return Pending(name, kind, inputs, shape, {} if keeps else dict(_FUSES))


def _with_sure_range(net: Net, kind: str, p: Pending) -> Value:
    if kind in ONE_SCALE or any(net.is_float(x) for x in p.inputs):
        return p
    ends = [_ends(net, x) for x in p.inputs]
    (a, b), (c, d) = ends
    if kind == "MUL":
        products = [x * y for x in (a, b) for y in (c, d)]
        low, high = min(products), max(products)
    else:
        low, high = a + c, b + d
    return net.with_range(p, *quantisation(low, high), p.name)


def _ends(net: Net, index: Any) -> tuple[float, float]:
    tensor = net.tensor(index)
    scale, zero = float(tensor.scale[0]), int(tensor.zero_point[0])
    return (CODES[0] - zero) * scale, (CODES[1] - zero) * scale


def _operands(net: Net, call: Call, given: Sequence[Any]) -> list[Value]:
    values = [x for x in given if isinstance(x, Pending | TensorIndex)]
    is_float = all(net.is_float(x) for x in values)
    axes = min(1, max((len(net.shape(x)) for x in values), default=1))  # 0 of a weight of no axes
    return [
        operand(net, x, f"{call.key}/constant_{i}", is_float=is_float, axes=axes)
        for i, x in enumerate(given)
        if x is not None
    ]


def _register(kind: str, *names: str) -> None:
    def written(net: Net, call: Call, *given: Any) -> Value:
        return joined(net, kind, call.key, _operands(net, call, given), call.shape)

    rule(*names)(written)


_register("ADD", "Add")
_register("SUB", "Subtract")
_register("MUL", "Multiply")
_register("MAXIMUM", "Maximum")
_register("MINIMUM", "Minimum")


@rule("Average")
def _average(net: Net, call: Call, *given: Any) -> Value:
    """The sum, its codes read on another scale."""
    operands = _operands(net, call, given)
    total = joined(net, "ADD", f"{call.key}/sum", operands, call.shape)
    count = len(operands)

    def in_int8(scale: float, zero: int) -> int:
        made = net.with_range(total, scale * count, zero, total.name)
        return relabelled(net, made, scale, call.key)

    def in_float() -> int:
        share = net.constant(f"{call.key}/share", np.float32(1 / count), "float32")
        made = net.graph.add(call.key, call.shape, "float32")
        return net.graph.call("MUL", (net.settled(total), share), made, activation="none")

    return Pending(call.key, "", (), call.shape, in_int8=in_int8, in_float=in_float)


def relabelled(net: Net, index: int, scale: float, name: str) -> int:
    """The same codes on another scale: times 127/127, which no rounding changes."""
    tensor = net.tensor(index)
    ratio = scale / float(tensor.scale[0])
    one = net.codes(f"{name}/factor", np.array([ratio]), ratio / 127)
    made = net.int8(name, tensor.shape, scale, int(tensor.zero_point[0]))
    return net.graph.call("MUL", (index, one), made, activation="none")


@rule("TrueDivide", "Divide")
def _divide(net: Net, call: Call, given: Any, other: Any, *_: Any) -> Value:
    if isinstance(other, Pending | TensorIndex):
        raise NoRuleError(f"'{call.name}': only a division by constants has a rule.")
    operands = _operands(net, call, (given, 1 / array(other).astype(np.float32)))
    return joined(net, "MUL", call.key, operands, call.shape)
