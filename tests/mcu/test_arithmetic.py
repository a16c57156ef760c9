"""Multipliers in whole numbers against double precision."""

from __future__ import annotations

import math

import numpy as np
import pytest

from ec2t_tf.export.mcu.arithmetic import (
    Multiplier,
    exact_multiplier,
    quantised_multiplier,
    rounded_away,
)


def _outputs(sums: list[int], m: Multiplier, least: int, most: int) -> list[int]:
    """What rounded_once of fully_connected.c computes."""
    doubled = [((a * m.multiplier + (a * m.low >> 8)) >> (30 - m.shift)) + 1 >> 1 for a in sums]
    return [min(max(v, least), most) for v in doubled]


def _wanted(sums: list[int], real: float, least: int, most: int) -> list[int]:
    return [min(max(rounded_away(a * real), least), most) for a in sums]


@pytest.mark.parametrize(
    ("value", "rounded"),
    [(2.5, 3), (-2.5, -3), (2.4, 2), (-2.4, -2), (0.49999999999999994, 0), (-0.5, -1), (7.0, 7)],
)
def test_halves_go_away_from_zero(value: float, rounded: int) -> None:
    assert rounded_away(value) == rounded


@pytest.mark.parametrize("real", [0.25, 0.5, 0.02, 0.1 / 3, 0.6, 1.0, 3.1, 2.0**-33, 0.0])
def test_every_sum_rounds_as_in_double_precision(real: float) -> None:
    sums = list(range(-1500, 1501))
    for least, most in ((-131, 124), (0, 255), (-255, 0), (-20, 40)):
        m = exact_multiplier(real, least, most, 1500)
        assert m is not None
        assert m.multiplier < 1 << 31
        assert _outputs(sums, m, least, most) == _wanted(sums, real, least, most)


@pytest.mark.parametrize("seed", range(3))
def test_sums_next_to_halves(seed: int) -> None:
    """Large sums, where the multiplier TensorFlow Lite would take has too few bits (some) or needs
    more than 31 of them (some)."""
    print(f"seed {seed}")
    random = np.random.default_rng(seed)
    plain_fails = more_bits = 0
    for real in np.exp2(random.uniform(-24, -1, 60)).tolist():
        bound = int(300 / real)
        near = [
            math.floor((step + 0.5) / real) + d for step in range(-130, 130) for d in (-1, 0, 1)
        ]
        m = exact_multiplier(real, -128, 127, bound)
        assert m is not None
        wanted = _wanted(near, real, -128, 127)
        assert _outputs(near, m, -128, 127) == wanted, real
        plain = Multiplier(*quantised_multiplier(real))
        plain_fails += _outputs(near, plain, -128, 127) != wanted
        more_bits += m.low > 0
    assert plain_fails > 0
    assert more_bits > 0


def test_no_multiplier_for_ties_that_double_precision_breaks_both_ways() -> None:
    """5 * 0.7 is 3.5 there, and 45 * 0.7 is just less than 31.5."""
    assert rounded_away(5 * 0.7) == 4
    assert rounded_away(45 * 0.7) == 31
    assert exact_multiplier(0.7, -128, 127, 40) is not None
    assert exact_multiplier(0.7, -128, 127, 50) is None
