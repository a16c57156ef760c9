"""From whole sums to codes, in each rounding."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from ec2t_tf.export.graph import Tensor, activations
from ec2t_tf.export.graph.multipliers import Halves, multiplied, quantised_multiplier

from .node import Node, limits, scale_of, zero_of

Finish = Callable[[Any], Any]
Sums = npt.NDArray[Any]


def rounded_away(x: npt.ArrayLike) -> npt.NDArray[Any]:
    """The nearest whole number, halves away from zero (C's `round`), in the type of x."""
    x = np.asarray(x)
    whole = np.trunc(x)
    return whole + ((x - whole) >= 0.5) - ((x - whole) <= -0.5)


def activation_range(node: Node) -> tuple[int, int]:
    """Least and largest code of the operator's output after its fused activation."""
    out, activation = node.output, node.option("activation", "none")
    if activation not in activations.BOUNDS:
        raise node.refused(f"its fused activation is {activation!r}")
    return activations.activation_range(activation, scale_of(out), zero_of(out), limits(out.dtype))


def fixed_point(node: Node, real: npt.ArrayLike, *, halves: Halves = "away") -> Finish:
    """Sums -> codes of the output by TensorFlow Lite's integer multiplier.

    Args:
      real: float64 factor of each channel (the last axis), or one.
      halves: as in `multiplied`.
    """
    pairs = [quantised_multiplier(float(value)) for value in np.atleast_1d(real)]
    return by_pairs(node, pairs, halves=halves)


def by_pairs(
    node: Node,
    pairs: list[tuple[int, int]],
    *,
    halves: Halves = "away",
    bounds: tuple[int, int] | None = None,
    zero: int | None = None,
) -> Finish:
    """`fixed_point` with multipliers and shifts, perhaps also the limits and the zero point of the
    result, as given."""
    xp = node.xp
    low, high = activation_range(node) if bounds is None else bounds
    offset = zero_of(node.output) if zero is None else zero
    if not isinstance(halves, str) and halves.ndim > 1:  # by place, not by channel
        up, away = (
            by_pairs(node, pairs, halves=how, bounds=(low, high), zero=offset)
            for how in ("up", "away")
        )
        where = xp.constant(halves.astype(np.int32))
        return lambda sums: xp.where(where == 1, up(sums), away(sums))
    multiplier, shift = np.array(pairs, np.int64).T
    factor = multiplier * 2.0 ** (shift - 31.0)
    if not isinstance(halves, str):
        factor = np.broadcast_to(factor, halves.shape)

    def code(sums: Sums) -> Sums:
        return multiplied(sums, multiplier, shift, halves=halves) + offset

    # A factor above 1 shifts the sum to the left.
    bound = np.int64(1 << 31) >> np.maximum(shift, 0)
    finish: Finish = xp.codes(code, factor, offset, low, high, bound)
    return finish


def in_double(node: Node, real: npt.ArrayLike) -> Finish:
    """Sums -> codes of the output by float64 factors, halves away from zero."""
    factor, zero = np.atleast_1d(np.asarray(real, np.float64)), zero_of(node.output)
    low, high = activation_range(node)

    def code(sums: Sums) -> Sums:
        return rounded_away(sums * factor) + zero

    finish: Finish = node.xp.codes(code, factor, zero, low, high, np.full(1, 1 << 31))
    return finish


def half_even(node: Node, real: npt.ArrayLike) -> Finish:
    """Sums -> codes of the output by XNNPACK's float32 factor, halves to even."""
    xp = node.xp
    low, high = activation_range(node)
    zero = zero_of(node.output)
    factor = xp.constant(np.asarray(real, np.float32))

    def finish(sums: Any) -> Any:
        scaled = xp.clip(xp.floats(sums) * factor, low - zero, high - zero)
        return xp.integers(xp.round(scaled)) + zero

    return finish


def table(node: Node, tensor: Tensor, values: npt.ArrayLike) -> Finish:
    """Codes of an 8- or 16-bit `tensor` -> `values`, which are in the order of its codes."""
    xp = node.xp
    low, _ = limits(tensor.dtype)
    held = xp.constant(np.asarray(values))
    return lambda x: xp.look_up(held, x - low)


def blocks(size: int, width: int) -> npt.NDArray[np.bool_]:
    """Which of `size` elements the optimised kernels compute in vectors of `width`; the rest, one
    by one, may round otherwise."""
    return np.arange(size) < size // width * width


def power_of_two(x: float) -> bool:
    return math.frexp(x)[0] == 0.5
