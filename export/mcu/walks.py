"""Steps between the elements of a tensor in memory, and walks over several tensors at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from .plan import Layout

MOST_AXES = 8


@dataclass(frozen=True)
class Axis:
    """One axis of a walk; the C twin is ec2t_mcu_axis: elements, and bytes from one to the next in
    each tensor."""

    size: int
    steps: tuple[int, ...]


def is_map(shape: Sequence[int]) -> bool:
    """Whether a tensor lies in planes, one a channel (its last dimension), or else row by row."""
    return len(shape) <= 4 and (len(shape) < 2 or shape[0] == 1)


def dimensions(shape: Sequence[int]) -> tuple[int, int, int]:
    """Rows, columns, channels of a tensor's layout."""
    if is_map(shape):
        rows, columns, channels = (1, 1, 1, *shape)[-3:] if shape else (1, 1, 1)
        return rows, columns, channels
    return math.prod(shape[:-1]), shape[-1], 1


def steps(layout: Layout, shape: Sequence[int]) -> list[int]:
    """Bytes from one index to the next in each dimension of a tensor that is not flattened."""
    if is_map(shape):
        return [0, layout.pitch, 1, layout.plane][4 - len(shape) :]
    found, step = [1], layout.pitch
    for size in reversed(shape[:-1]):
        found.append(step)
        step *= size
    return found[::-1]


def merged(axes: Sequence[Axis]) -> list[Axis]:
    """The same walk in as few axes as possible, the smallest step of the last tensor innermost."""
    ordered = sorted((a for a in axes if a.size > 1), key=lambda a: -abs(a.steps[-1]))
    found: list[Axis] = []
    for axis in ordered:
        if found and found[-1].steps == tuple(s * axis.size for s in axis.steps):
            found[-1] = Axis(found[-1].size * axis.size, axis.steps)
        else:
            found.append(axis)
    return found or [Axis(1, tuple(1 for _ in axes[0].steps) if axes else (1, 1))]


def as_c(name: str, axes: Sequence[Axis]) -> str:
    """A table of ec2t_mcu_axis."""
    rows = ", ".join(
        f"{{.size = {a.size}u, .step = {{{', '.join(map(str, a.steps))}}}}}" for a in axes
    )
    return f"static const ec2t_mcu_axis {name}[] = {{{rows}}};"


def refined(a: Sequence[int], b: Sequence[int]) -> list[int] | None:
    """Sizes, outermost first, of which runs make up the dimensions of both shapes; None if the
    shapes cut across each other."""
    cuts = sorted({math.prod(x[i:]) for x in (a, b) for i in range(len(x) + 1)})
    if any(large % small for small, large in pairwise(cuts)):
        return None
    return [large // small for small, large in pairwise(cuts)][::-1]


def spread_over(sizes: Sequence[int], shape: Sequence[int], own: Sequence[int]) -> list[int]:
    """Steps of the `refined` sizes of a tensor whose dimensions `shape` have the steps `own`."""
    found: list[int] = []
    inner = 1
    for size in reversed(sizes):
        below, place = 1, len(shape) - 1
        while place > 0 and below * shape[place] <= inner:
            below *= shape[place]
            place -= 1
        found.append(own[place] * (inner // below))
        inner *= size
    return found[::-1]
