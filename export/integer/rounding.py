"""From whole sums to codes, in each rounding."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from ec2t_tf.export.graph import Tensor, activations
from ec2t_tf.export.graph.multipliers import Halves, quantised_multiplier

from .node import Node, limits, scale_of, zero_of

Finish = Callable[[Any], Any]


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
    multiplier, shift = np.array(pairs, np.int64).T
    low, high = activation_range(node) if bounds is None else bounds
    offset = zero_of(node.output) if zero is None else zero
    finish: Finish = node.xp.fixed_point(multiplier, shift, halves, offset, low, high)
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


def power_of_two(x: float) -> int | None:
    """log2 of x where it is whole."""
    mantissa, exponent = math.frexp(x)
    return exponent - 1 if mantissa == 0.5 else None
