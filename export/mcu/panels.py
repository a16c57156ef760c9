"""Int8 convolutions by panels: the taps, steps and stream of an ec2t_mcu_panel_conv."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .arithmetic import Multiplier
from .code import Code, Names, array, struct
from .int8_conv import Int8Conv, fits_fast

PAIRS, ALONE, EXACT = 0, 1, 2  # kinds of parts of a stream
LARGEST_SECOND = 1 << 23  # what a second channel's sum must stay below
SMALLEST_HALF, LARGEST_HALF = -0x8000, 0x7FFF

Tap = tuple[int, int, int]  # depth, row, column
Step = tuple[Tap | None, Tap | None]  # None: a weight of 0


@dataclass(frozen=True)
class Taps:
    """The order in which a panel holds the taps of a kernel.

    Attributes:
        runs: First taps of four neighbours in a row (a fourth may lie beyond the kernel).
        threes: First taps of three neighbours, an even number of them.
        singles: Taps by themselves, an even number of them.
        steps: What the steps multiply, two taps each.
    """

    runs: list[Tap]
    threes: list[Tap]
    singles: list[Tap]
    steps: list[Step]

    @property
    def scratch(self) -> int:
        """Bytes of one panel."""
        return 16 * len(self.steps)


def order_taps(depth: int, rows: int, columns: int, *, neighbours: bool) -> Taps:
    """Splits a kernel into runs, threes and pairs; `neighbours`: a row's taps lie side by side."""
    runs: list[Tap] = []
    threes: list[Tap] = []
    pairs: list[Tap] = []
    left_over: list[Tap] = []
    for c in range(depth):
        for y in range(rows):
            x = 0
            if neighbours:
                for x in range(0, columns - 3, 4):
                    runs.append((c, y, x))
                x = columns - columns % 4
                if columns - x == 3:
                    threes.append((c, y, x))
                    x = columns
            rest = [(c, y, i) for i in range(x, columns)]
            even = len(rest) // 2 * 2
            pairs += rest[:even]
            left_over += rest[even:]
    if len(threes) % 2:
        runs.append(threes.pop())
    steps: list[Step] = []
    for c, y, x in runs:
        fourth = (c, y, x + 3) if x + 3 < columns else None
        steps += [((c, y, x), (c, y, x + 2)), ((c, y, x + 1), fourth)]
    for (c, y, x), (d, z, w) in zip(threes[::2], threes[1::2], strict=True):
        steps += [((c, y, x), (c, y, x + 2)), ((d, z, w), (d, z, w + 2))]
        steps += [((c, y, x + 1), (d, z, w + 1))]
    singles = pairs + left_over
    for i in range(0, len(singles), 2):
        steps.append((singles[i], singles[i + 1] if i + 1 < len(singles) else None))
    singles += singles[-1:] * (len(singles) % 2)
    if len(steps) == 1:  # the kernel needs two
        singles += [(singles or runs or threes)[-1]] * 2
        steps.append((None, None))
    return Taps(runs, threes, singles, steps)


def taps_of(conv: Int8Conv) -> Taps:
    """The taps of a convolution."""
    _, depth, rows, columns = conv.weights.shape
    return order_taps(depth, rows, columns, neighbours=conv.dilation[1] == 1)


def _entries(conv: Int8Conv) -> list[tuple[int, tuple[int, ...]]]:
    """Kind and channels of every entry of the stream."""
    bounds = conv.bounds().tolist()
    fast = [fits_fast(b, m) for b, m in zip(bounds, conv.multipliers, strict=True)]
    wide = conv.weights.astype(np.int64)

    def together(first: int, second: int) -> bool:
        halves = wide[first] + 256 * wide[second]
        fits = halves.min() >= SMALLEST_HALF and halves.max() <= LARGEST_HALF
        return bool(fits) and bounds[second] < LARGEST_SECOND

    found: list[tuple[int, tuple[int, ...]]] = []
    channel = 0
    while channel < len(wide):
        pair = (channel, channel + 1)
        if pair[1] < len(wide) and together(*pair):
            found.append((PAIRS if fast[pair[0]] and fast[pair[1]] else EXACT, pair))
            channel += 2
        else:
            alone = fast[channel] and together(channel, channel)
            found.append((ALONE if alone else ALONE | EXACT, (channel,)))
            channel += 1
    return found


