"""Around training of Keras 3 models: summary, strip, callbacks, recalibration, equal channels."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

import ec2t_tf
from ec2t_tf.equal_channels import channel_scales
from ec2t_tf.quantisation import BatchNormalization, FakeQuant, ternary_layers
from ec2t_tf.quantisation.equalise import equalise
from ec2t_tf.quantisation.split import split
from tests.native import nets

NETS = {"convolutional": nets.convolutional, "nested": nets.nested, "sequence": nets.sequence}


def numpy(value: Any) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(value))


def outputs(model: keras.Model, inputs: Any) -> list[np.ndarray]:
    return [numpy(x) for x in keras.tree.flatten(model(inputs, training=False))]


@pytest.fixture(scope="module")
def trained() -> keras.Model:
    model = nets.compiled(ec2t_tf.apply(nets.convolutional(), verbose=0))
    model.fit(*nets.examples(model), batch_size=16, verbose=0)
    return model


@pytest.mark.parametrize("name", NETS)
def test_strip(name: str, tmp_path: Path) -> None:
    treated = ec2t_tf.apply(nets.randomise(NETS[name]()), verbose=0)
    inputs, _ = nets.examples(treated, 8)
    expected = outputs(treated, inputs)  # no batch was seen: activations are not rounded yet
    plain = ec2t_tf.strip(treated)
    for layer in ternary_layers(treated):
        kernel = numpy(plain.get_layer(layer.name).kernel)
        np.testing.assert_array_equal(kernel, layer.assign().dequantise())
    # int8 kernels keep their float values, so that is as near as they are to each other.
    for one, other in zip(expected, outputs(plain, inputs), strict=True):
        np.testing.assert_allclose(one, other, atol=0.05 * np.abs(one).max())
    assert not any(isinstance(layer, FakeQuant) for layer in plain.layers)
    plain.save(tmp_path / "plain.keras")
    again = keras.saving.load_model(tmp_path / "plain.keras")
    for one, other in zip(outputs(plain, inputs), outputs(again, inputs), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    ec2t_tf.apply(plain, verbose=0)


def test_summary(trained: keras.Model, tmp_path: Path) -> None:
    table = ec2t_tf.summary(trained)
    assert [row.layer for row in table.rows] == ["first", "middle", "hidden", "last"]
    treatments = [row.treatment.value for row in table.rows]
    assert treatments == ["int8", "ternary", "ternary", "int8"]
    first, middle, *_ = table.rows
    assert first.macs == 3 * 3 * 3 * 6 * 64
    assert first.size == 3 * 3 * 3 * 6 + 4 * 6
    assignment = trained.get_layer("middle").assign()
    assert (middle.zeros, middle.w_p) == (assignment.sparsity, assignment.scale_pos)
    floats = ec2t_tf.summary(nets.nested())
    assert {row.treatment.value for row in floats.rows} == {"float"}
    assert [row.layer for row in floats.rows].count("first") == 1
    trained.save(tmp_path / "net.keras")
    assert ec2t_tf.summary(tmp_path / "net.keras") == table
    assert ec2t_tf.load_model(tmp_path / "net.keras").name == trained.name
    with pytest.raises(TypeError, match="Keras 3 or tf_keras"):
        ec2t_tf.summary(3)


def test_callbacks_of_ours_and_of_keras(tmp_path: Path) -> None:
    model = nets.compiled(ec2t_tf.apply(nets.convolutional(), verbose=0))
    x, y = nets.examples(model)
    log = ec2t_tf.callbacks.CSVLogger(tmp_path / "log.csv")
    model.fit(x, y, epochs=2, batch_size=16, verbose=0, callbacks=[log])
    with (tmp_path / "log.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["layer"] for row in rows] == ["middle", "hidden"] * 2
    last = {row["layer"]: row for row in rows[2:]}
    for layer in ternary_layers(model):
        assert float(last[layer.name]["zeros"]) == layer.assign().sparsity
    with pytest.raises(ValueError, match="no ternary layer"):
        nets.compiled(nets.convolutional()).fit(x, y, verbose=0, callbacks=[log])


def test_recalibrate(trained: keras.Model) -> None:
    model = keras.models.clone_model(trained)
    model.set_weights(trained.get_weights())
    norm = model.get_layer("norm")
    assert isinstance(norm, BatchNormalization)
    x, y = nets.examples(model, 32)
    before = {v.path: numpy(v) for v in model.variables}
    features = keras.Model(model.input, norm.input)
    batch = numpy(features(x, training=False))
    assert ec2t_tf.recalibrate(model, [(x, y)]) == 1
    mean = batch.mean(axis=(0, 1, 2))
    np.testing.assert_allclose(numpy(norm.moving_mean), mean, rtol=0.05, atol=0.05)
    for variable in model.variables:
        if "moving_" not in variable.path:
            np.testing.assert_array_equal(numpy(variable), before[variable.path])
    assert norm.momentum == 0.99
    assert ec2t_tf.recalibrate(model, x, batches=3) == 1
    with pytest.raises(ValueError, match="at least one batch"):
        ec2t_tf.recalibrate(model, [])


class TestEqualise:
    def test_outputs_are_the_same_and_channels_equal(self) -> None:
        model = nets.randomise(nets.sequence())
        kernel = numpy(model.get_layer("hidden").kernel) * np.array([1, 12, 1, 1, 0.9, 1, 1, 0])
        model.get_layer("hidden").kernel.assign(kernel)
        inputs, _ = nets.examples(model, 8)
        copy, _ = split(model)
        expected = outputs(copy, inputs)
        assert equalise(copy, ["second", "hidden", "last"]) == ["hidden"]
        for one, other in zip(expected, outputs(copy, inputs), strict=True):
            np.testing.assert_allclose(one, other, atol=3e-5 * np.abs(one).max())
        scaled = numpy(copy.get_layer("hidden").kernel)
        spread = np.sqrt(np.square(scaled).mean(axis=0))
        np.testing.assert_allclose(spread[:7], np.median(spread[:7]), rtol=1e-5)
        assert spread[7] == 0

    def test_what_a_normalisation_cannot_take_back_is_not_done(self) -> None:
        kernel = np.array([[1.0, 1.0, 9.0], [-1.0, -1.0, -9.0]], np.float32)
        scale = channel_scales(kernel, np.array([1.0, 1.0, 1e-2]), 1e-3)
        np.testing.assert_allclose(scale, [1, 1, np.sqrt(11)], rtol=1e-6)


@pytest.mark.parametrize("order", ["import ec2t_tf, keras", "import keras, ec2t_tf"])
def test_registered_in_either_order(trained: keras.Model, tmp_path: Path, order: str) -> None:
    trained.save(tmp_path / "net.keras")
    program = f"""
{order}
import sys
model = keras.saving.load_model(sys.argv[1])
print(type(model).__name__, model.ec2t_report.of("ternary"))
if keras.backend.backend() != "tensorflow":
    assert "tf_keras" not in sys.modules and "tensorflow_model_optimization" not in sys.modules
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "net.keras")],
        capture_output=True,
        text=True,
        env=os.environ,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "TernaryModel ['middle', 'hidden']"


