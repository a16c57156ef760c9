"""How files hold 1 / root of an int16 variance: a table, by the sum of the variance's codes on four
scales of int8, fine for small ones and coarse for large ones."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .multipliers import multiplied, quantised_multiplier

LARGEST = 32767  # of a symmetric int16
CODES = 255  # the largest distance of two int8 codes
TIERS = 4
RATIO = (LARGEST / CODES) ** (1 / (TIERS - 1))
PLACES = TIERS * CODES + 1


def places() -> npt.NDArray[np.int64]:
    """Of every variance [LARGEST + 1], by the rounding of TensorFlow Lite's QUANTIZE."""
    codes = np.arange(LARGEST + 1)
    tiers = [multiplied(codes, *quantised_multiplier(RATIO**-tier)) for tier in range(TIERS)]
    total: npt.NDArray[np.int64] = np.minimum(tiers, CODES).sum(axis=0)
    return total


def middles() -> npt.NDArray[np.float64]:
    """The variance, in its own codes, that stands for all that have a place [PLACES]."""
    codes, place = np.arange(LARGEST + 1), places()
    count = np.bincount(place, minlength=PLACES)
    middle = np.bincount(place, codes, minlength=PLACES) / np.maximum(count, 1)
    used = np.flatnonzero(count)
    return np.interp(np.arange(PLACES), used, middle[used])
