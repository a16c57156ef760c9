"""Products of two matrices, computed ones or constants, of which attention is made."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ec2t_tf.quantisation.masks import LOWEST

from ..calls import Call
from ..net import Net
from ..pending import CODES, NoRuleError, Pending, TensorIndex, Value, rule
from .arithmetic import operand


def is_value(x: Any) -> bool:
    return isinstance(x, Pending | TensorIndex)


def product(
    net: Net, name: str, a: int, b: int, *, turned: tuple[bool, bool] = (False, False)
) -> Pending:
    """Matrices in the last two axes; `turned` ones are transposed."""
    if net.is_float(a) != net.is_float(b):
        a, b = net.real(a), net.real(b)
    left, right = net.shape(a), net.shape(b)
    rows = left[-1] if turned[0] else left[-2]
    columns = right[-2] if turned[1] else right[-1]
    shape = (*np.broadcast_shapes(left[:-2], right[:-2]), rows, columns)
    options = {"adjoint": turned, "asymmetric_quantize_inputs": False}
    return Pending(name, "BATCH_MATMUL", (a, b), shape, options)


@rule("Masked")
def _masked(net: Net, call: Call, given: Value, *_: Any) -> Value:
    """The lowest code where a score does not count."""
    index, allowed = net.settled(given), call.operation.allowed
    shape = net.shape(index)
    allowed = allowed.reshape((1,) * (len(shape) - allowed.ndim) + allowed.shape)

    def in_int8(scale: float, zero: int) -> int:
        scores = net.with_range(index, scale, zero, f"{call.key}/scores")
        limits = net.graph.add(
            f"{call.key}/limits",
            allowed.shape,
            "int8",
            scale=scale,
            zero_point=zero,
            data=np.where(allowed, CODES[1], CODES[0]).astype(np.int8),
        )
        made = net.int8(call.key, shape, scale, zero)
        return net.graph.call("MINIMUM", (scores, limits), made)

    def in_float() -> int:
        numbers = np.where(allowed, np.finfo(np.float32).max, LOWEST).astype(np.float32)
        limits = net.constant(f"{call.key}/limits", numbers, "float32")
        made = net.graph.add(call.key, shape, "float32")
        return net.graph.call("MINIMUM", (net.real(index), limits), made)

    return Pending(call.key, "", (), shape, in_int8=in_int8, in_float=in_float)


@rule("Matmul")
def _matmul(net: Net, call: Call, *given: Any) -> Value:
    a, b = _matrices(net, call, given)
    made = product(net, call.key, a, b)
    if made.shape != call.shape:
        raise NoRuleError(
            f"'{call.name}' must multiply matrices. Received: {net.shape(a)} and {net.shape(b)}."
        )
    return made


def _matrices(net: Net, call: Call, given: Sequence[Any]) -> list[int]:
    """Values, and arrays that a call is given as constants."""
    values = [x for x in given if not isinstance(x, str | int | float) or is_value(x)]
    is_float = all(net.is_float(x) for x in values if is_value(x))
    return [
        net.settled(operand(net, x, f"{call.key}/constant_{i}", is_float=is_float))
        for i, x in enumerate(values[:2])
    ]


@rule("Einsum")
def _einsum(net: Net, call: Call, *given: Any) -> Value:
    """Of two values: moved into matrices, multiplied, moved back."""
    from .kernels import later

    equation = call.operation.subscripts.replace(" ", "")
    left, _, result = equation.partition("->")
    entries = left.split(",")
    if len(entries) != 2 or "." in equation or any(len({*e}) < len(e) for e in entries):
        raise NoRuleError(f"'{call.name}': '{equation}' has no rule.")
    a, b = _matrices(net, call, given)
    first, second = entries
    batch = [c for c in first if c in second and c in result]
    inner = [c for c in first if c in second and c not in result]
    rows = [c for c in first if c not in second]
    columns = [c for c in second if c not in first]
    if not inner or not rows or not columns or {*rows, *columns} - {*result}:
        raise NoRuleError(f"'{call.name}': '{equation}' is not a product of matrices.")
    sizes = dict(zip(first + second, (*net.shape(a), *net.shape(b)), strict=True))

    def matrix(index: int, entry: str, outer: list[str], name: str) -> int:
        order = [entry.index(c) for c in (*batch, *outer, *inner)]
        index = net.transposed(index, order, f"{call.key}/{name}")
        shape = [math.prod(sizes[c] for c in part) for part in (outer, inner)]
        return net.reshaped(index, (*(sizes[c] for c in batch), *shape))

    a, b = matrix(a, first, rows, "left"), matrix(b, second, columns, "right")
    made = product(net, call.key, a, b, turned=(False, True))
    letters = [*batch, *rows, *columns]
    order = [letters.index(c) for c in result]
    if order == sorted(order) and len(letters) == len(made.shape):
        return made

    def back(value: int) -> int:
        value = net.reshaped(value, [sizes[c] for c in letters])
        return net.transposed(value, order, f"{call.key}/moved_back")

    return later(net, made, call.shape, back)
