"""Models whose inputs and outputs are dicts, in no order of the alphabet."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import pytest

import ec2t_tf
from ec2t_tf import export
from ec2t_tf.export import running
from ec2t_tf.export.tflite import read


@pytest.fixture(scope="module")
def model() -> keras.Model:
    keras.utils.set_random_seed(2)
    layers = keras.layers
    second, first = layers.Input((8,), name="second"), layers.Input((6,), name="first")
    parts = [layers.Dense(8, "relu")(second), layers.Dense(8, "relu")(first)]
    x = layers.Dense(12, "relu")(layers.Concatenate()(parts))
    ends = {"up": layers.Dense(3, name="up")(x), "down": layers.Dense(2, name="down")(x)}
    net = keras.Model({"second": second, "first": first}, ends)
    trained = ec2t_tf.apply(net, verbose=0)
    trained(data(64), training=True)
    return trained


def data(count: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    shapes = {"second": (count, 8), "first": (count, 6)}
    return {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def test_verify(model: keras.Model, tmp_path: Path) -> None:
    path = export.to_tflite(model, tmp_path / "net.tflite")
    assert export.verify(model, path).passes()
    result = export.verify(model, path, data(10))
    assert result.passes()
    assert result.inputs == 10
    assert set(result.outputs) == {"up", "down"}
    with pytest.raises(ValueError, match="entry for each of the inputs"):
        export.verify(model, path, {"second": data(10)["second"]})


def test_exact_is_called_as_the_model(model: keras.Model, tmp_path: Path) -> None:
    path = export.to_tflite(model, tmp_path / "net.tflite")
    exact = export.exact(model, rounding="xnnpack")
    given = data(16)
    found = exact.predict(given, verbose=0)
    content = path.read_bytes()
    graph = read(content)
    names = [graph.tensors[index].name for index in graph.inputs]
    ends = running.run(content, running.examples(given, 2, names))
    assert set(found) == {one.name for one in ends} == {"up", "down"}
    for one in ends:
        np.testing.assert_array_equal(found[one.name], one.values)


def test_elements_of_a_data_set() -> None:
    given = data(4)
    elements = [{name: given[name][i] for name in given} for i in range(4)]
    names = ["first", "second"]
    for found in (running.examples(e, 2, names) for e in (elements, [(x, 1) for x in elements])):
        for name, values in zip(names, found, strict=True):
            np.testing.assert_array_equal(values, given[name])
