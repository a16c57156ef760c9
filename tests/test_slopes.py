"""Functions with an infinite slope train in both Kerases, where int8 values are 0."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from keras import ops

import ec2t_tf
from ec2t_tf import export
from ec2t_tf.quantisation import slopes
from ec2t_tf.quantisation.fake_quant import FakeQuant
from ec2t_tf.tfmot.slopes import FiniteSlope

RANDOM = np.random.default_rng(2)
# The last quarter of the examples is 0 in int8, and small in float.
INPUTS = (
    np.abs(RANDOM.normal(size=(64, 8)).astype(np.float32))
    * np.repeat([3.0, 1e-4], [48, 16])[:, None]
)
INPUTS = (INPUTS + 1e-6).astype(np.float32)


class Rooted(keras.layers.Layer):
    elementwise = True

    def call(self, x: Any) -> Any:
        return ops.sqrt(x)


class OfOwn(keras.layers.Layer):
    """Opened: two roots and a quotient of two values."""

    def call(self, x: Any) -> Any:
        return x / ops.sqrt(ops.sum(ops.square(x), -1, keepdims=True)) + x**0.25


def logarithm(x: Any) -> Any:
    return ops.log(x)


def logarithm_of_tf(x: Any) -> Any:
    return tf.math.log(x)


OF_KERAS_3: dict[str, Callable[[Any], Any]] = {
    "sqrt": ops.sqrt,
    "rsqrt": ops.rsqrt,
    "reciprocal": ops.reciprocal,
    "log": ops.log,
    "log2": ops.log2,
    "log10": ops.log10,
    "log1p": lambda x: ops.log1p(-x / 12.0),
    "arccos": lambda x: ops.arccos(ops.minimum(x, 1.0)),
    "arctanh": lambda x: ops.arctanh(ops.minimum(x, 1.0)),
    "power": lambda x: ops.power(x, 1 / 3),
    "negative power": lambda x: x**-0.5,
    "power of a power": lambda x: ops.mean(x**3, axis=-1, keepdims=True) ** (1 / 3),
    "number by a value": lambda x: 2.0 / x,
    "quotient": lambda x: x / ops.sum(x, axis=-1, keepdims=True),
    "deviation": lambda x: ops.std(ops.reshape(x, (-1, 2, 4)), axis=1),
    "lambda": lambda x: keras.layers.Lambda(lambda y: ops.sqrt(y))(x),
    "activation": keras.layers.Activation(logarithm),
    "of an elementwise layer": lambda x: Rooted()(x),
    "in a layer": lambda x: OfOwn()(x),
}
OF_TF_KERAS: dict[str, Callable[[Any], Any]] = {
    "sqrt": tf.sqrt,
    "rsqrt": tf.math.rsqrt,
    "reciprocal": lambda x: tf.math.reciprocal(x=x),
    "log": tf.math.log,
    "power": lambda x: x**0.5,
    "negative power": lambda x: tf.pow(x, -1.0),
    "lambda": lambda x: tf_keras.layers.Lambda(lambda y: tf.sqrt(y))(x),
    "activation": tf_keras.layers.Activation(logarithm_of_tf),
}


def _net(name: str) -> keras.Model:
    keras.utils.set_random_seed(1)
    source = keras.Input((8,))
    x = OF_KERAS_3[name](source)
    for units in (16, 8, 3):
        x = keras.layers.Dense(units)(x)
    return keras.Model(source, x)


@pytest.mark.parametrize("name", OF_KERAS_3)
def test_trains_in_keras_3(name: str) -> None:
    _is_trained(_net(name))


@pytest.mark.parametrize(
    ("name", "chain"),
    [*((name, False) for name in OF_TF_KERAS), ("sqrt", True), ("activation", True)],
)
def test_trains_in_tf_keras(name: str, chain: bool) -> None:
    tf_keras.utils.set_random_seed(1)
    layers = [tf_keras.layers.Dense(n) for n in (16, 8, 3)]
    if chain:
        function = logarithm_of_tf if name == "activation" else OF_TF_KERAS[name]
        first = [tf_keras.Input((8,)), tf_keras.layers.Lambda(function)]
        _is_trained(tf_keras.Sequential([*first, *layers]))
        return
    source = tf_keras.Input((8,))
    x = OF_TF_KERAS[name](source)
    for layer in layers:
        x = layer(x)
    _is_trained(tf_keras.Model(source, x))


def _is_trained(model: Any) -> None:
    made = ec2t_tf.apply(model, verbose=0)
    assert not made.ec2t_report.of("float")
    made.compile("adam", "mse", run_eagerly=True)
    before = made.get_weights()
    made.train_on_batch(INPUTS, np.ones((64, 3)))
    assert all(np.isfinite(one).all() for one in made.get_weights())
    changed = [np.any(a != b) for a, b in zip(before, made.get_weights(), strict=True)]
    assert np.mean(changed) > 0.5
    values = np.asarray(made(INPUTS[:8]))
    assert np.isfinite(values).all()
    assert np.ptp(values) > 0.0
    plain = ec2t_tf.strip(made)
    assert not [x for x in plain.layers if type(x).__name__ == "FiniteSlope"]


def test_file_is_the_model(tmp_path: Any) -> None:
    for i, name in enumerate(("sqrt", "rsqrt", "log", "number by a value")):
        made = ec2t_tf.apply(_net(name), verbose=0)
        made.compile("adam", "mse", run_eagerly=True)
        made.train_on_batch(INPUTS, np.ones((64, 3)))
        path = export.to_tflite(made, tmp_path / f"{i}.tflite")
        assert export.verify(made, path, INPUTS).passes()
        again = tmp_path / "model.keras"
        made.save(again)
        loaded = ec2t_tf.load_model(again)
        np.testing.assert_array_equal(np.asarray(loaded(INPUTS)), np.asarray(made(INPUTS)))


def test_only_what_is_finite_goes_back() -> None:
    x = np.array([0.0, 4.0], np.float32)
    for layer in (slopes.FiniteSlope(), FiniteSlope()):
        given = tf.constant(x)
        with tf.GradientTape() as tape:
            tape.watch(given)
            y = tf.sqrt(layer(given))
        np.testing.assert_array_equal(np.asarray(y), [0.0, 2.0])
        np.testing.assert_array_equal(np.asarray(tape.gradient(y, given)), [0.0, 0.25])


def test_zeros_alone_have_the_range_of_a_file(tmp_path: Any) -> None:
    """So that a last kernel of zeros, as residual branches have, is in Keras what is written."""
    layer = FakeQuant()
    zeros, values = np.zeros((2, 3), np.float32), np.array([[-1.0, 0.5, 3.0]], np.float32)
    layer(zeros, training=True)
    low, high = layer.limits
    assert (low, high) == pytest.approx((0.0, 1.0), abs=2e-3)
    np.testing.assert_allclose(np.asarray(layer(values)), [[low, 0.5, high]], atol=high / 255)
    layer(values, training=True)
    assert (float(layer.smallest), float(layer.largest)) == (-1.0, 3.0)
    widest = FakeQuant("widest")
    for batch in (zeros, values / 4):
        widest(batch, training=True)
    assert (float(widest.smallest), float(widest.largest)) == (-0.25, 0.75)

    keras.utils.set_random_seed(1)
    source = keras.Input((8,))
    x = keras.layers.Dense(8)(source)
    branch = keras.layers.Dense(8, kernel_initializer="zeros")(keras.layers.Dense(8)(x))
    model = ec2t_tf.apply(
        keras.Model(source, keras.layers.Dense(3)(keras.layers.Add()([x, branch]))), verbose=0
    )
    model.compile(keras.optimizers.Adam(0.05), "mse")
    model.train_on_batch(INPUTS, np.ones((64, 3)))
    assert np.any(model.get_layer(branch._keras_history.operation.name).latent)
    path = export.to_tflite(model, tmp_path / "zeros.tflite")
    assert export.verify(model, path, INPUTS).passes()


def test_infinity_is_the_end_of_a_range() -> None:
    layer = FakeQuant()
    x = np.array([[np.inf, 3.0, 9.0, -1.0, -np.inf]], np.float32)
    values = np.asarray(layer(x, training=True))[0]
    assert (float(layer.smallest), float(layer.largest)) == (-1.0, 9.0)
    assert values[0] == values[2]
    assert values[4] == pytest.approx(-1.0, abs=10 / 255)
