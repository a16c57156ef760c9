"""TensorFlow Lite's fixed-point constants."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ec2t_tf.export.graph.activations import activation_range
from ec2t_tf.export.graph.multipliers import (
    mean_multiplier,
    multiplied,
    quantised_multiplier,
)
from ec2t_tf.export.graph.padding import same_padding

__all__ = [
    "Multiplier",
    "activation_range",
    "add_multipliers",
    "added",
    "exact_multiplier",
    "mean_multiplier",
    "quantised_multiplier",
    "requantised",
    "rounded_away",
    "same_padding",
]


@dataclass(frozen=True)
class Multiplier:
    """multiplier * 2^(shift - 31), and `low` * 2^(shift - 39) more."""

    multiplier: int
    shift: int
    low: int = 0


def requantised(total: int, m: Multiplier) -> int:
    """TensorFlow Lite's MultiplyByQuantizedMultiplier with two roundings; the C twin is
    ec2t_mcu_requantise."""
    return int(multiplied(total, m.multiplier, m.shift))


def rounded_away(value: float) -> int:
    """The nearest integer, halves away from zero (C's `round`)."""
    whole = math.trunc(value)
    rest = value - whole
    return whole + (rest >= 0.5) - (rest <= -0.5)


def exact_multiplier(real: float, least: int, most: int, bound: int) -> Multiplier | None:
    """A multiplier m that rounds once, in whole numbers, as double precision does.

    floor(a * m + 1/2) is `rounded_away(a * real)`, both limited to `least` to `most`, for every
    integer a from -bound to bound. An output changes at one sum for each of the at most 255 steps;
    m is on the right side of all of them. None if no multiplier of 39 bits is: sums beyond about
    2^29, or a `real` like 0.7, whose exact halves double precision rounds some up and some down.
    """
    _, exponent = math.frexp(real)
    shift = min(max(exponent, -31), 30)
    for extra in (0, 8):
        half = 1 << (30 - shift + extra)  # 1/2 in units of m
        low, high = 0, (1 << (31 + extra)) - 1
        for step in range(least, most):
            odd = (2 * step + 1) * half
            above = _first_above(step, real, bound)
            if above <= bound:  # above * m >= odd
                if above > 0:
                    low = max(low, -(-odd // above))
                elif above < 0:
                    high = min(high, -odd // -above)
            below = above - 1
            if below >= -bound:  # below * m < odd
                if below > 0:
                    high = min(high, (odd - 1) // below)
                elif below < 0:
                    low = max(low, -((odd - 1) // -below))
        if low <= high:
            numerator, denominator = real.as_integer_ratio()
            nearest = 2 * half * numerator // denominator
            chosen = min(max(nearest, low), high)
            return Multiplier(chosen >> extra, shift, chosen & ((1 << extra) - 1))
    return None


def _first_above(step: int, real: float, bound: int) -> int:
    """The least integer from -bound to bound + 1 whose product with `real` rounds to more than
    `step`; bound + 1 also if none does."""
    guess = (step + 0.5) / real if real > 0 else math.inf if step >= 0 else -math.inf
    if guess > bound + 2:
        return bound + 1
    if guess < -bound - 2:
        return -bound
    a = min(max(math.ceil(guess), -bound), bound)
    while a <= bound and rounded_away(a * real) <= step:
        a += 1
    while a > -bound and rounded_away((a - 1) * real) > step:
        a -= 1
    return a


def added(a: int, b: int, terms: tuple[Multiplier, Multiplier], last: Multiplier) -> int:
    """TensorFlow Lite's int8 ADD of two inputs less their zero points, before the output's zero
    point and limits."""
    total = sum(requantised(v << 20, m) for v, m in zip((a, b), terms, strict=True))
    return requantised(total, last)


def add_multipliers(
    scale_a: float, scale_b: float, scale_out: float
) -> tuple[tuple[Multiplier, Multiplier], Multiplier]:
    """Of the two inputs and of the sum of an int8 ADD."""
    twice = 2.0 * max(scale_a, scale_b)
    terms = tuple(Multiplier(*quantised_multiplier(scale / twice)) for scale in (scale_a, scale_b))
    last = Multiplier(*quantised_multiplier(twice / ((1 << 20) * scale_out)))
    return (terms[0], terms[1]), last
