"""The stream of an ec2t_mcu_panel_conv, read back and computed in NumPy, against plain sums."""

from __future__ import annotations

import numpy as np
import pytest

from ec2t_tf.export.mcu import panels
from ec2t_tf.export.mcu.arithmetic import Multiplier
from ec2t_tf.export.mcu.int8_conv import Int8Conv
from ec2t_tf.export.mcu.plan import Layout


def _conv(weights: np.ndarray, *, shift: int = -9, biases: list[int] | None = None) -> Int8Conv:
    count = len(weights)
    layout = Layout(weights.shape[1], 9, 9, 0)
    return Int8Conv(
        weights.astype(np.int8),
        biases if biases is not None else [0] * count,
        [Multiplier(1 << 30, shift)] * count,
        (1, 1),
        (1, 1),
        0,
        layout,
        Layout(count, 9, 9, 3),
        3,
        (-128, 127),
    )


def _sums(conv: Int8Conv, inputs: np.ndarray) -> list[int]:
    """Every channel's sum of one patch [depth, rows, columns], from the words of the stream."""
    taps = panels.taps_of(conv)
    stream, parts = panels.stream_of(conv, taps.steps)
    entry = 8 + len(taps.steps)
    found: list[int] = []
    words = iter(stream.reshape(-1, entry).astype(np.int64).tolist())
    for entries, kind in parts:
        for _ in range(entries):
            row = next(words)
            low = high = 0
            for word, pair in zip(row[2:-6], taps.steps, strict=True):
                for half, tap in zip((word & 0xFFFF, word >> 16), pair, strict=True):
                    value = int(inputs[tap]) if tap is not None else 77
                    half = (half ^ 0x8000) - 0x8000
                    high += half * value
                    low += (((half & 0xFF) ^ 0x80) - 0x80) * value
            first, both = row[0] + low, row[1] + high
            second = ((both - first) & 0xFFFFFFFF) >> 8
            second = (second ^ 0x800000) - 0x800000
            first = ((first & 0xFFFFFFFF) ^ 0x80000000) - 0x80000000
            found += [first] if kind & panels.ALONE else [first, second]
            if kind == panels.ALONE:
                assert first == second
    assert next(words, None) is None
    return found


@pytest.mark.parametrize("shape", [(1, 1), (1, 3), (3, 3), (5, 5), (2, 7), (10, 4), (3, 2), (7, 1)])
@pytest.mark.parametrize("neighbours", [True, False])
def test_every_tap_once(shape: tuple[int, int], neighbours: bool) -> None:
    for depth in (1, 2, 3):
        taps = panels.order_taps(depth, *shape, neighbours=neighbours)
        held = [tap for step in taps.steps for tap in step if tap is not None]
        assert len(taps.steps) >= 2
        assert len(taps.threes) % 2 == len(taps.singles) % 2 == 0
        steps = 2 * len(taps.runs) + 3 * len(taps.threes) // 2 + len(taps.singles) // 2
        assert len(taps.steps) == steps
        assert sorted(held) == [
            (c, y, x) for c in range(depth) for y in range(shape[0]) for x in range(shape[1])
        ]


@pytest.mark.parametrize("seed", range(12))
def test_sums_come_out_of_the_stream(seed: int) -> None:
    print(f"seed {seed}")
    random = np.random.default_rng(seed)
    shape = tuple(int(v) for v in random.integers(1, 6, 4))
    weights = random.integers(-128 if seed % 3 == 0 else -127, 128, shape)
    biases = random.integers(-(1 << 20), 1 << 20, shape[0]).tolist()
    conv = _conv(weights, biases=biases)
    inputs = random.integers(-128, 128, shape[1:])
    want = (weights * inputs).sum(axis=(1, 2, 3)) + biases
    assert _sums(conv, inputs) == want.tolist()


def test_wide_sums_and_the_least_weight_stand_alone() -> None:
    weights = np.full((4, 60, 3, 3), 127)
    conv = _conv(weights)  # 128 * 127 * 540 needs 24 bits and a sign
    _, parts = panels.stream_of(conv, panels.taps_of(conv).steps)
    assert parts == [(4, panels.ALONE | panels.EXACT)]
    inputs = np.full((60, 3, 3), -128)
    assert _sums(conv, inputs) == [-128 * 127 * 540] * 4
    least = _conv(np.array([[[[3]]], [[[-128]]], [[[-2]]]]))
    _, parts = panels.stream_of(least, panels.taps_of(least).steps)
    # -128 may be the first of a pair but not the second of a negative first.
    assert [kind for _, kind in parts] == [panels.PAIRS, panels.ALONE]
    assert _sums(least, np.array([[[-128]]])) == [-384, 16384, 256]
    negative = _conv(np.array([[[[-3]]], [[[-128]]]]))
    _, parts = panels.stream_of(negative, panels.taps_of(negative).steps)
    assert parts == [(1, panels.ALONE), (1, panels.ALONE | panels.EXACT)]
    assert _sums(negative, np.array([[[127]]])) == [-381, -16256]


def test_multipliers_of_a_half_and_more_are_exact_entries() -> None:
    weights = np.random.default_rng(1).integers(-127, 128, (6, 2, 3, 3))
    for shift, kind in ((-1, panels.PAIRS), (0, panels.EXACT), (3, panels.EXACT)):
        conv = _conv(weights, shift=shift)
        stream, parts = panels.stream_of(conv, panels.taps_of(conv).steps)
        assert parts == [(3, kind)]
        last = np.int32(stream[-1].astype(np.int32))
        assert last == (-shift if kind == panels.PAIRS else shift)
