"""LOGISTIC, TANH and SOFTMAX of int16: the runtimes' interpolated tables."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from ec2t_tf.export.graph.multipliers import multiplied, quantised_multiplier

from . import fixedpoint
from .fixedpoint import LEAST, MOST
from .node import Node, Step, scale_of, zero_of
from .rounding import power_of_two, rounded_away, table

Table = npt.NDArray[np.int64]


def sigmoid_or_tanh(node: Node) -> Step:
    """Of int16 with 15 bits of fraction in the output."""
    entry, out = node.input(0), node.output
    if scale_of(out) != np.float32(1 / 32768) or zero_of(out) or zero_of(entry):
        raise node.refused("its output must have the scale 1/32768, zero points must be 0")
    is_tanh = node.kind == "TANH"
    scale = float(scale_of(entry))
    left = round(math.log2(scale)) + 12
    if power_of_two(scale) and left in ((0, 1) if is_tanh else (0,)):
        if node.optimised:
            codes = np.clip(np.arange(LEAST, MOST + 1) << left, LEAST, MOST) - LEAST
            whole = fixedpoint.tanh_table(3) if is_tanh else fixedpoint.sigmoid_table()
            return table(node, entry, whole[codes])
        return table(node, entry, fixedpoint.interpolated(3 << left, 0, is_tanh))
    factor, shift = scale * 4096.0 * 3.0, 0
    while factor <= 32767.0 / 2.0 and shift <= 30:
        shift, factor = shift + 1, factor * 2.0
    return table(node, entry, fixedpoint.interpolated(int(factor), shift, is_tanh))


def softmax(node: Node) -> Step:
    """Of int16, scale 1/32768."""
    entry, out = node.input(0), node.output
    if scale_of(out) != np.float32(1 / 32768) or zero_of(out) or zero_of(entry):
        raise node.refused("its output must have the scale 1/32768, zero points must be 0")
    wide = np.float32 if node.rounding == "micro" else np.float64
    exponential = _table(np.exp, 10, MOST, wide)
    inverse = _table(lambda x: 1 / (1 + x), 1, LEAST, wide)
    scale = scale_of(entry) * np.float32(node.option("beta", 1.0))
    pair = quantised_multiplier(float(scale) / (10.0 / 65535.0))

    def run(x: Any) -> Any:
        below = x.astype(np.int64) - x.max(axis=-1, keepdims=True)
        exps = _look_up(exponential, np.clip(multiplied(below, *pair) + MOST, LEAST, MOST))
        total = exps.sum(axis=-1, keepdims=True)
        room = fixedpoint.leading_zeros(total)
        shifted = ((total << (room - 1)) + (1 << 13)) >> 14
        share = _look_up(inverse, np.clip(shifted - (1 << 15) - (1 << 16), LEAST, MOST))
        right = 31 - room
        codes = (exps * share + (np.int64(1) << (right - 1))) >> right
        return np.clip(codes, 0, MOST).astype(np.int32)

    return run


def _table(function: Callable[[Any], Any], width: int, zero: int, wide: Any) -> Table:
    """TensorFlow Lite's 513 entries of a function over `width`, in float32 or float64."""
    scale, out_scale = wide(width) / wide(65535), wide(2) / wide(65535)
    first, last = scale * wide(LEAST - zero), scale * wide(MOST - zero)
    step = (last - first) / wide(512)
    inverse = wide(65536) / (out_scale * wide(MOST) - out_scale * wide(LEAST))

    def scaled(place: Any) -> Any:
        return function(np.asarray(place, np.float64)).astype(wide) * inverse

    count = np.arange(513).astype(wide)
    place = first + count[:-1] * step
    value, after = scaled(place), scaled(first + count[1:] * step)
    middle = rounded_away(scaled(place + step / wide(2)))
    error = rounded_away((after + rounded_away(value)) / wide(2)) - middle
    entries = rounded_away(value) - rounded_away(error / wide(2))
    entries = np.append(entries, rounded_away(scaled(last)))
    return np.clip(entries, LEAST, MOST).astype(np.int64)


def _look_up(entries: Table, codes: Table) -> Table:
    """Between two entries, 7 bits of each code."""
    place = 256 + (codes >> 7)
    base = entries[place]
    return base + (((entries[place + 1] - base) * (codes & 0x7F) + 64) >> 7)
