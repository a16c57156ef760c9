"""Tables of 1 / root as a few numbers: a layer's 1,021 values follow from one table that all layers
share, and a search."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ec2t_tf.export.graph.inverse_roots import LARGEST, PLACES, middles

FIRST = 32  # places before this one stay a table
TRIES = 64  # slopes
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Root:
    """The value at a place from `FIRST` on: the greatest n with (2 n - 1)^2 d <= limit, where d is
    slope * (twice the place's middle) + offset, below 2^32."""

    slope: int
    offset: int
    limit: int


def twice_middles() -> Integers:
    """Of the places from `FIRST` on, whole numbers where a code has the place."""
    return np.rint(2 * middles()[FIRST:]).astype(np.int64)


def root_of(table: Integers, places: Integers) -> Root | None:
    """What gives a table's values at these places; None if nothing of this form does.

    Args:
        table: 1 / root(variance + epsilon), the largest being `LARGEST` [PLACES].
        places: Those that a variance can have.
    """
    if len(table) != PLACES or table.min() < 1 or table.max() != LARGEST:
        return None
    places = places[places >= FIRST]
    values, twice = table[places], twice_middles()[places - FIRST]
    odd, two = (2 * values - 1).astype(np.uint64), np.uint64(2)
    for slope, offset in _lines(values, twice):
        divisor = (twice * slope + offset).astype(np.uint64)
        limit = int(np.max(odd * odd * divisor, initial=0))
        if np.all((odd + two) ** 2 * divisor > limit):
            return Root(slope, offset, limit)
    return None


def _lines(values: Integers, twice: Integers) -> Iterator[tuple[int, int]]:
    """Slopes and offsets whose ratio, about, is an epsilon that rounds to these values; in halves
    of the variance's step."""
    low, high = (((values + half) / LARGEST) ** 2 for half in (-0.5, 0.5))
    least = np.max((low * twice - 2) / (1 - low), initial=0.0)
    below = high < 1
    most = np.min((high[below] * twice[below] - 2) / (1 - high[below]), initial=2.0**31)
    epsilon = max(float(least + most) / 2, 0.0)
    steepest = int((2**32 - 1) / (2 * LARGEST + epsilon + 1))
    for slope in range(steepest, max(steepest - TRIES, 0), -1):
        near = math.floor(epsilon * slope)
        yield from ((slope, near), (slope, near + 1))
