"""RESIZE_NEAREST_NEIGHBOR and RESIZE_BILINEAR."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from . import xnnpack
from .movement import ANY, MICRO
from .node import Node, Step, rule

Places = npt.NDArray[np.int32]


@rule("RESIZE_NEAREST_NEIGHBOR", types=ANY, micro=MICRO)
def resize_nearest_neighbor(node: Node) -> Step:
    xp, entry, out = node.xp, node.input(0), node.output
    corners, centres = _flags(node)
    rows, columns = (
        xp.constant(_nearest(entry.shape[axis], out.shape[axis], corners, centres))
        for axis in (1, 2)
    )
    return lambda x, *_: xp.take(xp.take(x, rows, axis=2), columns, axis=3)


def _flags(node: Node) -> tuple[bool, bool]:
    return (
        bool(node.option("align_corners", False)),
        bool(node.option("half_pixel_centers", False)),
    )


def _scale(size: int, out: int, corners: bool) -> np.float32:
    if corners and out > 1:
        return np.float32(size - 1) / np.float32(out - 1)
    return np.float32(size) / np.float32(out)


def _nearest(size: int, out: int, corners: bool, centres: bool) -> Places:
    """Which input each output takes along one axis; float32, as the runtimes."""
    offset = np.float32(0.5 if centres else 0.0)
    place = (np.arange(out).astype(np.float32) + offset) * _scale(size, out, corners)
    whole = np.trunc(place + np.float32(0.5)) if corners else np.floor(place)
    return np.clip(whole, 0, size - 1).astype(np.int32)


@rule("RESIZE_BILINEAR")
def resize_bilinear(node: Node) -> Step:
    """Between the two rows and the two columns next to each place, the fraction in whole steps."""
    xp, entry, out = node.xp, node.input(0), node.output
    corners, centres = _flags(node)
    fast = xnnpack.takes(node)
    bits = 11 if fast else 10
    along = [
        (_q11 if fast else _q10)(entry.shape[axis], out.shape[axis], corners, centres)
        for axis in (1, 2)
    ]
    tops, bottoms, down = (xp.constant(v) for v in along[0])
    lefts, rights, across = (xp.constant(v) for v in along[1])
    down = xp.reshape(down, (-1, 1, 1))
    across = xp.reshape(across, (-1, 1))

    def run(x: Any, *_: Any) -> Any:
        def between(row: Any) -> Any:
            line = xp.take(x, row, axis=2)
            first, second = xp.take(line, lefts, axis=3), xp.take(line, rights, axis=3)
            return first * (1 << bits) + (second - first) * across

        top, bottom = between(tops), between(bottoms)
        total = top * (1 << bits) + (bottom - top) * down
        half = 1 << (2 * bits - 1)
        if fast:
            return xp.right_shift(total + half, 2 * bits)
        away = xp.right_shift(xp.abs(total) + half, 2 * bits)  # halves away from zero
        return xp.sign(total) * away

    return run


def _q10(size: int, out: int, corners: bool, centres: bool) -> tuple[Places, Places, Places]:
    """TensorFlow Lite's: the inputs on both sides, and the share of the second in 1/1024."""
    steps = out - 1 if corners and out > 1 else out
    width = size - 1 if corners and out > 1 else size
    scale = ((width << 10) + steps // 2) // steps
    place = np.arange(out) * scale + (scale // 2 - 512 if centres else 0)
    quotient = np.trunc(place / 1024).astype(np.int64)
    lower = np.maximum(quotient, 0)
    upper = np.minimum(np.trunc((place + 1023) / 1024).astype(np.int64), size - 1)
    return tuple(v.astype(np.int32) for v in (lower, upper, place - (lower << 10)))  # type: ignore


def _q11(size: int, out: int, corners: bool, centres: bool) -> tuple[Places, Places, Places]:
    """XNNPACK's: the same in float32 and 1/2048."""
    scale, half = _scale(size, out, corners), np.float32(0.5)
    place = np.arange(out).astype(np.float32) * scale
    if centres and not corners:
        place = place + (half * scale - half)
    place = np.clip(place, 0, np.float32(size - 1))
    lower = place.astype(np.int32)
    share = np.rint((place - lower.astype(np.float32)) * np.float32(2048)).astype(np.int32)
    return lower, np.minimum(lower + 1, size - 1).astype(np.int32), share
