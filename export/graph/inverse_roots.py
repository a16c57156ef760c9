"""How files hold 1 / root of an int16 variance: a table, by the sum of the variance's codes on four
scales of int8, fine for small ones and coarse for large ones."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

LARGEST = 32767  # of a symmetric int16
CODES = 255  # the largest distance of two int8 codes
TIERS = 4
RATIO = (LARGEST / CODES) ** (1 / (TIERS - 1))
PLACES = TIERS * CODES + 1


def middles() -> npt.NDArray[np.float64]:
    """The variance, in its own codes, that stands for all that have a place [PLACES]."""
    codes = np.arange(LARGEST + 1)
    place = sum(np.clip(np.rint(codes / RATIO**tier), 0, CODES) for tier in range(TIERS))
    place = np.asarray(place).astype(np.int64)
    count = np.bincount(place, minlength=PLACES)
    middle = np.bincount(place, codes, minlength=PLACES) / np.maximum(count, 1)
    used = np.flatnonzero(count)
    return np.interp(np.arange(PLACES), used, middle[used])
