"""Scales of 0 and subnormal ones: XNNPACK leaves such layers to kernels that round otherwise."""

from __future__ import annotations

import numpy as np
import pytest

from ec2t_tf.export import running
from ec2t_tf.export.file_formats import plain, rewrite
from ec2t_tf.export.file_formats.layers import find_dense_layers, find_layers
from ec2t_tf.export.litert import Interpreter
from ec2t_tf.export.tflite import read, write
from ec2t_tf.train.trained.cards import FOLDER as TRAINED


@pytest.mark.parametrize("part", ["weights", "bias"])
@pytest.mark.parametrize("kind", ["ternary", "dense"])
@pytest.mark.parametrize("scale", [0.0, 1e-39])
def test_every_runtime_computes_the_same(scale: float, kind: str, part: str) -> None:
    graph = read(plain(TRAINED / "watch_sensor_cnn_90.tflite"))
    layer = find_layers(graph)[0][0] if kind == "ternary" else find_dense_layers(graph)[0]
    tensor = getattr(layer, part)
    tensor.scale = tensor.scale.copy()
    tensor.scale[0] = scale
    int8 = write(graph)
    shape = graph.tensors[graph.inputs[0]].shape[1:]
    inputs = [np.random.default_rng(1).normal(size=(12, *shape)).astype(np.float32)]
    (expected,) = running.run(int8, inputs)
    packed = rewrite(int8, format="packed").content
    for file in (int8, packed):
        for runtime in ("ec2t_tf", running.EXACT):
            (found,) = running.run(file, inputs, runtime=runtime)
            np.testing.assert_array_equal(found.values, expected.values)
    (found,) = running.run(plain(packed), inputs)
    np.testing.assert_array_equal(found.values, expected.values)
    # On some processors no plain layer is claimed otherwise.
    everything = Interpreter(model_content=int8, claim_int8="always")
    everything.allocate_tensors()
    for example, values in zip(inputs[0], expected.values, strict=True):
        everything.set_tensor(everything.get_input_details()[0]["index"], example[None])
        everything.invoke()
        result = everything.get_tensor(everything.get_output_details()[0]["index"])
        np.testing.assert_array_equal(result[0], values)
