"""Fully connected layers on M4, M7 and M33, two rows a weight word (ec2t_mcu_paired_rows)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .arithmetic import Multiplier
from .channels import whole_table
from .code import Code, Names, array, struct
from .panels import LARGEST_HALF, LARGEST_SECOND, SMALLEST_HALF

INPUTS = 8  # at once
GROUPS = (8, 2)  # rows


def _pairs(weights: npt.NDArray[np.int8]) -> npt.NDArray[np.int64]:
    """w0 + 256 * w1 of every two rows [pair, input], rows and inputs filled up with 0."""
    rows, inputs = weights.shape
    wide = np.zeros((rows + rows % 2, inputs + -inputs % INPUTS), np.int64)
    wide[:rows, :inputs] = weights
    pairs: npt.NDArray[np.int64] = wide[::2] + 256 * wide[1::2]
    return pairs


def fits(weights: npt.NDArray[np.int8]) -> bool:
    """Whether halves have 16 bits and the sums of every second row 24; `weights` [row, input]."""
    pairs = _pairs(weights)
    sums = 128 * np.abs(weights[1::2].astype(np.int64)).sum(axis=1)
    halves = pairs.min() >= SMALLEST_HALF and pairs.max() <= LARGEST_HALF
    return bool(halves) and sums.max(initial=0) < LARGEST_SECOND


def words_of(weights: npt.NDArray[np.int8]) -> npt.NDArray[np.uint32]:
    """The words in the order in which the kernel reads them."""
    pairs = _pairs(weights)
    words = []
    first = 0
    while first < len(pairs):
        size = next(g // 2 for g in GROUPS if 2 * first + g <= len(weights) or g == GROUPS[-1])
        # [pair, four inputs, which of the four]
        part = pairs[first : first + size].reshape(size, -1, 4) & 0xFFFF
        words.append((part[..., :2] | part[..., 2:] << 16).transpose(1, 2, 0).reshape(-1))
        first += size
    return np.concatenate(words).astype(np.uint32)


def rows_code(
    weights: npt.NDArray[np.int8],
    biases: list[int],
    multipliers: list[Multiplier],
    names: Names,
    entry: str,
    *,
    once: bool,
    clamp: str,
) -> Code:
    """The kernel call; `entry` is the address of the first input."""
    n = names.index
    rows, inputs = weights.shape
    words = words_of(weights)
    declarations = [
        array("uint32_t", f"weights_{n}", words),
        whole_table(n, biases, multipliers),
        struct(
            "paired_rows",
            f"layer_{n}",
            {
                "channel": f"channels_{n}",
                "words": f"weights_{n}",
                "inputs": inputs,
                "outputs": rows,
                "rounds_once": int(once),
                "clamp": clamp,
            },
        ),
    ]
    call = f"ec2t_mcu_paired_rows_run(&layer_{n}, {entry}, {names.output});"
    return Code(declarations, [call], 4 * len(words) + 16 * rows, "int8")
