"""Products of two computed matrices, of which attention is made."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..calls import Call
from ..net import Net
from ..pending import NoRuleError, Pending, Value, rule


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


@rule("Matmul")
def _matmul(net: Net, call: Call, a: Value, b: Value, *_: Any) -> Value:
    return product(net, call.key, net.settled(a), net.settled(b))


@rule("Einsum")
def _einsum(net: Net, call: Call, *given: Any) -> Value:
    """Of two values: moved into matrices, multiplied, moved back."""
    from .kernels import later

    equation = call.operation.subscripts.replace(" ", "")
    values = [x for x in given if not isinstance(x, str)]
    left, _, result = equation.partition("->")
    entries = left.split(",")
    if len(values) != 2 or len(entries) != 2 or "." in equation:
        raise NoRuleError(f"'{call.name}': '{equation}' has no rule.")
    a, b = (net.settled(x) for x in values)
    first, second = entries
    batch = [c for c in first if c in second and c in result]
    inner = [c for c in first if c in second and c not in result]
    rows = [c for c in first if c not in second]
    columns = [c for c in second if c not in first]
    if len(inner) != 1 or len(rows) != 1 or len(columns) != 1:
        raise NoRuleError(f"'{call.name}': '{equation}' is not a product of matrices.")
    orders = (
        [first.index(c) for c in (*batch, *rows, *inner)],
        [second.index(c) for c in (*batch, *columns, *inner)],
    )
    a = net.transposed(a, orders[0], f"{call.key}/left")
    b = net.transposed(b, orders[1], f"{call.key}/right")
    made = product(net, call.key, a, b, turned=(False, True))
    order = [[*batch, *rows, *columns].index(c) for c in result]
    if order == sorted(order):
        return made
    return later(
        net, made, call.shape, lambda value: net.transposed(value, order, f"{call.key}/moved_back")
    )
