"""Codes of 4 and of 2 bits, several a byte, the first in the lowest bits."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def packed(codes: npt.NDArray[np.int8], bits: int) -> npt.NDArray[np.uint8]:
    """uint8: two's complement codes of `bits` bits, as many a byte as fit."""
    each = 8 // bits
    flat = np.asarray(codes, np.int8).reshape(-1).view(np.uint8) & ((1 << bits) - 1)
    padded = np.append(flat, np.zeros(-flat.size % each, np.uint8)).reshape(-1, each)
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    return np.bitwise_or.reduce(padded << shifts, axis=1).astype(np.uint8)


def unpacked(
    stored: npt.NDArray[np.uint8], bits: int, shape: Sequence[int]
) -> npt.NDArray[np.int8]:
    """int8 codes of `shape` from what `packed` made.

    Raises:
      ValueError: the bytes do not fit the shape.
    """
    each, elements = 8 // bits, math.prod(shape)
    if stored.size != -(-elements // each):
        raise ValueError(
            f"{elements} codes of {bits} bits need {-(-elements // each)} bytes. "
            f"Received: {stored.size}."
        )
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    codes = (stored[:, None] >> shifts & ((1 << bits) - 1)).reshape(-1)[:elements]
    signed = codes.astype(np.int16) - ((codes >> (bits - 1)).astype(np.int16) << bits)
    return signed.astype(np.int8).reshape(tuple(shape))