def test_the_jax_backend_loads_no_tensorflow() -> None:
    """What is ours does not; Keras itself looks for it when it writes a layer's config."""
    program = """
import json, sys
import keras, ec2t_tf
names = [getattr(ec2t_tf, n) for n in ("apply", "methods", "strip", "summary", "callbacks")]
ec2t_tf.methods.EC2T()
print(json.dumps([n for n in ("tensorflow", "tf_keras", "torch") if n in sys.modules]))
"""
    pytest.importorskip("jax")
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env={**os.environ, "KERAS_BACKEND": "jax"},
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1]) == []


def test_the_report(capsys: pytest.CaptureFixture[str]) -> None:
    """One line a layer with a kernel; a normalisation stands in the line of its layer."""
    policy = ec2t_tf.Policy([ec2t_tf.Rule("int8", name="hid.*"), ec2t_tf.Rule("int8", name="no")])
    trained = ec2t_tf.apply(nets.convolutional(), policy=policy)
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "ec2t_tf.apply: 1 ternary, 3 int8",
        "  first   Conv2D  int8     first layer with weights",
        "  middle  Conv2D  ternary  default; with norm",
        "  hidden  Dense   int8     rule: int8 for name 'hid.*'",
        "  last    Dense   int8     last layer with weights",
        "  rule that decided nothing: int8 for name 'no'",
    ]
    assert trained.ec2t_report.of("int8") == ["first", "norm", "hidden", "last"]


