"""Layers without a bias, which LiteRT refuses where they are convolutions."""

from __future__ import annotations

import numpy as np
import pytest

from ec2t_tf.export import running
from ec2t_tf.export.file_formats import plain, rewrite
from ec2t_tf.export.file_formats.layers import find_layers
from ec2t_tf.export.graph import Graph
from ec2t_tf.export.tflite import read, write
from ec2t_tf.train.trained.cards import FOLDER as TRAINED

LEFT_OUT = {"left out": (), "named as none": (-1,)}


def without_biases(net: str, rest: tuple[int, ...] = ()) -> Graph:
    graph = read(plain(TRAINED / f"{net}.tflite"))
    for layer in find_layers(graph)[0]:
        layer.operator.inputs = (*layer.operator.inputs[:2], *rest)
    return graph


def inputs_of(graph: Graph) -> list[np.ndarray]:
    shape = graph.tensors[graph.inputs[0]].shape[1:]
    return [np.random.default_rng(1).normal(size=(6, *shape)).astype(np.float32)]


@pytest.mark.parametrize("rest", LEFT_OUT.values(), ids=LEFT_OUT)
@pytest.mark.parametrize("net", ["watch_sensor_cnn_90", "digits_ds_cnn_80"])
def test_packed_layers_are_exact(net: str, rest: tuple[int, ...]) -> None:
    graph = without_biases(net, rest)
    int8, inputs = write(graph), inputs_of(graph)
    packed = rewrite(int8, format="packed").content
    (expected,) = running.run(int8, inputs, runtime=running.EXACT)
    for runtime in ("ec2t_tf", running.EXACT):
        (found,) = running.run(packed, inputs, runtime=runtime)
        np.testing.assert_array_equal(found.values, expected.values)


@pytest.mark.parametrize("runtime", running.RUNTIMES)
def test_a_plain_convolution_is_refused_by_name(runtime: str) -> None:
    graph = without_biases("watch_sensor_cnn_90")
    with pytest.raises(ValueError, match=r"to have a bias.*\(CONV_2D\)"):
        running.run(write(graph), inputs_of(graph), runtime=runtime)
