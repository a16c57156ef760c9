"""`round_within`: scales and biases in as many digits as outputs need."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from ec2t_tf import export
from ec2t_tf.export import file_formats, running
from ec2t_tf.export.file_formats import plain, rewrite
from ec2t_tf.export.file_formats.layers import find_dense_layers, find_layers
from ec2t_tf.export.file_formats.packed import is_packed, layer_of
from ec2t_tf.export.file_formats.rounding import rounded
from ec2t_tf.export.formats import Layer, Operator, Scales, ends_of, pack_compact, unpack_compact
from ec2t_tf.export.graph import Graph
from ec2t_tf.export.tflite import read, write
from ec2t_tf.train.trained.cards import FOLDER as TRAINED
from tests import nets
from tests.fixtures.write import small_net
from tests.tflite.fixtures import outputs_of, random_inputs, run

NETS = {"small": small_net, "lenet5": nets.lenet5, "ds_cnn": nets.ds_cnn}
WITHIN = (1 / 64, 1 / 4, 1.0)


def layers_of(graph: Graph) -> list:
    found = [*find_layers(graph)[0], *find_dense_layers(graph)]
    return sorted(found, key=lambda layer: layer.number)


def numbers(layer) -> tuple[np.ndarray, np.ndarray, float, int]:
    """Steps of the output a unit of the sum, biases, by channel; the input's scale; zero point."""
    factors = (
        float(layer.input.scale[0])
        * layer.weights.scale.astype(np.float64)
        / float(layer.output.scale[0])
    )
    biases = layer.bias.data.reshape(-1).astype(np.int64)
    return np.broadcast_to(factors, biases.shape), biases, int(layer.output.zero_point[0])


@pytest.mark.parametrize("within", WITHIN)
@pytest.mark.parametrize("net", NETS)
def test_no_output_moves_by_more(net: str, within: float) -> None:
    """Of every channel the sums at which its output is clipped at either end, and some between."""
    graph = read(NETS[net]())
    after, done = rounded(graph, within)
    pairs = list(zip(layers_of(graph), layers_of(after), strict=True))
    assert len(done) == len(pairs) > 1
    random, largest = np.random.default_rng(5), 0.0
    for one, other in pairs:
        np.testing.assert_array_equal(one.codes, other.codes)
        factors, biases, zero_point = numbers(one)
        new_factors, new_biases, _ = numbers(other)
        lowest, highest = (end - zero_point for end in (-128, 127))
        share = np.array([0, 1, *random.uniform(size=20)])[:, None]
        steps = lowest + share * (highest - lowest)
        sums = np.where(factors > 0, steps / np.where(factors > 0, factors, 1) - biases, 0)
        before, behind = (sums + biases) * factors, (sums + new_biases) * new_factors
        largest = max(largest, float(np.abs(before - behind).max()))
    assert 0.1 * within < largest <= within


@pytest.mark.parametrize("net", NETS)
def test_every_runtime_computes_the_same_of_rounded_numbers(net: str) -> None:
    source = NETS[net]()
    int8 = rewrite(source, format="int8", round_within=0.25).content
    inputs = random_inputs(int8, 4)
    expected = run(int8, inputs)
    assert (expected != run(source, inputs)).any()
    packed = rewrite(source, format="packed", round_within=0.25)
    assert "numbers of" in str(packed)
    compact = [
        operator.custom[0]
        for operator in read(packed.content).operators
        if is_packed(operator) and operator.custom
    ]
    assert 3 in compact
    np.testing.assert_array_equal(
        run(plain(packed.content), inputs, "reference"), run(int8, inputs, "reference")
    )
    download = rewrite(source, format="download", round_within=0.25).content
    again = file_formats.unpack(download, to="int8")
    np.testing.assert_array_equal(run(again, inputs), expected)
    interpreter = export.Interpreter(model_content=packed.content)
    np.testing.assert_array_equal(outputs_of(interpreter, inputs), expected)
    # Digits that are gone do not go again.
    assert write(rounded(read(int8), 0.25)[0]) == int8