def entry_counts(conv: Int8Conv) -> tuple[int, int]:
    """Entries of the stream that the assembly computes, and of the others."""
    exact = [bool(kind & EXACT) for kind, _ in _entries(conv)]
    return exact.count(False), exact.count(True)


def _ending(multiplier: Multiplier, kind: int, zero_point: int) -> list[int]:
    """Multiplier, rounding and shift as the kernel takes them."""
    if kind & EXACT:
        return [multiplier.multiplier, 0, multiplier.shift]
    right = -multiplier.shift
    return [multiplier.multiplier, (1 << right >> 1) + (zero_point << right), right]


def stream_of(
    conv: Int8Conv, steps: list[Step]
) -> tuple[npt.NDArray[np.uint32], list[tuple[int, int]]]:
    """The stream, and its parts: numbers of entries and their kinds."""
    wide = conv.weights.astype(np.int64)
    words: list[int] = []
    parts: list[tuple[int, int]] = []
    for kind, channels in _entries(conv):
        # A channel alone comes twice; where that does not fit, with nothing.
        first, second = channels[0], channels[-1]
        twice = kind != ALONE | EXACT
        both = wide[first] + (256 * wide[second] if twice else 0)
        bias = conv.biases[first], conv.biases[second] if twice else 0
        words += [bias[0], bias[0] + 256 * bias[1]]
        for low, high in steps:
            halves = [int(both[tap]) & 0xFFFF if tap is not None else 0 for tap in (low, high)]
            words.append(halves[0] | halves[1] << 16)
        for channel in (first, second):
            words += _ending(conv.multipliers[channel], kind, conv.zero_point)
        if parts and parts[-1][1] == kind and parts[-1][0] < 0xFFFF:
            parts[-1] = (parts[-1][0] + 1, kind)
        else:
            parts.append((1, kind))
    return (np.array(words, np.int64) & 0xFFFFFFFF).astype(np.uint32), parts


def panel_code(conv: Int8Conv, names: Names, entry: str) -> Code | None:
    """The kernel call; None where a tap lies too far. `entry` is the address of the first tap under
    the first output pixel."""
    n = names.index
    taps = taps_of(conv)
    where = [conv.offset(*tap) for tap in (*taps.runs, *taps.threes, *taps.singles)]
    if max(where) > 0xFFFF or len(where) > 0xFFFF:
        return None
    stream, parts = stream_of(conv, taps.steps)
    ends = ", ".join(
        f"{{.entries = {entries}, .kind = {kind}}}" for entries, kind in (*parts, (0, 0))
    )
    declarations = [
        array("uint16_t", f"taps_{n}", where),
        array("uint32_t", f"stream_{n}", stream),
        f"static const ec2t_mcu_panel_part parts_{n}[] = {{{ends}}};",
        struct(
            "panel_conv",
            f"layer_{n}",
            {
                "in": conv.source.c(),
                "out": conv.out.c(),
                "stream": f"stream_{n}",
                "taps": f"taps_{n}",
                "parts": f"parts_{n}",
                "runs": len(taps.runs),
                "doubles": len(taps.threes) // 2,
                "pairs": len(taps.singles) // 2,
                "stride_y": conv.strides[0],
                "stride_x": conv.strides[1],
                "clamp": conv.clamp,
            },
        ),
    ]
    call = (
        f"ec2t_mcu_panel_conv_run(&layer_{n}, {entry}, {names.output}, "
        f"(uint32_t *)(void *){names.scratch});"
    )
    flash = 2 * len(where) + 4 * len(stream) + 4 * (len(parts) + 1)
    return Code(declarations, [call], flash, "int8")
