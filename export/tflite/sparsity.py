"""TensorFlow Lite's sparse storage: a tensor as compressed rows or blocks, and back."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ec2t_tf.export.graph import Sparsity

_Array = npt.NDArray[Any]


@dataclasses.dataclass(frozen=True)
class Level:
    """One stored axis: its size where it is dense, else where each row starts, and positions."""

    size: int
    segments: _Array | None = None
    indices: _Array | None = None


@dataclasses.dataclass(frozen=True)
class Stored:
    """A tensor in sparse storage."""

    layout: Sparsity
    levels: tuple[Level, ...]
    values: _Array

    @property
    def bytes(self) -> int:
        """Bytes of values, segments and indices."""
        vectors = [v for level in self.levels for v in (level.segments, level.indices)]
        return self.values.nbytes + sum(v.nbytes for v in vectors if v is not None)


def smallest_unsigned(values: _Array) -> _Array:
    """`values` in the narrowest type that the schema has for index vectors."""
    highest = int(values.max(initial=0))
    return values.astype(
        np.uint8 if highest < 1 << 8 else np.uint16 if highest < 1 << 16 else np.int32
    )


def rows(values: _Array) -> Stored:
    """The smallest storage with one compressed axis, the last one stored."""

    def along(axis: int) -> Stored:
        order = (*(other for other in range(values.ndim) if other != axis), axis)
        compressed = (False,) * (values.ndim - 1) + (True,)
        return encode(values, Sparsity(order, compressed))

    return min(map(along, range(values.ndim)), key=lambda one: (one.bytes, one.layout.order))


def encode(values: _Array, layout: Sparsity) -> Stored:
    """`values` in a given layout."""
    blocked = _blocked(values, layout).transpose(layout.order)
    sizes = blocked.shape
    # The stored nodes of the levels so far, as flat positions in the product of their sizes.
    nodes = np.zeros(1, np.int64)
    levels = []
    for depth, (size, compressed) in enumerate(zip(sizes, layout.compressed, strict=True)):
        children = nodes[:, None] * size + np.arange(size)
        if not compressed:
            levels.append(Level(size))
            nodes = children.reshape(-1)
            continue
        inner = (math.prod(sizes[: depth + 1]), math.prod(sizes[depth + 1 :]))
        used = (blocked.reshape(inner) != 0).any(axis=1)[children]
        segments = np.concatenate(([0], np.cumsum(used.sum(axis=1))))
        indices = np.nonzero(used)[1]
        levels.append(Level(0, smallest_unsigned(segments), smallest_unsigned(indices)))
        nodes = children[used]
    return Stored(layout, tuple(levels), blocked.reshape(-1)[nodes])


def decode(stored: Stored, shape: Sequence[int]) -> _Array:
    """The dense tensor.

    Raises:
      ValueError: the storage does not fit the shape.
    """
    layout = stored.layout
    rank, blocks = len(shape), len(layout.block_map)
    if sorted(layout.order) != list(range(rank + blocks)) or len(stored.levels) != rank + blocks:
        raise ValueError(f"{rank + blocks} axes in some order are required")
    sizes = _blocked_shape(shape, layout)
    nodes = np.zeros(1, np.int64)
    for axis, level in zip(layout.order, stored.levels, strict=True):
        size = sizes[axis]
        if level.segments is None or level.indices is None:
            if level.size != size:
                raise ValueError(f"an axis of {size} is stored as one of {level.size}")
            if len(nodes) * size > math.prod(shape):
                raise ValueError("more values than the shape has")
            nodes = (nodes[:, None] * size + np.arange(size)).reshape(-1)
            continue
        segments, indices = (v.astype(np.int64) for v in (level.segments, level.indices))
        counts = np.diff(segments)
        whole = len(segments) == len(nodes) + 1 and segments[0] == 0
        if not whole or counts.min(initial=0) < 0 or segments[-1] != len(indices):
            raise ValueError("its rows do not begin where they must")
        if indices.size and not 0 <= indices.min() <= indices.max() < size:
            raise ValueError(f"a position is outside an axis of {size}")
        nodes = np.repeat(nodes, counts) * size + indices
    if len(nodes) != stored.values.size:
        raise ValueError(f"{len(nodes)} values are required, {stored.values.size} are stored")
    ordered = [sizes[axis] for axis in layout.order]
    flat = np.zeros(math.prod(ordered), stored.values.dtype)
    flat[nodes] = stored.values.reshape(-1)
    blocked = flat.reshape(ordered).transpose(np.argsort(layout.order))
    for number in reversed(range(blocks)):  # an axis of blocks goes back behind the one it divides
        axis = layout.block_map[number]
        moved = np.moveaxis(blocked, rank + number, axis + 1)
        merged = (*moved.shape[:axis], moved.shape[axis] * moved.shape[axis + 1])
        blocked = moved.reshape(*merged, *moved.shape[axis + 2 :])
    return np.ascontiguousarray(blocked.reshape(tuple(shape)))


def _blocked_shape(shape: Sequence[int], layout: Sparsity) -> tuple[int, ...]:
    """`shape` with the axes of blocks behind it."""
    sizes = list(shape)
    if len(set(layout.block_map)) != len(layout.block_map):
        raise ValueError("an axis is divided into blocks twice")
    for axis, block in zip(layout.block_map, layout.block_sizes, strict=True):
        if not 0 <= axis < len(shape) or block < 1 or sizes[axis] % block:
            raise ValueError(f"axis {axis} of shape {tuple(shape)} has no blocks of {block}")
        sizes[axis] //= block
    return (*sizes, *layout.block_sizes)


def _blocked(values: _Array, layout: Sparsity) -> _Array:
    rank = values.ndim
    outer = _blocked_shape(values.shape, layout)[:rank]
    blocks = dict(zip(layout.block_map, layout.block_sizes, strict=True))
    split: list[int] = []
    places: dict[int, int] = {}
    fronts: list[int] = []
    for axis in range(rank):
        fronts.append(len(split))
        split.append(outer[axis])
        if axis in blocks:
            places[axis] = len(split)
            split.append(blocks[axis])
    order = [*fronts, *(places[axis] for axis in layout.block_map)]
    return values.reshape(split).transpose(order)
