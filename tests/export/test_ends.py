"""Inputs and outputs of models and files: order, names, types, numbers that do not fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tf_keras
from tf_keras import layers

import ec2t_tf
from ec2t_tf import export, methods
from ec2t_tf.export.tflite import read, write
from tests.graph.test_round_trip import several_ends


@pytest.fixture(scope="module")
def two_ends() -> tf_keras.Model:
    """Inputs zz, aa and outputs cls, box: neither is in the order of the alphabet."""
    tf_keras.utils.set_random_seed(3)
    zz, aa = layers.Input((8,), name="zz"), layers.Input((6,), name="aa")
    parts = [layers.Dense(8, "relu")(zz), layers.Dense(4, "relu")(aa)]
    x = layers.Dense(12, "relu")(layers.Concatenate()(parts))
    net = tf_keras.Model([zz, aa], [layers.Dense(5, name="cls")(x), layers.Dense(3, name="box")(x)])
    model = ec2t_tf.apply(net, method=methods.EC2T())
    rng = np.random.default_rng(0)
    model([rng.normal(size=(64, n)).astype(np.float32) for n in (8, 6)], training=True)
    return model


@pytest.fixture(scope="module")
def path(two_ends: tf_keras.Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export.to_tflite(two_ends, tmp_path_factory.mktemp("ends") / "model.tflite")


def test_the_file_has_the_models_order_and_names(two_ends: tf_keras.Model, path: Path) -> None:
    graph = read(path)
    names = [[graph.tensors[i].name for i in ends] for ends in (graph.inputs, graph.outputs)]
    assert names == [["zz", "aa"], ["cls", "box"]]
    assert list(two_ends.input_names) == names[0]
    assert [name.removeprefix("quant_") for name in two_ends.output_names] == names[1]
    (signature,) = graph.signatures
    assert list(signature.inputs) == names[0]
    assert [signature.outputs[name] for name in names[1]] == list(graph.outputs)


def test_verify_compares_every_output(two_ends: tf_keras.Model, path: Path) -> None:
    check = export.verify(two_ends, path)
    assert len(check.outputs) == 2
    assert check.passes()
    assert "cls: at most" in str(check)
    assert "box: at most" in str(check)
    swapped = read(path)
    swapped.outputs = swapped.outputs[::-1]
    other = path.with_name("swapped.tflite")
    other.write_bytes(write(swapped))
    with pytest.raises(ValueError, match="one shape"):
        export.verify(two_ends, other)


def test_verify_takes_lists_and_datasets(two_ends: tf_keras.Model, path: Path) -> None:
    import tensorflow as tf

    rng = np.random.default_rng(1)
    zz, aa = (rng.normal(size=(10, n)).astype(np.float32) for n in (8, 6))
    labels = np.zeros(10)
    pairs = tf.data.Dataset.from_tensor_slices(((zz, aa), labels))
    kinds = [[zz, aa], pairs, pairs.batch(4), pairs.map(lambda x, _: x)]
    results = [export.verify(two_ends, path, data) for data in kinds]
    assert {one.inputs for one in results} == {10}
    assert len({str(one) for one in results}) == 1
    zz[3, 2] = np.nan
    with pytest.raises(ValueError, match="NaN or infinity in 1 of 10 inputs"):
        export.verify(two_ends, path, [zz, aa])


def test_uint8_ends() -> None:
    """A file with uint8 inputs and outputs against its int8 twin, from all codes."""
    from ec2t_tf.export import running

    inner = several_ends()
    outer = read(write(inner))
    for index in (*outer.inputs, *outer.outputs):
        tensor = outer.tensors[index]
        outer.tensors[index] = type(tensor)(
            tensor.name, tensor.shape, "uint8", tensor.scale, tensor.zero_point + 128
        )
    # uint8 -> int8 in front, int8 -> uint8 behind, as converters write it.
    graph = type(outer)(tensors=[*outer.tensors, *inner.tensors])
    offset = len(outer.tensors)
    for index in outer.inputs:
        graph.call("QUANTIZE", (index,), index + offset)
    for operator in inner.operators:
        moved = tuple(index + offset for index in operator.inputs)
        graph.call(operator.kind, moved, operator.outputs[0] + offset, **operator.options)
    for index in outer.outputs:
        graph.call("QUANTIZE", (index + offset,), index)
    graph.inputs, graph.outputs = outer.inputs, outer.outputs
    inputs = running.input_codes(graph, 64)
    assert len(np.unique(inputs[0])) > 150
    for one, other in zip(
        running.run(write(graph), inputs), running.run(write(inner), inputs), strict=True
    ):
        np.testing.assert_array_equal(one.values, other.values)
        assert one.step == other.step == 0.5
