"""`format="packed"`: custom operators with self-describing blobs."""

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from ec2t_tf.export import running
from ec2t_tf.export.file_formats import plain, rewrite
from ec2t_tf.export.file_formats.layers import find_layers
from ec2t_tf.export.file_formats.packed import CUSTOM_CODES, is_packed, layer_of
from ec2t_tf.export.graph.ternary import channels_of, is_ternary
from ec2t_tf.export.tflite import read
from ec2t_tf.train.trained.cards import FOLDER as TRAINED
from tests.tflite.fixtures import dense_net, int4, packed, random_inputs, run

NETS = ("lenet5", "resnet8", "resnet20", "depthwise", "mobilenet_v2")


GOALS = ("size", "speed", "download")


def layers_of(file):
    """The ternary layers of a packed file, in execution order."""
    graph = read(file)
    layers = [layer_of(graph, operator) for operator in graph.operators if is_packed(operator)]
    return [layer for layer in layers if is_ternary(channels_of(layer.weights, 0))]


def blobs_of(file):
    """The blobs of a packed file that are read in place."""
    graph = read(file)
    return [
        graph.tensors[operator.inputs[1]].data.tobytes()
        for operator in graph.operators
        if operator.kind in CUSTOM_CODES.values()
    ]


@pytest.mark.no_cover  # long in Python; other tests run its lines
@pytest.mark.parametrize("goal", GOALS)
@pytest.mark.parametrize("net", NETS)
def test_every_ternary_layer_is_in_a_blob(int8_nets, net, goal):
    ternary, _ = find_layers(read(int8_nets[net]))
    layers = layers_of(packed(int8_nets[net], optimize=goal))
    assert len(layers) == len(ternary)
    for before, after in zip(ternary, layers, strict=True):
        np.testing.assert_array_equal(before.rows, after.weights.reshape(before.rows.shape))
        np.testing.assert_array_equal(before.scales, after.requantisation.weights)


@pytest.mark.no_cover  # long in Python; other tests run its lines
@pytest.mark.parametrize("net", NETS)
def test_file_is_far_smaller_than_int8(int8_nets, net):
    # The depthwise net has more tables than weights.
    assert len(packed(int8_nets[net])) < len(int8_nets[net]) * (0.4 if net == "depthwise" else 0.2)


def test_redundant_tensors_and_names_are_gone(int8_nets):
    graph = read(packed(int8_nets["resnet8"]))
    named = [tensor.name for tensor in graph.tensors if tensor.name]
    assert len(named) == len(graph.inputs) + len(graph.outputs)
    per_channel = [tensor for tensor in graph.tensors if len(tensor.scale) > 1]
    assert not per_channel
    per_channel = [
        tensor
        for tensor in read(packed(int8_nets["resnet8"], optimize="speed")).tensors
        if len(tensor.scale) > 1
    ]
    assert len(per_channel) == 2  # weights and bias of the first convolution: it is not ternary


@pytest.mark.no_cover  # long in Python; other tests run its lines
def test_a_trained_resnet8():
    """ResNet-8 on Fashion-MNIST at 79.8 % zeros, of the trained nets."""
    own = plain(TRAINED / "fashion_resnet8_80.tflite")
    file = packed(own)
    assert (len(file), len(packed(own, names=False))) == (11648, 11424)
    assert packed(plain(file)) == file  # what it stores comes back
    images = np.random.default_rng(3).normal(size=(8, 28, 28, 1)).astype(np.float32)
    (expected,) = running.run(own, [images])
    assert len(np.unique(expected.values)) > 9
    for goal in GOALS:
        (found,) = running.run(packed(own, optimize=goal), [images], runtime="ec2t_tf")
        np.testing.assert_array_equal(found.values, expected.values)


def test_large_layers_are_read_in_place(int8_nets, monkeypatch):
    monkeypatch.setattr("ec2t_tf.export.file_formats.packed._MOST_TERNARY", 10_000)
    file, all_compact = (packed(int8_nets["lenet5"], optimize=goal) for goal in GOALS[::2])
    sizes = {layer.weights.size for layer in layers_of(file)}
    assert len(blobs_of(file)) == sum(size > 10_000 for size in sizes) > 0
    assert not blobs_of(all_compact)
    for one, other in zip(layers_of(file), layers_of(all_compact), strict=True):
        np.testing.assert_array_equal(one.weights, other.weights)
        np.testing.assert_array_equal(one.bias, other.bias)


def test_blobs_are_aligned_in_the_file(int8_nets):
    file = packed(int8_nets["resnet8"], optimize="speed")
    assert {file.index(blob) % 16 for blob in blobs_of(file)} == {0}


def test_results_of_writing_are_reproducible(int8_nets):
    assert packed(int8_nets["lenet5"]) == packed(int8_nets["lenet5"])


def test_a_stock_interpreter_names_the_custom_operator(int8_nets):
    with pytest.raises(RuntimeError, match=r"unresolved custom op: EC2T\.Layer"):
        Interpreter(model_content=packed(int8_nets["lenet5"])).allocate_tensors()
    file = packed(int8_nets["lenet5"], optimize="speed")
    with pytest.raises(RuntimeError, match=r"unresolved custom op: EC2T\.Conv2D"):
        Interpreter(model_content=file).allocate_tensors()


def test_a_net_without_ternary_layers_loses_its_names_and_notes():
    done = rewrite(dense_net(), format="packed")
    assert done.notes == (
        "nothing to pack; names, notes and what the file held twice went: "
        "1 layer: it has more than three codes in an output channel",
    )
    inputs = random_inputs(dense_net(), 4)
    np.testing.assert_array_equal(run(done.content, inputs), run(dense_net(), inputs))
    with pytest.raises(ValueError, match="would not make this file smaller") as error:
        packed(done.content)
    assert len(str(error.value)) < 200


def test_ternary_layers_of_an_int4_file_are_packed(int8_nets):
    """What was stored in 4 bits is int8 codes -7 to 7 once more."""
    source = int4(int8_nets["lenet5"])
    ternary, _ = find_layers(read(source))
    layers = layers_of(packed(source))
    assert len(layers) == len(ternary) > 0
    for before, after in zip(ternary, layers, strict=True):
        np.testing.assert_array_equal(before.rows, after.weights.reshape(before.rows.shape))
