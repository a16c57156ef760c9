"""What several rooms once said each for itself: ternary, entropy, ranges of activations."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest

from ec2t_tf.export import formats
from ec2t_tf.export.graph.activations import activation_range
from ec2t_tf.export.graph.ternary import entropy, is_ternary
from ec2t_tf.export.mcu.lists import as_ternary
from ec2t_tf.export.reports import Report, report

KERNELS = {
    "no zero": ([[3, -3, 3], [-3, -3, 3]], True),
    "all zero": ([[0, 0, 0], [0, 0, 0]], True),
    "no weights": ([[], []], True),
    "code -128": ([[-128, 0, 127], [0, -128, 0]], True),
    "other codes in each channel": ([[5, 0, -7], [9, -1, 0]], True),
    "mirrored channels": ([[5, 0, -7], [7, -5, 0]], True),
    "one sign": ([[4, 0, 4], [-4, 0, 0]], True),
    "two positive codes": ([[1, 2, 0], [1, 0, -1]], False),
    "two negative codes": ([[1, 0, 0], [-1, -2, 0]], False),
    "two negative codes, one of them -128": ([[-128, -1, 0]], False),
}


@pytest.mark.parametrize("case", KERNELS)
def test_ternary_is_one_thing_in_all_rooms(case: str) -> None:
    values, expected = KERNELS[case]
    rows = np.array(values, np.int8).reshape(len(values), -1)
    assert is_ternary(rows) is expected
    slow = all(
        len({v for v in row if v > 0}) <= 1 >= len({v for v in row if v < 0}) for row in values
    )
    assert slow is expected
    assert (as_ternary(rows) is not None) is (expected and bool((rows > -128).all()))
    if expected:
        codes = formats.ternary_codes(rows)
        plus, minus = codes.values[:, :1].astype(int), codes.values[:, 1:].astype(int)
        again = np.where(codes.symbols > 0, plus, np.where(codes.symbols < 0, minus, 0))
        np.testing.assert_array_equal(again, rows)
    else:
        with pytest.raises(ValueError, match="output channel"):
            formats.ternary_codes(rows)


def test_entropy_of_known_distributions() -> None:
    assert entropy(np.zeros(0)) == entropy(np.zeros(7)) == 0
    assert entropy(np.array([0, 1])) == 1
    assert entropy(np.arange(256)) == 8
    assert entropy(np.array([0, 0, 1, -1])) == 1.5
    assert formats.first_order_entropy_bytes(np.array([0, 0, 1, -1] * 4, np.int8)) == 3


@pytest.mark.parametrize(
    ("activation", "scale", "zero_point", "expected"),
    [
        ("none", 0.1, 5, (-128, 127)),
        ("relu", 0.1, 5, (5, 127)),
        ("relu6", 0.1, -128, (-128, -68)),
        ("relu6", 0.01, -128, (-128, 127)),
        ("relu_n1_to_1", 0.1, 0, (-10, 10)),
        ("relu_n1_to_1", 0.4, 0, (-3, 3)),  # 2.5 steps: halves go away from zero
        ("relu6", 1e-45, 0, (0, 127)),
    ],
)
def test_activation_ranges(
    activation: str, scale: float, zero_point: int, expected: tuple[int, int]
) -> None:
    assert activation_range(activation, scale, zero_point) == expected


def test_an_activation_that_is_no_clipping() -> None:
    with pytest.raises(ValueError, match="clipping"):
        activation_range("tanh", 0.1, 0)


def test_multiply_accumulates_of_known_layers() -> None:
    """By hand, and as the packed file's report counts them."""
    from ec2t_tf.export.file_formats import rewrite
    from ec2t_tf.export.graph.macs import macs
    from ec2t_tf.export.tflite import read
    from tests import nets

    net = nets.NetBuilder((1, 8, 6, 4), seed=2)
    x = net.conv(net.input, 10, (3, 3), zeros=0.5)  # 48 pixels, 9 taps, 4 inputs
    x = net.conv(x, 10, zeros=0.5, depthwise=True)  # 48 pixels, 9 taps
    model = net.finish(net.dense(net.reshape(x, (1, 480)), 7, zeros=0.5))
    graph = read(model)
    counts = [macs(graph, one) for one in graph.operators]
    assert [count for count in counts if count] == [48 * 10 * 36, 48 * 10 * 9, 480 * 7]
    assert str(report_of(model)).endswith(f"{sum(counts):,} multiply-accumulates in one inference")
    packed = rewrite(model, format="packed").content
    assert [row.macs for row in report_of(packed).kernels] == [count for count in counts if count]


def report_of(content: bytes) -> Report:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "net.tflite")
        path.write_bytes(content)
        return report(path)
