"""Activations of their own that the runtimes compute in whole numbers."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import numpy.typing as npt

from ec2t_tf.export.graph.multipliers import multiplied, quantised_multiplier, shifted_right

from . import xnnpack
from .fixedpoint import Fixed
from .node import Node, Step, codes_of, limits, rule, scale_of, zero_of
from .rounding import by_pairs, rounded_away, table

_TYPES = ("int8", "uint8", "int16")
_RANGES = {
    "RELU": (0.0, None),
    "RELU6": (0.0, 6.0),
    "RELU_N1_TO_1": (-1.0, 1.0),
    "RELU_0_TO_1": (0.0, 1.0),
}


@rule("RELU", "RELU6", types=_TYPES, micro=("int8",))
@rule("RELU_N1_TO_1", "RELU_0_TO_1", types=("int8", "uint8"), micro=())
def relu(node: Node) -> Step:
    entry, out = node.input(0), node.output
    least, most = limits(out.dtype)
    low, high = _RANGES[node.kind]
    if node.rounding == "micro" and high is not None:  # it limits codes and scales nothing
        top = zero_of(entry) + int(rounded_away(np.float32(high) / scale_of(entry)))
        codes = codes_of(entry)
        return table(node, entry, np.clip(codes, zero_of(entry), min(most, top)))
    zero, scale = zero_of(out), scale_of(out)
    least = max(least, zero + int(rounded_away(np.float32(low) / scale)))
    if high is not None:
        most = min(most, zero + int(rounded_away(np.float32(high) / scale)))
    pair = quantised_multiplier(float(scale_of(entry) / scale))
    codes = multiplied(codes_of(entry) - zero_of(entry), *pair) + zero
    return table(node, entry, np.clip(codes, least, most))


@rule("LEAKY_RELU", types=("int8", "uint8"), reference=_TYPES, micro=("int8", "int16"))
def leaky_relu(node: Node) -> Step:
    entry, out = node.input(0), node.output
    alpha = np.float32(node.option("alpha", 0.0))
    s_in, s_out = scale_of(entry), scale_of(out)
    codes = codes_of(entry) - zero_of(entry)
    if xnnpack.takes(node):  # 8 bits of fraction
        positive = int(np.rint(np.float32(256) * (s_in / s_out)))
        negative = int(np.rint(np.float32(256) * (s_in / s_out * alpha)))
        result = (codes * np.where(codes >= 0, positive, negative) + 128) >> 8
    else:
        if alpha < 0:
            raise node.refused("its slope is negative")
        wide = np.float64 if node.rounding == "micro" else np.float32
        positive_pair = quantised_multiplier(float(wide(s_in) / wide(s_out)))
        negative_pair = quantised_multiplier(float(wide(s_in) * wide(alpha) / wide(s_out)))
        result = np.where(
            codes >= 0, multiplied(codes, *positive_pair), multiplied(codes, *negative_pair)
        )
    return table(node, entry, np.clip(result + zero_of(out), *limits(out.dtype)))


@rule("PRELU", types=_TYPES, micro=("int8",))
def prelu(node: Node) -> Step:
    xp, out = node.xp, node.output
    entry, slope = node.input(0), node.input(1)
    s_in, s_out = scale_of(entry), scale_of(out)
    bounds = limits(out.dtype)
    positive = by_pairs(node, [quantised_multiplier(float(s_in / s_out))], bounds=bounds)
    negative = by_pairs(
        node, [quantised_multiplier(float(s_in * scale_of(slope) / s_out))], bounds=bounds
    )
    zero, slope_zero = zero_of(entry), zero_of(slope)

    def run(*given: Any) -> Any:
        x, alpha = node.aligned(given)
        x = x - zero
        return xp.where(x >= 0, positive(x), negative(x * (alpha - slope_zero)))

    return run


@rule("HARD_SWISH", types=("int8", "uint8"), micro=("int8",))
def hard_swish(node: Node) -> Step:
    entry, out = node.input(0), node.output
    fixed = Fixed(16)
    fine = np.float32(1 / 128) * scale_of(entry)
    output, output_shift = _short(float(fine / scale_of(out)))
    slope, slope_shift = _short(float(fine / np.float32(3 / 32768)))
    if output_shift > 0:
        raise node.refused("the scale of its output is below 1/128 of the input's")
    x = (codes_of(entry) - zero_of(entry)) << 7
    scaled = fixed.times(x, output)
    share = fixed.left(x, max(slope_shift - 1, 0))
    share = fixed.times(share, slope)
    share = fixed.left(share, 1) if slope_shift > 0 else shifted_right(share, -slope_shift)
    share = (share + (1 << 15)) >> 1
    product = share * scaled
    high = np.sign(product) * (np.abs(product) >> 15)  # towards zero
    codes = shifted_right(high, -output_shift) + zero_of(out)
    return table(node, entry, np.clip(codes, *limits(out.dtype)))


def _short(real: float) -> tuple[int, int]:
    """A multiplier of 16 bits and its shift."""
    multiplier, shift = quantised_multiplier(real)
    most = (1 << 31) - 1 - (1 << 15)
    return (0x7FFF if multiplier >= most else (multiplier + (1 << 15)) >> 16), shift


@rule("RSQRT")
def rsqrt(node: Node) -> Step:
    entry, out, left = node.input(0), node.output, 20
    zero = zero_of(entry)
    wide = np.float64 if node.rounding == "micro" else np.float32
    real = 1.0 / float(np.sqrt(wide(scale_of(entry))) * wide(scale_of(out)))
    multiplier, shift = quantised_multiplier(real)
    low, high = limits(out.dtype)
    codes = np.full(256, high, np.int64)
    for place, value in enumerate((codes_of(entry) - zero).tolist()):
        if value > 0:
            root, root_shift = inverse_root(value)
            x = multiplied(1, root, root_shift + left)
            codes[place] = multiplied(x, multiplier, shift - left) + zero_of(out)
    found = table(node, entry, np.clip(codes, low, high))

    def run(x: Any) -> Any:
        if not node.xp.traceable and (x < zero).any():
            raise ValueError(f"RSQRT (operator {node.number}) of a negative value.")
        return found(x)

    return run


@functools.cache
def inverse_root(value: int) -> tuple[int, int]:
    """TensorFlow Lite's 1 / sqrt of a whole number from 1, as multiplier and shift."""
    if value <= 1:
        return (1 << 31) - 1, 0
    shift = 11
    while value >= 1 << 29:
        value //= 4
        shift += 1
    pairs = (31 - value.bit_length()) // 2 - 1
    shift -= pairs
    value <<= 2 * pairs
    fixed = Fixed(32)
    half, three = int(shifted_right(value >> 1, 1)), (1 << 28) + (1 << 27)  # Q3
    x = 1 << 28
    for _ in range(5):
        cube = int(_rescaled(fixed.times(fixed.times(x, x), x), 9, 3))
        x = int(_rescaled(np.int64(fixed.times(three, x) - fixed.times(half, cube)), 6, 3))
    result = int(fixed.times(x, 1518500250))  # sqrt(1/2)
    if shift < 0:
        result, shift = result << -shift, 0
    return result, -shift


