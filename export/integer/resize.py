"""RESIZE_NEAREST_NEIGHBOR."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .movement import ANY
from .node import Node, Step, rule


@rule("RESIZE_NEAREST_NEIGHBOR", types=ANY)
def resize_nearest_neighbor(node: Node) -> Step:
    xp, entry, out = node.xp, node.input(0), node.output
    corners = bool(node.option("align_corners", False))
    centres = bool(node.option("half_pixel_centers", False))
    rows, columns = (
        xp.constant(_nearest(entry.shape[axis], out.shape[axis], corners, centres))
        for axis in (1, 2)
    )
    return lambda x, *_: xp.take(xp.take(x, rows, axis=2), columns, axis=3)


def _nearest(size: int, out: int, corners: bool, centres: bool) -> npt.NDArray[np.int32]:
    """Which input each output takes along one axis; float32, as the runtimes."""
    scale = np.float32(size - 1) / np.float32(out - 1) if corners and out > 1 else None
    scale = np.float32(size) / np.float32(out) if scale is None else scale
    offset = np.float32(0.5 if centres else 0.0)
    place = (np.arange(out).astype(np.float32) + offset) * scale
    whole = np.trunc(place + np.float32(0.5)) if corners else np.floor(place)
    return np.clip(whole, 0, size - 1).astype(np.int32)
