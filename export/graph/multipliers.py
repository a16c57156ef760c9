"""Real factors as TensorFlow Lite's fixed point.

A pair (multiplier, shift) stands for multiplier * 2^(shift - 31), multiplier in [2^30, 2^31).
"""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Halves = Literal["away", "up", "once", "reduced"] | npt.NDArray[np.bool_]


def are_normal(scales: npt.ArrayLike) -> bool:
    """Whether no scale is 0 or subnormal: XNNPACK leaves an operator with one to other kernels."""
    return bool((np.abs(np.asarray(scales)) >= np.finfo(np.float32).tiny).all())


def quantised_multiplier(real: float) -> tuple[int, int]:
    """The pair nearest to `real` (TensorFlow Lite's QuantizeMultiplier)."""
    if real == 0.0:
        return 0, 0
    mantissa, shift = math.frexp(real)
    multiplier = math.floor(mantissa * (1 << 31) + 0.5)
    if multiplier == 1 << 31:
        multiplier //= 2
        shift += 1
    if shift < -31:
        return 0, 0
    if shift > 30:
        return (1 << 31) - 1, 30
    return multiplier, shift


def multiplied(
    x: npt.ArrayLike, multiplier: npt.ArrayLike, shift: npt.ArrayLike, *, halves: Halves = "away"
) -> npt.NDArray[np.int64]:
    """int64 x * multiplier * 2^(shift - 31) for whole x; all three are broadcast.

    Args:
      halves: "away" is TensorFlow Lite's MultiplyByQuantizedMultiplier, which rounds the high half
        of the product (halves up) and then what the shift leaves, halves away from zero; "up" is
        ruy's, which rounds halves up both times; "once" rounds the product once, halves up;
        "reduced" is what they do to int64 x: the same with a multiplier of 16 bits; an array says
        where it is "up" instead of "away".
    """
    x, multiplier, shift = (np.asarray(v, np.int64) for v in (x, multiplier, shift))
    if isinstance(halves, str) and halves == "once":
        total = 31 - shift
        return (x * multiplier + (np.int64(1) << (total - 1))) >> total
    if isinstance(halves, str) and halves == "reduced":
        short = np.where(multiplier < 0x7FFF0000, (multiplier + (1 << 15)) >> 16, 0x7FFF)
        return (x * short + (np.int64(1) << (14 - shift))) >> (15 - shift)
    high = ((x << np.maximum(shift, 0)) * multiplier + (1 << 30)) >> 31
    right = np.maximum(-shift, 0)
    half = (np.int64(1) << right) >> 1
    away = halves == "away" if isinstance(halves, str) else ~halves
    rounded: npt.NDArray[np.int64] = high + half - ((high < 0) & (half > 0) & away)
    return rounded >> right


def shifted_right(x: npt.ArrayLike, bits: npt.ArrayLike) -> npt.NDArray[Any]:
    """x / 2^bits, halves away from zero (gemmlowp's RoundingDivideByPOT)."""
    x, bits = np.asarray(x, np.int64), np.asarray(bits, np.int64)
    half = (np.int64(1) << bits) >> 1
    return (x + half - ((x < 0) & (half > 0))) >> bits


def mean_multiplier(real: float, elements: int) -> tuple[int, int]:
    """The pair of TensorFlow Lite's int8 MEAN over `elements` values; its multiplier may be less
    than 2^30."""
    multiplier, shift = quantised_multiplier(real)
    extra = min(elements.bit_length() - 1, 32, 31 + shift)
    return (multiplier << extra) // elements, shift - extra
