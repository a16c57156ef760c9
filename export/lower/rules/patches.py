"""Cutting images into patches, and out of larger ones: only values that move."""

from __future__ import annotations

import math
from typing import Any

from ..calls import Call
from ..net import Net
from ..pending import NoRuleError, Value, rule
from .movement import joined_at, padded, sliced


@rule("ExtractPatches")
def _extract_patches(net: Net, call: Call, given: Value, *_: Any) -> Value:
    """(batch, rows, columns, channels) to (batch, rows, columns, patch): of each patch its rows,
    columns and channels, as Keras orders them."""
    operation, index = call.operation, net.settled(given)
    batch, *sizes, channels = net.tensor(index).shape
    if operation.data_format != "channels_last" or len(sizes) != 2:
        raise NoRuleError(f"'{call.name}' must cut (batch, rows, columns, channels).")
    window, stride = _pair(operation.size), _pair(operation.strides)
    spread = _pair(operation.dilation_rate)
    reach = [(k - 1) * d + 1 for k, d in zip(window, spread, strict=True)]
    if operation.padding == "same":
        lacks = [
            max((math.ceil(size / step) - 1) * step + n - size, 0)
            for size, step, n in zip(sizes, stride, reach, strict=True)
        ]
        borders = [(lack // 2, lack - lack // 2) for lack in lacks]
        index = padded(net, index, [(0, 0), *borders, (0, 0)], f"{call.key}/padded")
    rows, columns = call.shape[1:3]
    if window == stride and spread == (1, 1):
        covered = (batch, rows * window[0], columns * window[1], channels)
        index = sliced(net, index, [0] * 4, covered, f"{call.key}/covered")
        blocks = (batch, rows, window[0], columns, window[1] * channels)
        index = net.transposed(net.reshaped(index, blocks), (0, 1, 3, 2, 4), call.key)
        return net.reshaped(index, call.shape)
    parts = []
    for row in range(window[0]):
        for column in range(window[1]):
            begin = (0, row * spread[0], column * spread[1], 0)
            ends = (rows - 1) * stride[0] + begin[1] + 1, (columns - 1) * stride[1] + begin[2] + 1
            name = f"{call.key}/{row}_{column}"
            steps = (1, *stride, 1)
            parts.append(sliced(net, index, begin, (batch, *ends, channels), name, steps))
    return joined_at(net, parts, 3, call.key)


def _pair(sizes: Any) -> tuple[int, int]:
    """Of rows and columns; four sizes, as TensorFlow counts them, have the batch and channels."""
    if isinstance(sizes, int):
        return sizes, sizes
    found = [int(n) for n in sizes]
    return tuple(found[1:3]) if len(found) == 4 else tuple(found)  # type: ignore[return-value]


@rule("CropImages", "PadImages")
def _crop_or_pad(net: Net, call: Call, given: Value, *_: Any) -> Value:
    """Both are given two of three: what is before, what is behind, the size of the result."""
    operation, index = call.operation, net.settled(given)
    shape = net.tensor(index).shape
    if operation.data_format != "channels_last":
        raise NoRuleError(f"'{call.name}': data_format must be channels_last.")
    is_crop = call.kind == "CropImages"
    axes = range(len(shape) - 3, len(shape) - 1)
    pads: list[tuple[int, int]] = [(0, 0)] * len(shape)
    word = "cropping" if is_crop else "padding"
    for axis, first, last in zip(axes, ("top", "left"), ("bottom", "right"), strict=True):
        before = getattr(operation, f"{first}_{word}")
        change = abs(call.shape[axis] - shape[axis])
        if before is None:
            before = change - getattr(operation, f"{last}_{word}")
        pads[axis] = int(before), change - int(before)
    if not is_crop:
        return padded(net, index, pads, call.key)
    begin = [before for before, _ in pads]
    ends = [b + n for b, n in zip(begin, call.shape, strict=True)]
    return sliced(net, index, begin, ends, call.key)
