"""Biases, scales and int8 weights of a layer through the adaptive coder."""

from __future__ import annotations

import numpy as np
import pytest

from ec2t_tf.export.formats.layer_numbers import are_rounded, code_biases, code_int8, code_scales
from ec2t_tf.export.formats.number_coder import Reader, StreamError, Writer
from ec2t_tf.export.formats.range_coder import STEADY

SEED = 41


def _layers(
    random: np.random.Generator,
) -> list[tuple[list[int], list[int], list[int], np.ndarray]]:
    """Biases, sums, scales' bits and weights, from narrow to all that fits."""
    found = []
    for _ in range(40):
        channels = int(random.integers(1, 20))
        reach = 2 ** int(random.integers(0, 31))
        sums = random.integers(-(2**22), 2**22, channels) * int(random.integers(2))
        biases = random.integers(-reach, reach, channels) - sums * int(random.integers(3))
        zeros = int(random.integers(0, 32)) if random.integers(2) else 0
        biases = np.clip(biases, -(2**31), 2**31 - 1) >> zeros << zeros
        bits = random.integers(0, 2**32, channels)
        if random.integers(2):
            scales = (random.lognormal(sigma=0.3, size=channels) / 127).astype("<f4")
            bits = scales.view("<u4").astype(np.int64)
        if random.integers(4) == 0:
            bits[:] = bits[0]
        if random.integers(2):
            bits = bits >> (cut := int(random.integers(0, 24))) << cut
        spread = float(random.choice([0.5, 5.0, 50.0, 500.0]))
        weights = np.clip(random.normal(0, spread, int(random.integers(1, 400))), -128, 127)
        found.append((biases.tolist(), sums.tolist(), bits.tolist(), weights.astype(np.int8)))
    return found


@pytest.mark.parametrize("rounded", [False, True])
def test_what_was_written_is_read(rounded: bool) -> None:
    print(f"replay with np.random.default_rng({SEED})")
    layers = _layers(np.random.default_rng(SEED))
    writer = Writer(rates=STEADY)
    for biases, sums, bits, weights in layers:
        assert code_biases(writer, biases, sums, rounded=rounded) == biases
        assert code_scales(writer, bits, len(bits), rounded=rounded) == bits
        np.testing.assert_array_equal(code_int8(writer, weights, len(weights)), weights)
    reader = Reader(writer.finish(), most=1 << 20, rates=STEADY)
    for biases, sums, bits, weights in layers:
        assert code_biases(reader, [], sums, rounded=rounded) == biases
        assert code_scales(reader, [], len(bits), rounded=rounded) == bits
        empty = np.zeros(0, np.int8)
        np.testing.assert_array_equal(code_int8(reader, empty, len(weights)), weights)
    assert reader.ended()


def test_what_follows_from_the_weights_costs_little() -> None:
    random = np.random.default_rng(SEED)
    sums = random.integers(-3000, 3000, 64)
    biases = 700 - 12 * sums + random.integers(-8, 8, 64)
    writer = Writer(rates=STEADY)
    code_biases(writer, biases.tolist(), sums.tolist())
    assert len(writer.finish()) < 64 * 5 / 8 + 12  # 4 bits each are left, of 16
    writer = Writer(rates=STEADY)
    code_int8(writer, np.clip(random.normal(0, 4, 4000), -128, 127).astype(np.int8), 4000)
    entropy = np.log2(4 * np.sqrt(2 * np.pi * np.e)) * 4000 / 8
    assert len(writer.finish()) < 1.03 * entropy


def test_digits_of_zero_cost_nothing() -> None:
    random = np.random.default_rng(SEED)
    scales = (random.lognormal(sigma=0.3, size=64) / 127).astype("<f4").view("<u4")
    biases, sums = random.integers(-(2**16), 2**16, 64), np.zeros(64, np.int64)
    sizes = []
    for zeros in (0, 10):
        bits = (scales >> zeros << zeros).tolist()
        writer = Writer(rates=STEADY)
        code_scales(writer, bits, 64, rounded=True)
        code_biases(writer, (biases >> zeros << zeros).tolist(), sums.tolist(), rounded=True)
        sizes.append(len(writer.finish()))
    assert sizes[0] - sizes[1] == pytest.approx(2 * 10 * 64 / 8, abs=4)
    # Worth saying: two digits and more of numbers that differ.
    for values, worth in (([4, 8], True), ([4, 6], False), ([8, 8], False), ([0, 0], False)):
        assert are_rounded(values, [1]) == are_rounded([3], values) == worth


@pytest.mark.parametrize("rounded", [False, True])
@pytest.mark.parametrize("length", [0, 1, 5, 40])
def test_any_stream_gives_int32_and_float32_or_an_error(length: int, rounded: bool) -> None:
    random = np.random.default_rng(SEED)
    outcomes = set()
    for _ in range(150):
        reader = Reader(random.bytes(length), most=1 << 20, rates=STEADY)
        try:
            biases = code_biases(reader, [], [-(2**23), 0, 2**23], rounded=rounded)
            scales = code_scales(reader, [], 5, rounded=rounded)
            code_int8(reader, np.zeros(0, np.int8), 9)
        except StreamError:
            outcomes.add("refused")
            continue
        outcomes.add("read")
        assert all(-(1 << 31) <= bias < 1 << 31 for bias in biases)
        assert all(0 <= scale < 1 << 32 for scale in scales)
    assert outcomes