@pytest.mark.no_cover  # long in Python; other tests run its lines
def test_a_trained_resnet8() -> None:
    """ResNet-8 on Fashion-MNIST at 79.8 % zeros, of the trained nets."""
    own = plain(TRAINED / "fashion_resnet8_80.tflite")
    int8 = rewrite(own, format="int8", round_within=0.25).content
    sizes = {}
    for name in ("packed", "download"):
        done = rewrite(own, format=name, names=False, round_within=0.25)
        sizes[name] = done.bytes_after
    assert sizes == {"packed": 10752, "download": 8931}
    download = rewrite(own, format="download", round_within=0.25).content
    assert download[4] == 5
    assert file_formats.unpack(download, to="int8") == int8
    assert rewrite(int8, format="download").content == download
    assert rewrite(own, format="download").content[4] == 4
    images = np.random.default_rng(3).normal(size=(8, 28, 28, 1)).astype(np.float32)
    (expected,) = running.run(int8, [images])
    packed = rewrite(own, format="packed", round_within=0.25).content
    for runtime in ("ec2t_tf", "exact integers"):
        (found,) = running.run(packed, [images], runtime=runtime)
        np.testing.assert_array_equal(found.values, expected.values)


def test_numbers_of_every_kind() -> None:
    """Scales of 0, subnormal ones and the largest; biases at the ends of int32."""
    random = np.random.default_rng(6)
    graph = read(small_net())
    layer = next(one for one in layers_of(graph) if one.codes.shape[one.channel_axis] >= 8)
    channels = layer.codes.shape[layer.channel_axis]
    scales = np.zeros(channels, np.float32)
    scales[1:7] = [1e-45, np.finfo(np.float32).tiny, np.finfo(np.float32).max, 1e-30, 1e30, 1]
    layer.weights.scale = scales
    layer.weights.zero_point = np.zeros(channels, np.int64)
    biases = random.integers(-(2**31), 2**31, channels).astype(np.int32)
    biases[:2] = [-(2**31), 2**31 - 1]
    layer.bias.data = biases
    other = next(one for one in layers_of(rounded(graph, 1.0)[0]) if one.number == layer.number)
    np.testing.assert_array_equal(other.weights.scale[[0, 1, 3]], scales[[0, 1, 3]])
    np.testing.assert_allclose(other.weights.scale, scales, rtol=1 / 256)
    assert (np.abs(other.bias.data.astype(np.int64) - biases) <= 2**23).all()


def test_layers_that_share_weights_or_a_bias_stay() -> None:
    graph = read(small_net())
    one, other = (layer for layer in layers_of(graph)[:2])
    number = other.number
    inputs = graph.operators[number].inputs
    shared = (inputs[0], inputs[1], graph.operators[one.number].inputs[2])
    graph.operators[number] = dataclasses.replace(graph.operators[number], inputs=shared)
    after, done = rounded(graph, 0.5)
    assert {one.name, other.name}.isdisjoint(entry.name for entry in done)
    bias = graph.operators[one.number].inputs[2]
    assert after.tensors[bias].data is graph.tensors[bias].data


@pytest.mark.parametrize("within", [0, -1, 2, math.nan, 1 / 1000])
def test_other_bounds_are_refused(within: float) -> None:
    with pytest.raises(ValueError, match=r"round_within is how many steps .*0\.00390625 to 1"):
        rewrite(small_net(), format="packed", round_within=within)


def test_formats_that_keep_all_digits_refuse_it() -> None:
    with pytest.raises(ValueError, match="round_within is an option of int8, packed, download"):
        rewrite(small_net(), format="sparse", round_within=0.5)


def test_layers_without_digits_are_as_before() -> None:
    """What was not rounded is packed as version 2, which older runtimes read."""
    random = np.random.default_rng(7)
    weights = random.integers(-1, 2, (12, 3, 3, 4)).astype(np.int8) * 127
    scales = (random.lognormal(sigma=0.3, size=12) / 127).astype(np.float32)
    layer = Layer(
        operator=Operator.CONV_2D,
        weights=weights,
        requantisation=Scales(0.02, 0.03, scales),
        bias=random.integers(-5000, 5000, 12).astype(np.int32),
    )
    assert pack_compact(layer)[0] == 2
    even = dataclasses.replace(layer, bias=layer.bias << 4)
    assert pack_compact(even)[0] == 3
    assert len(pack_compact(even)) <= len(pack_compact(layer)) + 2
    np.testing.assert_array_equal(unpack_compact(pack_compact(even), ends_of(even)).bias, even.bias)


def test_packed_layers_hold_the_rounded_numbers() -> None:
    graph, _ = rounded(read(nets.lenet5()), 0.5)
    packed = read(rewrite(nets.lenet5(), format="packed", round_within=0.5).content)
    layers = [layer_of(packed, operator) for operator in packed.operators if is_packed(operator)]
    expected = {layer.number: layer for layer in layers_of(graph)}
    assert layers
    for layer, other in zip(layers, expected.values(), strict=False):
        np.testing.assert_array_equal(layer.requantisation.weights, other.weights.scale)
        np.testing.assert_array_equal(layer.bias, other.bias.data.reshape(-1))
