"""`format="tflm"`: DECODE streams in the unmodified tflite-micro wheel."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest

from ec2t_tf.export import tflite
from ec2t_tf.export.tflm import streams, to_tflm
from tests import nets
from tests.tflm import wheel


@pytest.mark.parametrize("zeros", [0.0, 0.3, 0.5, 0.9, 1.0])
def test_huffman_bits(zeros: float) -> None:
    """Three values: 2 - p0 bits a weight where zero is the most frequent."""
    random = np.random.default_rng(int(zeros * 10))
    weights = random.choice([-93, 0, 127], (64, 300), p=[(1 - zeros) / 2, zeros, (1 - zeros) / 2])
    weights = weights.astype(np.int8)
    stream = streams.huffman(weights)
    np.testing.assert_array_equal(streams.decode_huffman(stream, weights.size), weights.reshape(-1))
    share = max(np.unique(weights, return_counts=True)[1]) / weights.size
    assert 8 * len(stream.encoded) / weights.size <= 2 - share + 0.02


@pytest.mark.parametrize("seed", range(20))
def test_streams_come_back(seed: int) -> None:
    random = np.random.default_rng(seed)
    values = random.choice(256, int(random.integers(1, 100)), replace=False) - 128
    weights = random.choice(values, (int(random.integers(1, 9)), int(random.integers(1, 50))))
    weights = weights.astype(np.int8)
    streams.huffman(weights)  # checks itself
    for per_channel in (False, True):
        streams.look_up(weights, per_channel=per_channel)


def test_damage_is_an_error_or_other_weights() -> None:
    weights = np.array([[0, 0, 5, -5, 0, 5, 0, 0]] * 8, np.int8)
    good = streams.huffman(weights)
    noticed = 0
    for seed in range(200):
        random = np.random.default_rng(seed)
        bad = bytearray(good.ancillary)
        bad[int(random.integers(16, len(bad)))] ^= 1 << int(random.integers(8))
        stream = streams.Stream("huffman", good.encoded, bytes(bad), good.bits)
        try:
            streams.decode_huffman(stream, weights.size)
        except streams.StreamError:
            noticed += 1
    assert noticed > 0


@pytest.mark.parametrize("choice", ["auto", "huffman", "lut"])
@pytest.mark.parametrize("name", nets.NETS)
def test_wheel_computes_the_same(name: str, choice: str) -> None:
    """As from the int8 file: in fully connected layers TFLM rounds as LiteRT does not."""
    model = nets.NETS[name]()
    values = nets.inputs(model, 4)
    packed, report = to_tflm(model, streams=choice)
    assert report.size_after == len(packed) < len(model)
    np.testing.assert_array_equal(wheel.outputs(packed, values), wheel.outputs(model, values))


@pytest.mark.parametrize("name", nets.NETS)
def test_huffman_stays_within_its_limit_in_every_layer(name: str) -> None:
    model = nets.NETS[name]()
    weights = {t.name: t.data for t in tflite.read(model).tensors}
    layers = [x for x in to_tflm(model, streams="huffman")[1].layers if x.kind == "huffman"]
    assert layers
    for layer in layers:
        data = weights[layer.name]
        assert data is not None
        assert layer.bits_per_weight <= 2 - (data == 0).mean() + 0.02, layer.name


def test_mirrored_rows_of_a_fully_connected_layer() -> None:
    """One scale for all rows cannot be negated for some: five values, more bits, same outputs."""
    net = nets.NetBuilder((1, 200), seed=12)
    model = net.finish(net.dense(net.input, 60, zeros=0.8, mirrored=True))
    packed, report = to_tflm(model, streams="huffman")
    weights = tflite.read(model).tensors[1].data
    assert weights is not None
    assert len(np.unique(weights)) == 5
    share = (weights == 0).mean()
    assert 2 - share + 0.02 < report.layers[0].bits_per_weight < 1.5
    values = nets.inputs(model, 4)
    np.testing.assert_array_equal(wheel.outputs(packed, values), wheel.outputs(model, values))


@pytest.mark.parametrize("depthwise", [False, True])
def test_mirrored_channels_cost_nothing(depthwise: bool) -> None:
    """Every third channel is mirrored: negative scales give 2 - p0 bits a weight all the same."""
    net = nets.NetBuilder((1, 6, 7, 96), seed=11)
    model = net.finish(net.conv(net.input, 96, zeros=0.6, depthwise=depthwise, relu=False))
    packed, report = to_tflm(model, streams="huffman")
    weights = tflite.read(model).tensors[1].data
    assert weights is not None
    assert report.layers[0].negated > 20
    assert report.layers[0].bits_per_weight <= 2 - (weights == 0).mean() + 0.02
    plain = to_tflm(model, streams="huffman", negative_scales=False)[1].layers[0]
    assert plain.negated == 0
    assert plain.bits_per_weight > report.layers[0].bits_per_weight
    values = nets.inputs(model, 4)
    np.testing.assert_array_equal(wheel.outputs(packed, values), nets.reference(model, values))


def test_refuses_unknown_streams() -> None:
    with pytest.raises(ValueError, match="auto, huffman or lut"):
        to_tflm(nets.lenet5(), streams="zip")


@pytest.mark.parametrize("seed", range(100))
def test_damaged_files_end_in_model_error(seed: int) -> None:
    """Replay one case with -k 'end_in_model_error[<seed>]'."""
    from ec2t_tf.export.mcu import ModelError

    random = np.random.default_rng(seed)
    data = bytearray(_SMALL)
    for _ in range(random.integers(1, 6)):
        data[int(random.integers(8, len(data)))] = int(random.integers(0, 256))
    with contextlib.suppress(ModelError):
        to_tflm(bytes(data))


def _small() -> bytes:
    net = nets.NetBuilder((1, 5, 5, 8), seed=6)
    return net.finish(net.conv(net.input, 16, relu=False))


_SMALL = _small()
