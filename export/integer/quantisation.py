"""QUANTIZE, DEQUANTIZE and CAST."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ec2t_tf.export.graph.multipliers import Halves, quantised_multiplier

from . import xnnpack
from .node import Node, Step, codes_of, limits, rule, scale_of, zero_of
from .rounding import blocks, fixed_point, table

_MICRO = {
    ("float32", "int8"),
    ("float32", "int16"),
    ("int8", "int8"),
    ("int8", "uint8"),
    ("uint8", "int8"),
    ("int16", "int8"),
    ("int8", "int16"),
    ("int16", "int16"),
}


@rule("QUANTIZE", types=("int8", "uint8", "int16"))
def quantize(node: Node) -> Step:
    step = _quantize(node)
    return lambda *given: step(*node.filled(given))  # a constant too


def _quantize(node: Node) -> Step:
    entry, out = node.input(0), node.output
    if node.rounding == "micro" and (entry.dtype, out.dtype) not in _MICRO:
        raise node.refused(f"it does not turn {entry.dtype} into {out.dtype}")
    if entry.dtype == "float32":
        return _from_floats(node)
    if entry.dtype not in ("int8", "uint8", "int16"):
        raise node.refused(f"its input is {entry.dtype}")
    s_in, s_out = scale_of(entry), scale_of(out)
    if xnnpack.takes(node):  # 8 bits of fraction
        codes = codes_of(entry) - zero_of(entry)
        whole = int(np.rint(np.float32(256.0) * (s_in / s_out)))
        result = ((codes * whole + 128) >> 8) + zero_of(out)
        return table(node, entry, np.clip(result, *limits(out.dtype)))
    halves: Halves = "away"
    if node.optimised and "int16" not in (entry.dtype, out.dtype):
        halves = blocks(math.prod(out.shape), 16).reshape(out.shape)
    zero, factor = zero_of(entry), float(s_in) / float(s_out)
    _, shift = quantised_multiplier(factor)
    if (
        max(abs(end - zero) for end in limits(entry.dtype)) << max(shift, 0)
        > np.iinfo(np.int32).max
    ):
        raise node.refused(f"the runtimes' int32 overflows by its factor of {factor:.3g}")
    finish = fixed_point(node, factor, halves=halves)
    return lambda x: finish(x - zero)


def _from_floats(node: Node) -> Step:
    xp, out = node.xp, node.output
    low, high = limits(out.dtype)
    scale, zero = scale_of(out), zero_of(out)
    inverse = xp.constant(np.float32(1) / scale)
    away = xp.nearest(scale, zero, low, high)

    def even(x: Any) -> Any:
        whole = xp.round(xp.clip(x * inverse, low - zero, high - zero))
        return xp.integers(whole) + zero

    if xnnpack.takes(node):
        return even
    if not node.optimised:
        return away
    vector = xp.constant(blocks(math.prod(out.shape), 8).reshape(out.shape))
    return lambda x: xp.where(vector == 1, even(x), away(x))


@rule("DEQUANTIZE", types=("float32",))
def dequantize(node: Node) -> Step:
    xp, entry = node.xp, node.input(0)
    if entry.dtype not in ("int8", "uint8", "int16"):
        raise node.refused(f"its input is {entry.dtype}")
    scale, zero = scale_of(entry), zero_of(entry)
    codes = codes_of(entry)
    exact = table(node, entry, (codes - zero).astype(np.float32) * scale)
    if xnnpack.takes(node) or not node.optimised:
        return exact
    offset = np.float32(-zero * float(scale))
    fast = table(node, entry, codes.astype(np.float32) * scale + offset)
    vector = xp.constant(blocks(math.prod(entry.shape), 8).reshape(entry.shape))
    return lambda x: xp.where(vector == 1, fast(x), exact(x))


@rule("CAST", types=("int32",))
def cast(node: Node) -> Step:
    """From integers, whatever they stand for, and whole numbers of float32."""
    dtype = node.input(0).dtype
    if dtype in ("int64", "float32"):
        return lambda x: node.xp.integers(x)
    if dtype not in ("int8", "uint8", "int16", "int32", "bool"):
        raise node.refused(f"its input is {dtype}")
    return lambda x: x
