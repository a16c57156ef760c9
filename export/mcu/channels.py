"""Tables of output channels: what a sum starts from and is multiplied by, in few bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .arithmetic import Multiplier
from .code import array, initialiser
from .int8_conv import LARGEST_SHIFT, LARGEST_SUM
from .lists import Ternary

WHOLE = 16  # bytes of an ec2t_mcu_channel
_SMALLEST = 1 << 30  # of a multiplier, but for 0
_STEPS = 4  # shifts that one table can hold
_MOST_TAPS = 0xFF  # of a list whose length a byte holds


@dataclass(frozen=True)
class ChannelTable:
    """The channels of one layer in C.

    Attributes:
      declaration: of the table.
      member: a C initialiser of ec2t_mcu_channels.
      flash: bytes of the table.
    """

    declaration: str
    member: str
    flash: int


def channel_table(
    n: int,
    biases: Sequence[int],
    multipliers: Sequence[Multiplier],
    *,
    ternary: Ternary | None = None,
    zero_point: int = 0,
) -> ChannelTable:
    """The table of step `n`; 6 bytes a channel and 2 for lists where they hold it.

    Args:
      biases: int32, the input's zero point folded in.
      multipliers: one a channel, of two roundings.
      ternary: of a layer whose weights are lists.
      zero_point: of its input.
    """
    form, values = "SHORT", np.array(biases, np.int64)
    shifts = [m.shift for m in multipliers]
    least = min(shifts, default=0)
    fits = max(shifts, default=0) - least < _STEPS
    fits = fits and all(m.multiplier >= _SMALLEST and not m.low for m in multipliers)
    lists = None
    if ternary is not None and fits:
        lists = _lists(ternary)
        fits = lists is not None
    if lists is not None:
        form += " | EC2T_MCU_CHANNELS_LISTS"
        fits = all(map(_is_fast, (np.abs(values) + lists.bounds).tolist(), shifts))
        values = values + zero_point * lists.totals
        fits = fits and bool(np.abs(values).max(initial=0) < 1 << 31)
    if not fits:
        return ChannelTable(
            whole_table(n, biases, multipliers, ternary=ternary),
            initialiser({"table": f"channels_{n}", "form": "EC2T_MCU_CHANNELS_WHOLE"}),
            WHOLE * len(biases),
        )
    wide = bool(values.min(initial=0) < -(1 << 15) or values.max(initial=0) >= 1 << 15)
    if wide:
        form += " | EC2T_MCU_CHANNELS_WIDE_BIAS"
    records = []
    for at, (bias, m) in enumerate(zip(values.tolist(), multipliers, strict=True)):
        factor = 4 * (m.multiplier - _SMALLEST) + m.shift - least
        halves = [factor & 0xFFFF, factor >> 16, bias & 0xFFFF] + [bias >> 16 & 0xFFFF] * wide
        records.append(halves + ([lists.counts[at]] if lists is not None else []))
    members: dict[str, object] = {
        "table": f"channels_{n}",
        "form": f"EC2T_MCU_CHANNELS_{form}",
        "shift": least,
    }
    if lists is not None:
        members |= {"minus": lists.minus, "plus": lists.plus, "flips": int(lists.flips)}
    flat = np.array(records, np.int64).reshape(-1)
    declaration = array("uint16_t", f"channels_{n}", flat)
    return ChannelTable(declaration, initialiser(members), 2 * flat.size)


@dataclass(frozen=True)
class _Lists:
    """The lists' part of a table: a halfword a channel, and what all channels share."""

    counts: list[int]
    minus: int
    plus: int
    flips: bool
    totals: npt.NDArray[np.int64]  # of the weights of each channel
    bounds: npt.NDArray[np.int64]  # of what they make of any input


def _is_fast(bound: int, shift: int) -> bool:
    """Whether the tiles of 32-bit sums round exactly, on RISC-V too; `prepare` of list_conv.c."""
    return 1 <= -shift <= LARGEST_SHIFT and bound <= LARGEST_SUM // 2 and bound >> -shift <= 32000


def _lists(ternary: Ternary) -> _Lists | None:
    """None where lists are too long or channels do not share two magnitudes."""
    count_minus, count_plus = ((ternary.symbols == sign).sum(axis=1) for sign in (-1, 1))
    totals = ternary.plus * count_plus - ternary.minus * count_minus
    sizes = 128 * (ternary.plus * count_plus + ternary.minus * count_minus)
    both = list(zip(ternary.minus.tolist(), ternary.plus.tolist(), strict=True))
    whole = [pair for pair in both if all(pair)]
    minus, plus = whole[0] if whole else (max(m for m, _ in both), max(p for _, p in both))
    straight, turned = (
        np.array([m in (0, a) and p in (0, b) for m, p in both])
        for a, b in ((minus, plus), (plus, minus))
    )
    if not (straight | turned).all():
        return None
    flips = bool(not straight.all())
    if count_minus.max() > _MOST_TAPS or count_plus.max() > _MOST_TAPS >> flips:
        return None
    counts = count_minus + (count_plus << 8) + (~straight).astype(np.int64) * 0x8000
    return _Lists(counts.tolist(), minus, plus, flips, totals, sizes)


def whole_table(
    n: int,
    biases: Sequence[int],
    multipliers: Sequence[Multiplier],
    *,
    ternary: Ternary | None = None,
) -> str:
    """The ec2t_mcu_channel table of step `n`; what is 0 is left out."""
    names: tuple[str, ...] = ("bias", "multiplier", "shift", "multiplier_low")
    rows = [[b, m.multiplier, m.shift, m.low] for b, m in zip(biases, multipliers, strict=True)]
    if ternary is not None:
        names += ("minus_count", "plus_count", "minus", "plus")
        columns = (
            *((ternary.symbols == sign).sum(axis=1).tolist() for sign in (-1, 1)),
            *(ternary.minus.tolist(), ternary.plus.tolist()),
        )
        rows = [[*row, *more] for row, more in zip(rows, zip(*columns, strict=True), strict=True)]
    lines = "\n".join(_channel(names, row) for row in rows)
    return f"static const ec2t_mcu_channel channels_{n}[] = {{\n{lines}\n}};"


def _channel(names: Sequence[str], values: Sequence[int]) -> str:
    members = {name: value for name, value in zip(names, values, strict=True) if value}
    return f"    {initialiser(members or {names[0]: 0})},"