def test_policies_as_people_write_them(tmp_path: Path) -> None:
    model = keras.Sequential([keras.Input((4,)), layers.Dense(5, name="a"), layers.Dense(2)])
    trained = ec2t_tf.apply(model, policy={"a": "ternary"}, verbose=0)
    assert trained.ec2t_report.of("ternary") == ["a"]
    (tmp_path / "p.json").write_text(ec2t_tf.Policy([ec2t_tf.Rule("ternary")]).to_json())
    trained = ec2t_tf.apply(model, policy=str(tmp_path / "p.json"), verbose=0)
    assert len(trained.ec2t_report.of("ternary")) == 2
    with pytest.raises(ValueError, match=r"path of a JSON file.*absent\.json"):
        ec2t_tf.apply(model, policy="absent.json")
    with pytest.raises(TypeError, match=r'\{"layer name": "ternary"\}'):
        ec2t_tf.apply(model, policy=3)


@pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="what TensorFlow traces")
def test_a_step_is_traced_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also with metrics and several losses, whose variables Keras makes in the first step."""
    from tensorflow.python.framework import func_graph

    traced: list[str] = []
    make = func_graph.FuncGraph.__init__

    def counted(graph: Any, name: str, *args: Any, **options: Any) -> None:
        traced.append(name)
        make(graph, name, *args, **options)

    monkeypatch.setattr(func_graph.FuncGraph, "__init__", counted)
    inputs = keras.Input((4, 4, 2))
    hidden = layers.Conv2D(4, 3, name="hidden")(layers.Conv2D(4, 2, name="first")(inputs))
    flat = layers.Flatten()(hidden)
    outputs = {
        "kind": layers.Dense(3, name="kind")(flat),
        "size": layers.Dense(1, name="size")(flat),
    }
    model = ec2t_tf.apply(keras.Model(inputs, outputs), verbose=0)
    cross_entropy = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    metrics = {"kind": ["accuracy"], "size": ["mae", keras.metrics.R2Score()]}
    model.compile("adam", {"kind": cross_entropy, "size": "mse"}, metrics=metrics)
    random = np.random.default_rng(0)
    labels = {"kind": random.integers(0, 3, 8), "size": random.normal(size=(8, 1))}
    images = random.normal(size=(8, 4, 4, 2)).astype(np.float32)
    found = model.fit(images, labels, batch_size=4, shuffle=False, verbose=0).history
    assert traced.count("one_step_on_data") == 1
    assert set(found) == {
        *("loss", "kind_loss", "size_loss", "kind_accuracy", "size_mae", "size_r2_score")
    }
    # Nothing of the zeros by which the variables were made is counted.
    assert found["size_mae"][0] > 0.1
    assert found["loss"][0] == pytest.approx(found["kind_loss"][0] + found["size_loss"][0])


class OwnTraining(keras.Model):
    def train_step(self, *data: Any) -> Any:
        return super().train_step(*data)

    def compute_loss(self, *data: Any, **named: Any) -> Any:
        return 2 * super().compute_loss(*data, **named)


def test_training_of_the_users_own_is_not_lost_without_a_word() -> None:
    plain = nets.sequence()
    with pytest.warns(UserWarning, match=r"a OwnTraining, whose train_step, compute_loss are not"):
        ec2t_tf.apply(OwnTraining(plain.inputs, plain.outputs), verbose=0)
    ec2t_tf.apply(plain, verbose=0)  # warnings are errors here
