"""Subclassed models inside functional ones; layers that can be neither opened nor made again; and
Keras' own export."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops

import ec2t_tf
from ec2t_tf import export
from ec2t_tf.export.lower import NoRuleError
from tests.lower.models import trained
from tests.lower.random_check import Outcome, compare


class Hidden(keras.Model):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = layers.Dense(width, activation="relu")

    def call(self, x: Any) -> Any:
        return self.inner(x)


class Body(keras.Model):
    """Models in a model, in lists too; `training` goes to layers that do not take it."""

    def __init__(self) -> None:
        super().__init__()
        self.one = Hidden(6)
        self.rest = [Hidden(7), layers.Dropout(0.2), keras.Sequential([layers.Dense(5)])]
        self.last = [layers.Identity(), layers.Flatten()]

    def call(self, x: Any, training: bool | None = None) -> Any:
        x = self.one(x)
        for layer in self.rest:
            x = layer(x)
        for layer in self.last:
            x = layer(x, training=training)
        return x


def test_is_what_its_call_is_written_in(tmp_path: Path) -> None:
    keras.utils.set_random_seed(2)
    source = keras.Input((8,), name="x")
    x = layers.Identity()(layers.Dense(8, name="first")(source), training=False)
    net = keras.Model(source, layers.Dense(3, name="last")(Body()(x)))
    model, inputs = trained(net, steps=2)
    assert len(model.ec2t_report.of("ternary")) == 3
    compare(model, inputs, Outcome())
    model.save(tmp_path / "m.keras")
    again = keras.saving.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(again.predict(inputs[0]), model.predict(inputs[0]))


def test_one_that_is_called_on_an_input_alone() -> None:
    body, source = Body(), keras.Input((8,))
    net = keras.Model(source, body(source))
    x = np.random.default_rng(0).normal(size=(5, 8)).astype(np.float32)
    policy = ec2t_tf.Policy([ec2t_tf.Rule("int8")])
    model = ec2t_tf.apply(net, policy=policy, verbose=0)
    np.testing.assert_allclose(model(x), net(x), atol=0.05)


class Convolved(layers.Layer):
    def __init__(self, filters: int) -> None:
        super().__init__()
        self.filters = filters

    def build(self, shape: Any) -> None:
        self.kernel = self.add_weight((3, 3, shape[-1], self.filters), name="kernel")

    def call(self, x: Any) -> Any:
        return ops.sort(ops.conv(x, self.kernel, padding="same"))


def test_neither_opened_nor_made_again() -> None:
    source = keras.Input((8, 8, 3))
    x = layers.Dense(4)(Convolved(4)(layers.Conv2D(4, 1)(source)))
    net = keras.Model(source, layers.Dense(2)(x))
    said = r"'convolved' \(Convolved\) with Sort of keras\.ops inside, .* argument 'trainable'"
    with pytest.raises(ec2t_tf.UnsupportedLayerError, match=said):
        ec2t_tf.apply(net, verbose=0)


def test_a_plain_model_with_the_states_of_a_loop(tmp_path: Path) -> None:
    source = keras.Input((6, 4))
    _, state, carried = layers.LSTM(5, return_state=True, name="loop")(source)
    data = np.random.default_rng(0).normal(size=(30, 6, 4)).astype(np.float32)
    net = keras.Model(source, layers.Dense(2)(state))
    path = export.to_tflite(net, tmp_path / "m.tflite", representative_data=data)
    assert export.verify(net, path, data).passes(most_steps=4)
    net = keras.Model(source, layers.Dense(2)(carried))
    with pytest.raises(NoRuleError, match=r"'loop_cell_state' is what an LSTM carries"):
        export.to_tflite(net, tmp_path / "m.tflite", representative_data=data)


@pytest.mark.parametrize("form", ["litert", "tf_saved_model"])
def test_keras_own_export_of_a_treated_model(form: str, monkeypatch: Any, tmp_path: Path) -> None:
    source = keras.Sequential([keras.Input((4,)), *(layers.Dense(4) for _ in range(3))])
    model = ec2t_tf.apply(source, verbose=0)
    calls: list[tuple] = []
    monkeypatch.setattr(keras.Model, "export", lambda *given, **named: calls.append((given, named)))
    if form == "litert":
        with pytest.warns(UserWarning, match=r"float32.*ec2t_tf\.export\.to_tflite\(model"):
            model.export(tmp_path / "m", format=form, verbose=False)
    else:
        model.export(tmp_path / "m", format=form, verbose=False)
    assert calls == [((model, tmp_path / "m", form), {"verbose": False})]
