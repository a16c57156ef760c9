"""Ternary weights as the lists and streams of the planar kernels.

Unlike in a blob (export/formats) a channel's weights come in plane order, input channel first, so
that tap offsets grow along the list; and every channel starts anew, its counts being at hand.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ec2t_tf.export.graph.ternary import is_ternary

LARGEST_DISTANCE = 0xFFFF
LONGEST_CODE = 25  # bits the decoder sees at once, whatever the bit position
READ_AHEAD = 4  # bytes it may read behind the stream


@dataclass(frozen=True)
class Ternary:
    """Weights [channel, tap] in plane order: `symbols` -1, 0, +1; `minus`, `plus` the magnitudes
    of the two values of each channel (0 where unused)."""

    symbols: npt.NDArray[np.int8]
    minus: npt.NDArray[np.int64]
    plus: npt.NDArray[np.int64]


def as_ternary(weights: npt.NDArray[np.int8]) -> Ternary | None:
    """Int8 weights [channel, tap] as ternary, or None if a channel holds two values of one sign."""
    rows = weights.astype(np.int64)
    if rows.min(initial=0) < -127 or not is_ternary(rows):
        return None
    plus = np.maximum(rows, 0).max(axis=1, initial=0)
    minus = np.maximum(-rows, 0).max(axis=1, initial=0)
    return Ternary(np.sign(rows).astype(np.int8), minus, plus)


def distances(
    symbols: npt.NDArray[np.int8], offsets: npt.NDArray[np.int64]
) -> npt.NDArray[np.uint16] | None:
    """Per channel the byte distances of the minus taps, then of the plus taps; None if one is
    too great for 16 bits.

    Args:
        symbols: [channel, tap].
        offsets: Byte offset of each tap, ascending.
    """
    parts = []
    for row in symbols:
        for sign in (-1, 1):
            parts.append(np.diff(offsets[row == sign], prepend=0))
    flat = np.concatenate(parts) if parts else np.zeros(0, np.int64)
    if flat.size and (flat.max() > LARGEST_DISTANCE or flat.min() < 0):
        return None
    return flat.astype(np.uint16)


def offsets(symbols: npt.NDArray[np.int8], where: npt.NDArray[np.int64]) -> npt.NDArray[np.uint16]:
    """Per channel the byte offsets of the minus taps, then of the plus taps.

    Args:
        symbols: [channel, tap].
        where: Byte offset of each tap, none beyond 16 bits.
    """
    parts = [where[row == sign] for row in symbols for sign in (-1, 1)]
    return np.concatenate([np.zeros(0, np.int64), *parts]).astype(np.uint16)


def rice_length(symbols: npt.NDArray[np.int8], k: int) -> int:
    """Bits of the Rice stream with parameter k."""
    return sum(int(((g >> k) + 2 + k).sum()) for g, _ in map(_gaps, symbols))


def best_rice_parameter(symbols: npt.NDArray[np.int8]) -> int:
    """The parameter of the shortest stream whose codes all fit 32 bits."""
    longest = max((int(g.max(initial=0)) for g, _ in map(_gaps, symbols)), default=0)
    fitting = [k for k in range(15) if (longest >> k) + 2 + k <= LONGEST_CODE]
    return min(fitting, key=lambda k: rice_length(symbols, k))


def rice(symbols: npt.NDArray[np.int8], k: int) -> tuple[npt.NDArray[np.uint8], int]:
    """Rice stream as bytes (first bit most significant, READ_AHEAD bytes behind it) and its bits.

    Per non-zero weight: the zeros before it in unary (ones, then a zero) and k binary digits, then
    1 for minus.
    """
    bits: list[int] = []
    for row in symbols:
        for gap, negative in zip(*_gaps(row), strict=True):
            low = [(int(gap) >> bit) & 1 for bit in range(k - 1, -1, -1)]
            bits += [1] * (int(gap) >> k) + [0] + low + [int(negative)]
    packed = np.packbits(np.array(bits, np.uint8))
    return np.concatenate([packed, np.zeros(READ_AHEAD, np.uint8)]), len(bits)


def _gaps(row: npt.NDArray[np.int8]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    places = np.flatnonzero(row)
    return np.diff(places, prepend=-1) - 1, row[places] < 0
