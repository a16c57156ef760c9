"""`tf.einsum` of two values, as transposes and a `tf.matmul`: tf_keras does not load a model again
that has an einsum, whose values it does not save.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import tensorflow as tf


class _Letters(NamedTuple):
    """Axes of both values: in the result too, summed over; and those that only one of them has."""

    shared: str
    summed: str
    first: str
    second: str


def einsum(equation: str, *values: Any) -> Any:
    """As `tf.einsum`, which computes what is no single product of matrices."""
    letters = _letters(equation)
    if letters is None:
        return tf.einsum(equation, *values)
    inputs, wanted = equation.split("->")
    shared, summed, first, second = letters
    x, y = (
        _ordered(value, axes, shared + own + summed)
        for value, axes, own in zip(values, inputs.split(","), (first, second), strict=True)
    )
    if wanted == shared + second + first:
        return tf.matmul(y, x, transpose_b=True)
    return _ordered(tf.matmul(x, y, transpose_b=True), shared + first + second, wanted)


def is_product(equation: Any) -> bool:
    """Whether `einsum` makes a product of matrices of it."""
    return isinstance(equation, str) and _letters(equation) is not None


def _letters(equation: str) -> _Letters | None:
    inputs, arrow, wanted = equation.replace(" ", "").partition("->")
    axes = inputs.split(",")
    if equation != f"{inputs}{arrow}{wanted}" or not arrow or len(axes) != 2:
        return None
    x, y = axes
    if any(len(set(one)) != len(one) or not one.isalpha() for one in (x, y, wanted)):
        return None
    found = _Letters(
        "".join(a for a in x if a in y and a in wanted),
        "".join(a for a in x if a in y and a not in wanted),
        "".join(a for a in x if a not in y),
        "".join(a for a in y if a not in x),
    )
    one_each = all(len(part) == 1 for part in found[1:])
    whole = set(found.shared + found.first + found.second) == set(wanted)
    return found if one_each and whole and found.shared else None


def _ordered(x: Any, axes: str, wanted: str) -> Any:
    return x if axes == wanted else tf.transpose(x, [axes.index(a) for a in wanted])