def _rescaled(x: npt.NDArray[np.int64] | np.int64, before: int, after: int) -> Any:
    """From Q(before) to Q(after) in 32 bits, saturated."""
    return Fixed(32).left(x, before - after)


@rule("ABS", types=("int8", "int16"))
def absolute(node: Node) -> Step:
    entry, out = node.input(0), node.output
    codes = np.abs(codes_of(entry) - zero_of(entry))
    if scale_of(entry) != scale_of(out):
        wide = np.float64 if node.rounding == "micro" else np.float32
        real = wide(scale_of(entry)) / wide(scale_of(out))
        codes = multiplied(codes, *quantised_multiplier(float(real)))
    return table(node, entry, np.clip(codes + zero_of(out), *limits(out.dtype)))


@rule("NEG", micro=())
def negative(node: Node) -> Step:
    """The runtimes negate the codes, whatever their zero point; the least stays as it is."""
    entry = node.input(0)
    return table(node, entry, (-codes_of(entry)).astype(entry.dtype).astype(np.int32))


@rule("SQRT", micro=())
def root(node: Node) -> Step:
    """In float32, towards zero."""
    entry, out = node.input(0), node.output
    zero = zero_of(entry)
    real = scale_of(entry) * (codes_of(entry) - zero).astype(np.float32)
    steps = np.sqrt(np.maximum(real, np.float32(0))) / scale_of(out)
    codes = np.clip(np.trunc(steps) + zero_of(out), *limits(out.dtype)).astype(np.int32)
    found = table(node, entry, codes)

    def run(x: Any) -> Any:
        if not node.xp.traceable and (x < zero).any():
            raise ValueError(f"SQRT (operator {node.number}) of a negative value.")
        return found(x)

    return run
