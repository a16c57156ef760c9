"""A layer's numbers through a `number_coder` pen: biases, scales and int8 weights, each by what is
usual for it. Compact blobs and download files (since version 4) have them; order and digits are a
format. `rounded` is of compact blobs of version 3 and download files of version 5: how many last
digits are zero is said once for a layer, and they cost nothing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from .number_coder import Reader, StreamError, Writer

Pen = Writer | Reader
_SLOPE_BITS = 2  # of a slope, behind the point
_CENTRE_BITS, _PLAIN_SCALE_BITS = 17, 18  # of a float32, at its lower end
_MOST_DIGITS = 31


def zero_digits(values: Sequence[int], most: int) -> int:
    """How many last binary digits are zero in all of some whole numbers, at most `most`."""
    union = 0
    for value in values:
        union |= abs(value)
    return most if not union else min((union & -union).bit_length() - 1, most)


def are_rounded(bits: Sequence[int], biases: Sequence[int]) -> bool:
    """Whether a layer's scales, as bits of float32s, or its biases end in zeros that are worth
    saying."""
    return any(
        len(set(values)) > 1 and zero_digits(values, _MOST_DIGITS) > 1 for values in (bits, biases)
    )


def code_biases(
    pen: Pen, biases: Sequence[int], sums: Sequence[int], *, rounded: bool = False
) -> list[int]:
    """Biases of a layer, int32.

    Args:
      biases: one a channel; nothing that matters where the pen reads.
      sums: of each channel's weights. A bias takes away what they make of the average input, so a
        line through (sum, bias) says most of it; how far each is off the line is coded.
      rounded: say how many last digits of all biases are zero.

    Raises:
      StreamError: (reading) a bias is no int32.
    """
    zeros = _zeros(pen, biases, _MOST_DIGITS, rounded)
    slope, centre, digits = (0, 0, 0) if pen.reads else _line(biases, sums, zeros)
    slope = pen.signed("small", slope)
    digits = pen.number("small", digits)
    centre = pen.signed("small", centre)
    if digits > _MOST_DIGITS:
        raise StreamError(f"{digits} plain digits of biases, of at most {_MOST_DIGITS}")
    found = []
    for at, total in enumerate(sums):
        expected = (centre << digits) + (slope * total >> _SLOPE_BITS + zeros)
        rest = 0 if pen.reads else (biases[at] >> zeros) - expected
        upper = pen.signed("bias", rest >> digits)
        bias = expected + (upper << digits) + pen.plain(rest & (1 << digits) - 1, digits)
        bias <<= zeros
        if not -(1 << 31) <= bias < 1 << 31:
            raise StreamError(f"the bias {bias} is no int32")
        found.append(bias)
    return found


def _zeros(pen: Pen, values: Sequence[int], most: int, rounded: bool) -> int:
    """How many last digits of all values are zero, which a stream of rounded numbers says."""
    if not rounded:
        return 0
    zeros = pen.number("small", 0 if pen.reads else zero_digits(values, most))
    if zeros > most:
        raise StreamError(f"{zeros} digits of zero, of at most {most}")
    return zeros


def _line(biases: Sequence[int], sums: Sequence[int], zeros: int) -> tuple[int, int, int]:
    """Slope; centre, but for the last digits; how many digits of what is left have no pattern. The
    last two without the `zeros` at the end of every bias."""
    x, y = np.array(sums, np.float64), np.array(biases, np.float64)
    spread = float(((x - x.mean()) ** 2).sum())
    slope = float(((x - x.mean()) * (y - y.mean())).sum()) / spread if spread else 0.0
    most = 1 << 30
    fixed = min(max(round(slope * (1 << _SLOPE_BITS)), -most), most)
    rests = [
        (bias >> zeros) - (fixed * total >> _SLOPE_BITS + zeros)
        for bias, total in zip(biases, sums, strict=True)
    ]
    centre = min(max(sum(rests) // len(rests), -most), most)
    typical = sum(abs(rest - centre) for rest in rests) // len(rests)
    digits = min(max(typical.bit_length() - 3, 0), _MOST_DIGITS)
    return fixed, centre >> digits, digits


def code_scales(pen: Pen, bits: Sequence[int], count: int, *, rounded: bool = False) -> list[int]:
    """Scales of a layer's channels as the bits of float32s; all but the first digits are plain.

    Args:
      bits: `count` numbers below 2^32; nothing that matters where the pen reads.
      rounded: say how many last digits of all scales are zero.

    Raises:
      StreamError: (reading) one has more than 32 bits.
    """
    zeros = _zeros(pen, bits, _CENTRE_BITS, rounded)
    plain = _PLAIN_SCALE_BITS - zeros
    if pen.flag("one scale", len(set(bits)) == 1 or count == 1):
        return [pen.plain(0 if pen.reads else bits[0] >> zeros, 32 - zeros) << zeros] * count
    centre = 0 if pen.reads else sum(bits) // count >> _CENTRE_BITS
    centre = pen.plain(centre, 32 - _CENTRE_BITS) << _CENTRE_BITS
    found = []
    for at in range(count):
        rest = 0 if pen.reads else bits[at] - centre
        upper = pen.signed("scale", rest >> _PLAIN_SCALE_BITS)
        lower = pen.plain((rest & (1 << _PLAIN_SCALE_BITS) - 1) >> zeros, plain) << zeros
        scale = centre + (upper << _PLAIN_SCALE_BITS) + lower
        if not 0 <= scale < 1 << 32:
            raise StreamError(f"the scale {scale:#x} is no float32")
        found.append(scale)
    return found


def code_int8(pen: Pen, weights: npt.NDArray[np.int8], count: int) -> npt.NDArray[np.int8]:
    """Weights of any codes, flat: their upper digits as they come up, the others plain.

    Args:
      weights: `count` of them; nothing that matters where the pen reads.

    Raises:
      StreamError: (reading) a code has more than eight digits.
    """
    codes = (weights.astype(np.int64) + 128).tolist() if not pen.reads else [0] * count
    learned = pen.number("small", 0 if pen.reads else _digits_worth_learning(codes))
    if learned > 8:
        raise StreamError(f"{learned} digits of a weight, of 8")
    plain = 8 - learned
    found = [
        (pen.choice("int8", code >> plain, learned) << plain)
        + pen.plain(code & (1 << plain) - 1, plain)
        for code in codes
    ]
    return (np.array(found, np.int64) - 128).astype(np.int8)


def _digits_worth_learning(codes: Sequence[int]) -> int:
    """By the cost of an adaptive code (Krichevsky and Trofimov's) of the upper digits."""
    counts = np.bincount(codes, minlength=256)
    saved, best, most_saved = 0.0, 0, 0.0
    for digits in range(1, 9):
        for zeros, ones in counts.reshape(-1, 2, 1 << 8 - digits).sum(2).tolist():
            saved += zeros + ones - _adaptive_bits(zeros, ones)
        if saved > most_saved:
            best, most_saved = digits, saved
    return best


def _adaptive_bits(zeros: int, ones: int) -> float:
    half = math.lgamma(0.5)
    chance = math.lgamma(zeros + 0.5) + math.lgamma(ones + 0.5) - 2 * half
    return -(chance - math.lgamma(zeros + ones + 1)) / math.log(2)
