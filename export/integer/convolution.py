"""Sums of products with a constant kernel: convolutions and the fully connected."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ec2t_tf.export.graph import Tensor
from ec2t_tf.export.graph.multipliers import Halves
from ec2t_tf.export.graph.padding import same_padding

from . import xnnpack
from .node import Node, Step, limits, rule, scale_of, zero_of
from .rounding import Finish, blocks, fixed_point, half_even, in_double

Kernel = npt.NDArray[Any]


@rule("CONV_2D", types=("int8", "int16"))
def conv_2d(node: Node) -> Step:
    xp, entry, out = node.xp, node.input(0), node.output
    weights = node.constant(1).transpose(1, 2, 3, 0)  # (height, width, in, out)
    stride, dilation = node.options["stride"], node.options.get("dilation", (1, 1))
    groups = entry.shape[3] // weights.shape[2]
    parts = [xp.constant(w) for w in np.split(weights, groups, axis=3)]
    largest = largest_sum(node, entry, weights)
    pad = padded(node, weights.shape[:2], stride, dilation)
    finish = finished(node, weights)
    add_bias = biased(node, 2)

    def run(x: Any, *_: Any) -> Any:
        x = pad(xp.reshape(x, (-1, *entry.shape[1:])))
        xs = xp.split(x, groups, axis=-1) if groups > 1 else [x]
        sums = [
            xp.convolve(part, w, stride, dilation, largest)
            for part, w in zip(xs, parts, strict=True)
        ]
        total = xp.concatenate(sums, axis=-1) if groups > 1 else sums[0]
        return xp.reshape(finish(add_bias(total)), (-1, *out.shape))

    return run


@rule("DEPTHWISE_CONV_2D", types=("int8", "int16"))
def depthwise_conv_2d(node: Node) -> Step:
    xp, entry, out = node.xp, node.input(0), node.output
    weights = node.constant(1)[0]  # (height, width, out)
    largest_sum(node, entry, weights)
    stride, dilation = node.options["stride"], node.options.get("dilation", (1, 1))
    multiplier = weights.shape[2] // entry.shape[3]
    pad = padded(node, weights.shape[:2], stride, dilation)
    finish = finished(node, weights)
    add_bias = biased(node, 2)
    taps = xp.constant(weights.astype(np.int32))
    rows, columns = out.shape[1:3]

    def run(x: Any, *_: Any) -> Any:
        x = pad(xp.reshape(x, (-1, *entry.shape[1:])))
        if multiplier > 1:
            x = xp.repeat(x, multiplier, axis=-1)
        total = 0
        for i in range(weights.shape[0]):
            for j in range(weights.shape[1]):
                top, left = i * dilation[0], j * dilation[1]
                part = x[
                    :,
                    top : top + (rows - 1) * stride[0] + 1 : stride[0],
                    left : left + (columns - 1) * stride[1] + 1 : stride[1],
                ]
                total = total + part * taps[i, j]
        return xp.reshape(finish(add_bias(total)), (-1, *out.shape))

    return run


@rule("FULLY_CONNECTED", types=("int8", "int16"))
def fully_connected(node: Node) -> Step:
    xp, entry, out = node.xp, node.input(0), node.output
    weights = node.constant(1).T  # (in, out)
    held, zero, largest = xp.constant(weights), zero_of(entry), largest_sum(node, entry, weights)
    finish = finished(node, weights)
    add_bias = biased(node, 2)

    def run(x: Any, *_: Any) -> Any:
        x = xp.reshape(x, (-1, weights.shape[0])) - zero
        return xp.reshape(finish(add_bias(xp.matmul(x, held, largest))), (-1, *out.shape))

    return run


@rule("TRANSPOSE_CONV", types=("int8", "int16"))
def transpose_conv(node: Node) -> Step:
    """A convolution, its kernel turned round, of the input with zeros between its values."""
    xp, entry, out = node.xp, node.input(2), node.output
    weights = node.constant(1).transpose(1, 2, 3, 0)  # (height, width, in, out)
    turned = xp.constant(weights[::-1, ::-1])
    stride = node.options["stride"]
    spread, border, crop = [], [(0, 0)], [slice(None)]
    for axis in (0, 1):
        size, k, wanted = entry.shape[axis + 1], weights.shape[axis], out.shape[axis + 1]
        inside = (size - 1) * stride[axis] + 1
        before, after = k - 1, wanted - inside
        if node.options["padding"] == "same":
            cut = same_padding(wanted, -(-wanted // stride[axis]), k, stride[axis], 1)[0]
            before, after = before - cut, after + cut
        spread.append(inside)
        border.append((max(before, 0), max(after, 0)))
        crop.append(slice(max(-before, 0), None))
    border.append((0, 0))
    finish, add_bias, zero = finished(node, weights), biased(node, 3), zero_of(entry)
    largest = largest_sum(node, entry, weights)
    rows, columns, channels = entry.shape[1:]

    def run(*given: Any) -> Any:
        x = xp.reshape(given[2], (-1, rows, 1, columns, 1, channels)) - zero
        gaps = [(0, 0), (0, 0), (0, stride[0] - 1), (0, 0), (0, stride[1] - 1), (0, 0)]
        x = xp.reshape(xp.pad(x, gaps), (-1, rows * stride[0], columns * stride[1], channels))
        x = xp.pad(x[:, : spread[0], : spread[1]], border)[tuple(crop)]
        sums = xp.convolve(x, turned, (1, 1), (1, 1), largest)
        sums = sums[:, : out.shape[1], : out.shape[2]]
        return xp.reshape(finish(add_bias(sums)), (-1, *out.shape))

    return run


@rule("BATCH_MATMUL", types=("int8", "int16"))
def batch_matmul(node: Node) -> Step:
    xp, out = node.xp, node.output
    pair = (node.input(0), node.input(1))
    zeros = [zero_of(tensor) for tensor in pair]
    adjoint = node.option("adjoint", (False, False))
    depth = pair[0].shape[-2 if adjoint[0] else -1]
    code = 255 if out.dtype == "int8" else 1 << 15
    largest = xp.bounded(depth * code * code, code)
    ranks = [len(tensor.shape) for tensor in pair]
    real = scale_of(pair[0]) * scale_of(pair[1])
    if xnnpack.takes(node):
        finish = half_even(node, real / scale_of(out))
    else:
        halves: Halves = "away" if out.dtype == "int8" else "reduced"
        finish = fixed_point(node, float(real) / float(scale_of(out)), halves=halves)

    def run(*given: Any) -> Any:
        factors = []
        for x, zero, rank, turn in zip(node.filled(given), zeros, ranks, adjoint, strict=True):
            x = x - zero
            for _ in range(max(ranks) - rank):
                x = xp.expand_dims(x, 1)
            factors.append(xp.swapaxes(x, -1, -2) if turn else x)
        return xp.reshape(finish(xp.matmul(*factors, largest)), (-1, *out.shape))

    return run


def largest_sum(node: Node, entry: Tensor, weights: Kernel) -> int:
    """Bound of every partial sum over all axes of `weights` but the last."""
    low, high = limits(entry.dtype)
    code = max(zero_of(entry) - low, high - zero_of(entry))
    axes = tuple(range(weights.ndim - 1))
    largest = code * np.abs(weights.astype(np.int64)).sum(axis=axes).max(initial=0)
    return int(node.xp.bounded(int(largest), code))


def padded(
    node: Node, size: tuple[int, ...], stride: tuple[int, int], dilation: tuple[int, int]
) -> Any:
    """int32 codes (n, h, w, c) less their zero point, with a border where padding is "same"."""
    xp, entry, out = node.xp, node.input(0), node.output
    zero = zero_of(entry)
    border = [(0, 0)] * 4
    if node.options["padding"] == "same":
        for axis in (0, 1):
            border[axis + 1] = same_padding(
                entry.shape[axis + 1],
                out.shape[axis + 1],
                size[axis],
                stride[axis],
                dilation[axis],
            )
    if not any(map(any, border)):
        return lambda x: x - zero
    return lambda x: xp.pad(x - zero, border)


def biased(node: Node, place: int) -> Any:
    """Adds the bias, an input that may be missing."""
    given = node.inputs[place] if place < len(node.inputs) else None
    if given is None:
        return lambda sums: sums
    values = node.constant(place)
    bias = values if values.dtype == np.int64 else node.xp.constant(values)
    return lambda sums: sums + bias


def finished(node: Node, weights: Kernel) -> Finish:
    """Sums with bias (output channels last) -> codes."""
    transposed = node.kind == "TRANSPOSE_CONV"
    entry, kernel, out = node.input(2 * transposed), node.input(1), node.output
    if np.any(kernel.zero_point):
        raise node.refused("its kernel has a zero point")
    scales = np.asarray(kernel.scale, np.float32)
    if scales.size not in (1, weights.shape[-1]):
        raise node.refused(f"its kernel has {scales.size} scales")
    s_in, s_out = scale_of(entry), scale_of(out)
    channels = (weights.shape[-1],)
    if xnnpack.takes(node):
        return half_even(node, np.broadcast_to(s_in * scales / s_out, channels))
    real = np.broadcast_to(s_in.astype(np.float64) * scales / s_out, channels)
    if node.kind == "FULLY_CONNECTED" and node.rounding != "micro":
        if out.dtype == "int16" and node.optimised and scales.size > 1:
            raise node.refused("its kernel has a scale a channel and its codes are int16")
        if out.dtype == "int16" or not node.optimised:
            return in_double(node, real)
        if scales.size == 1:  # multiplied in float32
            real = np.broadcast_to((s_in * scales).astype(np.float64) / s_out, channels)
    return fixed_point(node, real, halves=_halves(node, weights))


def _halves(node: Node, weights: Kernel) -> Halves:
    transposed = node.kind == "TRANSPOSE_CONV"
    if node.output.dtype == "int16":
        return _halves_16(node, 2 + transposed)
    if not node.optimised:
        return "away"
    if transposed or node.kind == "DEPTHWISE_CONV_2D":
        return blocks(weights.shape[-1], 8)
    grouped = node.kind == "CONV_2D" and node.input(0).shape[3] != weights.shape[2]
    return "away" if grouped else "up"  # ruy


def _halves_16(node: Node, place: int) -> Halves:
    """Of int16 sums: those with a bias of int64, the input at `place`, have 64 bits."""
    bias = node.inputs[place] if place < len(node.inputs) else None
    if bias is None or bias.dtype != "int64":
        raise node.refused("its bias is not int64")
    return "reduced"
