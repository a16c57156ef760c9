"""The choice of an encoding by cost."""

from __future__ import annotations

import numpy as np
import pytest

from ec2t_tf.export.formats import (
    Encoding,
    Layer,
    Operator,
    Scales,
    choose_encoding,
    pack,
    stream_size,
)


def random_weights(zeros: float, shape: tuple[int, ...] = (32, 3, 3, 16)) -> np.ndarray:
    half = (1 - zeros) / 2
    rng = np.random.default_rng(5)
    return rng.choice([0, 127, -85], p=[zeros, half, half], size=shape).astype(np.int8)


@pytest.mark.parametrize("zeros", [0.1, 0.5, 0.8, 0.95])
@pytest.mark.parametrize("optimize", ["size", "download"])
def test_the_smallest_stream_wins_and_its_size_is_true(zeros: float, optimize: str) -> None:
    weights = random_weights(zeros)
    choice = choose_encoding(weights, optimize=optimize)
    assert choice.stream_bytes == min(choice.candidates.values())
    layer = Layer(Operator.CONV_2D, weights, Scales(1.0, 1.0, np.ones(1, np.float32)))
    for encoding, size in choice.candidates.items():
        assert stream_size(pack(layer, encoding=encoding)) == size
    assert f"{choice.stream_bytes:,}" in choice.reason


def test_goals_differ() -> None:
    """Dense trits: five a byte; sparse: Rice for the file, range coder for the wire."""
    assert choose_encoding(random_weights(0.1)).encoding is Encoding.FIVE_TRITS
    assert choose_encoding(random_weights(0.85)).encoding is Encoding.RICE
    clustered = random_weights(0.5) * (np.arange(32) % 4 == 0)[:, None, None, None].astype(np.int8)
    assert choose_encoding(clustered).encoding is Encoding.RICE
    assert choose_encoding(clustered, optimize="download").encoding is Encoding.RANGE
    assert choose_encoding(random_weights(0.5), optimize="speed").encoding is Encoding.BITMAP
    assert choose_encoding(random_weights(0.98), optimize="speed").encoding is Encoding.GAP8


def test_size_is_near_the_entropy() -> None:
    choice = choose_encoding(random_weights(0.8, (64, 3, 3, 64)))
    assert choice.stream_bytes <= 1.03 * choice.entropy_bytes


def test_all_zero_and_not_ternary() -> None:
    zeros = choose_encoding(np.zeros((2, 1, 1, 5), np.int8))
    assert zeros.stream_bytes == 0
    dense = choose_encoding(np.arange(10, dtype=np.int8).reshape(2, 1, 1, 5))
    assert dense.encoding is Encoding.INT8
    assert "not ternary" in dense.reason


def test_unknown_goal() -> None:
    with pytest.raises(ValueError, match="Received: 'fast'"):
        choose_encoding(random_weights(0.5), optimize="fast")
