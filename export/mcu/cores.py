"""The cores that C can be written for, in one table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

FLIP = 128  # what SWAR cores add to stored activations


@dataclass(frozen=True)
class Core:
    """What the choice of kernels depends on.

    Attributes:
        family: "swar": additions in ordinary registers, on activations stored as value + 128;
            "dsp": the DSP instructions of M4, M7, M33; "helium": vectors of M55 and M85.
        group: Neighbouring pixels a tile handles at once.
        pixels: Neighbouring pixels a SWAR tile of an int8 convolution may have: as many sums as
            registers hold.
        tap_cost: Instructions of a tap of such a tile a pixel.
        reach: Bytes from the first input of a run that such a tile can load.
        lists_pay_from: Share of zeros from which index lists of a fully connected layer take fewer
            instructions than its dense int8 kernel (make bench-mcu).
        aligned: Whether it loads words from multiples of four only.
        by_place: Whether lists have their taps by place in a word where that can be.
        like: The core of the same kernels whose measured costs stand for this one's; "" for a core
            that was measured.
    """

    family: Literal["swar", "dsp", "helium"]
    group: int = 4
    pixels: tuple[int, ...] = ()
    tap_cost: int = 2
    reach: int = 1 << 12
    lists_pay_from: float = 0.55
    aligned: bool = False
    by_place: bool = False
    like: str = ""


CORES = {
    "generic": Core("swar", pixels=(4, 5, 6)),
    "m0": Core(
        "swar", pixels=(4, 5, 6, 7, 8), tap_cost=3, reach=32, lists_pay_from=0.06, aligned=True
    ),
    "m3": Core("swar", pixels=(4, 5, 6, 7, 8), lists_pay_from=0.53),
    "m4": Core("dsp", lists_pay_from=0.77),
    "m7": Core("dsp", lists_pay_from=0.77),
    "m23": Core(
        "swar",
        pixels=(4, 5, 6, 7, 8),
        tap_cost=3,
        reach=32,
        lists_pay_from=0.06,
        aligned=True,
        like="m0",
    ),
    "m33": Core("dsp", lists_pay_from=0.77),
    "m33_nodsp": Core("swar", pixels=(4, 5, 6, 7, 8), lists_pay_from=0.53, like="m3"),
    "rv32": Core("swar", pixels=(4, 5, 6, 7, 8), aligned=True, by_place=True),
    "rv32_unaligned": Core("swar", pixels=(4, 5, 6, 7, 8)),
    "m55": Core("helium", group=8, lists_pay_from=2.0),  # never
    "m55_nomve": Core("dsp", lists_pay_from=0.77, like="m33"),
    "m85": Core("helium", group=8, lists_pay_from=2.0, like="m55"),
}
OPTIMIZE = ("size", "balanced", "speed", "ram")
