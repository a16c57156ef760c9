"""Layers of one output pixel on Helium, four output channels at a time (fours_helium.h)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from .arithmetic import Multiplier
from .code import Code, Names, array, initialiser, struct
from .int8_conv import fits_fast

SOURCES = ("fours_helium.c",)
FLASH = 48  # bytes of four channels' numbers


def fits(
    weights: npt.NDArray[np.int8],
    biases: Sequence[int],
    multipliers: Sequence[Multiplier],
    *,
    once: bool,
) -> bool:
    """Whether every channel's numbers suit the vectors; `weights` are [channel, input], `once` says
    how often the layer rounds."""
    if once:
        return all(m.low == 0 and m.shift <= -2 for m in multipliers)
    sizes = 128 * np.abs(weights.astype(np.int64)).sum(axis=1)
    bounds = np.abs(np.array(biases, np.int64)) + sizes
    return all(fits_fast(*pair) for pair in zip(bounds.tolist(), multipliers, strict=True))


def table(n: int, biases: Sequence[int], multipliers: Sequence[Multiplier], *, once: bool) -> str:
    """The ec2t_mcu_four table of step `n`."""
    columns = {
        "bias": list(biases),
        "multiplier": [m.multiplier for m in multipliers],
        "shift": [m.shift + (2 if once else 0) for m in multipliers],
    }
    rows = []
    for first in range(0, len(biases), 4):
        members = {
            name: "{" + ", ".join(map(str, values[first : first + 4])) + "}"
            for name, values in columns.items()
        }
        rows.append(f"    {initialiser(members)},")
    return f"static const ec2t_mcu_four fours_{n}[] = {{\n" + "\n".join(rows) + "\n};"


def flash(weights: npt.NDArray[np.int8]) -> int:
    """Bytes of a layer's constants."""
    return weights.size + FLASH * -(-len(weights) // 4)


def dense_code(
    weights: npt.NDArray[np.int8],
    biases: list[int],
    multipliers: list[Multiplier],
    names: Names,
    entry: str,
    *,
    once: bool,
    clamp: str,
) -> Code:
    """The kernel call of a dense layer; `entry` is the address of the first input."""
    n = names.index
    count, size = weights.shape
    members = {
        "fours": f"fours_{n}",
        "weights": f"weights_{n}",
        "inputs": size,
        "outputs": count,
        "rounds_once": int(once),
        "clamp": clamp,
    }
    return Code(
        [
            array("int8_t", f"weights_{n}", weights),
            table(n, biases, multipliers, once=once),
            struct("dense_fours", f"layer_{n}", members),
        ],
        [f"ec2t_mcu_dense_fours_run(&layer_{n}, {entry}, {names.output});"],
        flash(weights),
        "int8",
    )
