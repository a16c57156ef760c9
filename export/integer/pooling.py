"""Pools, and sums over whole axes."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import numpy.typing as npt

from ec2t_tf.export.graph.multipliers import mean_multiplier, quantised_multiplier
from ec2t_tf.export.graph.padding import same_padding

from . import xnnpack
from .node import Node, Step, limits, rule, scale_of, zero_of
from .rounding import Finish, activation_range, blocks, by_pairs, rounded_away

Sums = npt.NDArray[np.int32]


def _windows(node: Node, fill: int) -> Any:
    """Cuts (n, h, w, c) into what each place of a window sees, a border of `fill` around it."""
    xp, entry, out = node.xp, node.input(0), node.output
    size, stride = node.options["size"], node.options["stride"]
    border = [(0, 0)] * 4
    if node.options["padding"] == "same":
        for axis in (0, 1):
            border[axis + 1] = same_padding(
                entry.shape[axis + 1], out.shape[axis + 1], size[axis], stride[axis], 1
            )
    rows, columns = out.shape[1:3]

    def cut(x: Any) -> list[Any]:
        x = xp.reshape(x, (-1, *entry.shape[1:]))
        if any(map(any, border)):
            x = xp.pad(x, border, constant_values=fill)
        return [
            x[
                :,
                i : i + (rows - 1) * stride[0] + 1 : stride[0],
                j : j + (columns - 1) * stride[1] + 1 : stride[1],
            ]
            for i in range(size[0])
            for j in range(size[1])
        ]

    return cut


@rule("MAX_POOL_2D", types=("int8", "int16"))
def max_pool_2d(node: Node) -> Step:
    xp, out = node.xp, node.output
    cut = _windows(node, limits(out.dtype)[0])
    low, high = activation_range(node)

    def run(x: Any) -> Any:
        first, *rest = cut(x)
        for part in rest:
            first = xp.maximum(first, part)
        return xp.reshape(xp.clip(first, low, high), (-1, *out.shape))

    return run


@rule("AVERAGE_POOL_2D", types=("int8", "int16"))
def average_pool_2d(node: Node) -> Step:
    xp, entry, out = node.xp, node.input(0), node.output
    cut = _windows(node, 0)
    low, high = activation_range(node)
    places = dataclasses.replace(node, xp=_NUMPY)
    seen = _windows(places, 0)(np.ones((1, *entry.shape[1:3], 1), np.int32))
    count = xp.constant(sum(seen))  # the border is not counted
    half = xp.constant(sum(seen) // 2)

    def run(x: Any) -> Any:
        total = sum(cut(x))
        # Halves away from zero: the quotient of whole numbers, truncated.
        near = xp.floor_divide(xp.abs(total) + half, count) * xp.sign(total)
        return xp.reshape(xp.clip(near, low, high), (-1, *out.shape))

    return run


class _NumPyShape:
    """What `_windows` needs of NumPy, for constants."""

    reshape = staticmethod(lambda x, shape: x)
    pad = staticmethod(np.pad)


_NUMPY = _NumPyShape()


def axes_of(node: Node) -> tuple[int, ...]:
    """Axes of the input's shape that an operator goes over, without repeats."""
    rank = len(node.input(0).shape)
    return tuple(sorted({int(axis) % rank for axis in node.constant(1).reshape(-1)}))


@rule("MEAN", types=("int8", "int16"))
def mean(node: Node) -> Step:
    xp, entry, out = node.xp, node.input(0), node.output
    axes = axes_of(node)
    count = math.prod(entry.shape[axis] for axis in axes)
    zero, over = zero_of(entry), tuple(axis + 1 for axis in axes)
    s_in, s_out = scale_of(entry), scale_of(out)
    if xnnpack.takes(node):
        finish = _affine(node, s_in / s_out * (np.float32(1) / np.float32(count)), count)
        zero = 0
    elif _is_fast_mean(node, axes):
        offset = np.float32(zero) * s_in / s_out
        offset += np.float32(0.5 if offset > 0 else -0.5)
        pair = quantised_multiplier(float(s_in / (np.float32(count) * s_out)))
        up = blocks(out.shape[3], 16)
        finish = by_pairs(node, [pair], halves=up, zero=zero_of(out) - int(offset))
        zero = 0
    else:
        finish = by_pairs(node, [mean_multiplier(float(s_in) / float(s_out), count)])
    return lambda x, *_: xp.reshape(finish(xp.sum(x - zero, axis=over)), (-1, *out.shape))


def _is_fast_mean(node: Node, axes: tuple[int, ...]) -> bool:
    entry = node.input(0)
    image = entry.dtype == "int8" and len(entry.shape) == 4 and axes == (1, 2)
    return node.optimised and image and bool(node.option("keep_dims"))


@rule("SUM")
def total(node: Node) -> Step:
    """LiteRT 2.3's own reference reads int8 codes as uint8 here, a fault: "reference" is what
    TensorFlow Lite Micro computes by the same rule from int8."""
    xp, entry, out = node.xp, node.input(0), node.output
    axes = axes_of(node)
    count = math.prod(entry.shape[axis] for axis in axes)
    zero, over = zero_of(entry), tuple(axis + 1 for axis in axes)
    s_in, s_out = scale_of(entry), scale_of(out)
    if xnnpack.takes(node):
        finish, zero = _affine(node, s_in / s_out, count), 0
    elif node.optimised:
        finish, zero = _rounded_line(node, s_in / s_out, count), 0
    else:
        finish = by_pairs(node, [quantised_multiplier(float(s_in) / float(s_out))])
    return lambda x, *_: xp.reshape(finish(xp.sum(x - zero, axis=over)), (-1, *out.shape))


@rule("REDUCE_MAX", "REDUCE_MIN", micro=("int8",))
def extreme(node: Node) -> Step:
    xp, out = node.xp, node.output
    over = tuple(axis + 1 for axis in axes_of(node))
    choose = xp.max if node.kind == "REDUCE_MAX" else xp.min
    return lambda x, *_: xp.reshape(choose(x, axis=over), (-1, *out.shape))


def _rounded_line(node: Node, scale: np.float32, count: int) -> Finish:
    """LiteRT's optimised SUM: a float32 line, halves away from zero."""
    zero, (low, high) = zero_of(node.output), limits(node.output.dtype)
    offset = np.float32(-zero_of(node.input(0))) * scale * np.float32(count)

    def code(sums: Sums) -> Sums:
        line = sums.astype(np.float32) * scale + offset
        whole = rounded_away(np.clip(line, low - zero - 1, high - zero + 1)) + zero
        return np.clip(whole, low, high).astype(np.int32)

    finish: Finish = node.xp.by_sum(code, low, high)
    return finish


def _affine(node: Node, scale: np.float32, count: int) -> Finish:
    """XNNPACK's float32 line through sums of codes with their zero points."""
    low, high = limits(node.output.dtype)
    offset = np.float32(zero_of(node.output)) - np.float32(count * zero_of(node.input(0))) * scale

    def code(sums: Sums) -> Sums:
        line = sums.astype(np.float32) * scale + offset
        return np.clip(np.rint(line), low, high).astype(np.int32)

    finish: Finish = node.xp.by_sum(code, low, high)
    return finish
