"""`format="packed"`: custom operators with self-describing blobs."""

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

from ec2t_tf.export import formats
from ec2t_tf.export.tflite import flatbuffer, int4, packed
from ec2t_tf.export.tflite.layers import find_layers
from ec2t_tf.export.tflite.packed import CUSTOM_CODES, NotRepresentable, output_range

NETS = ("lenet5", "resnet8", "resnet20", "depthwise", "mobilenet_v2")


def blobs_of(file):
    """The blobs of a packed file, in execution order."""
    model = flatbuffer.load(file)
    return [
        flatbuffer.constant(model, graph.tensors[operator.inputs[1]]).tobytes()
        for graph in model.subgraphs
        for operator in graph.operators
        if flatbuffer.operator_name(model, operator) in CUSTOM_CODES.values()
    ]


@pytest.mark.parametrize("net", NETS)
def test_every_ternary_layer_is_in_a_blob(int8_nets, net):
    ternary, _ = find_layers(flatbuffer.load(int8_nets[net]))
    layers = [formats.unpack(blob) for blob in blobs_of(packed(int8_nets[net]))]
    assert len(layers) == len(ternary)
    for before, after in zip(ternary, layers, strict=True):
        np.testing.assert_array_equal(before.rows, after.weights.reshape(before.rows.shape))
        np.testing.assert_array_equal(before.scales, after.requantisation.weights)


@pytest.mark.parametrize("net", NETS)
def test_file_is_far_smaller_than_int8(int8_nets, net):
    # The depthwise net has more tables than weights.
    assert len(packed(int8_nets[net])) < len(int8_nets[net]) * (0.4 if net == "depthwise" else 0.2)


def test_redundant_tensors_and_names_are_gone(int8_nets):
    model = flatbuffer.load(packed(int8_nets["resnet8"]))
    (graph,) = model.subgraphs
    named = [tensor.name for tensor in graph.tensors if tensor.name]
    assert len(named) == len(graph.inputs) + len(graph.outputs)
    per_channel = [
        tensor
        for tensor in graph.tensors
        if tensor.quantization is not None
        and tensor.quantization.scale is not None
        and len(tensor.quantization.scale) > 1
    ]
    assert len(per_channel) == 2  # weights and bias of the first convolution: it is not ternary


def test_blobs_are_aligned_in_the_file(int8_nets):
    file = packed(int8_nets["resnet8"])
    assert {file.index(blob) % 16 for blob in blobs_of(file)} == {0}


def test_results_of_writing_are_reproducible(int8_nets):
    assert packed(int8_nets["lenet5"]) == packed(int8_nets["lenet5"])


def test_a_stock_interpreter_names_the_custom_operator(int8_nets):
    with pytest.raises(RuntimeError, match=r"unresolved custom op: EC2T\.Conv2D"):
        Interpreter(model_content=packed(int8_nets["lenet5"])).allocate_tensors()


def test_a_file_without_int8_ternary_layers_is_refused(int8_nets):
    with pytest.raises(ValueError, match=r'format="packed" needs .* not all int8'):
        packed(int4(int8_nets["lenet5"]))


@pytest.mark.parametrize(
    ("activation", "expected"),
    [("NONE", (-128, 127)), ("RELU", (-10, 127)), ("RELU6", (-10, 50)), ("RELU_N1_TO_1", (-20, 0))],
)
def test_output_range(activation, expected):
    number = getattr(schema.ActivationFunctionType, activation)
    assert output_range(number, 0.1, -10) == expected


def test_an_activation_that_is_no_clipping():
    with pytest.raises(NotRepresentable, match="no clipping"):
        output_range(schema.ActivationFunctionType.TANH, 0.1, 0)
