"""Layers of users whose calls need more than symbols: state between calls, shapes, slopes at 0."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

import ec2t_tf
from tests.lower.random_check import Outcome, compare


class KeepsAMean(layers.Layer):
    """Reversible instance normalisation, the second call of which needs a value of the first."""

    def call(self, x: Any, mode: str = "norm") -> Any:
        if mode == "norm":
            self.mean = ops.mean(x, axis=1, keepdims=True)
            return x - self.mean
        return x + self.mean


@pytest.mark.parametrize("was_called", [False, True])
def test_a_value_kept_between_calls_is_refused_by_name(was_called: bool) -> None:
    source, layer = keras.Input((8, 4)), KeepsAMean(name="reversible")
    x = layers.Dense(4)(layers.Dense(4)(layers.Dense(4)(layer(source))))
    model = keras.Model(source, layer(x, mode="denorm"))
    if was_called:
        model(np.zeros((2, 8, 4), np.float32))
    with pytest.raises(ec2t_tf.UnsupportedLayerError, match=r"'reversible' \(KeepsAMean\)"):
        ec2t_tf.apply(model, verbose=0)


def test_whole_numbers_that_are_limited_are_refused_by_name() -> None:
    source = keras.Input((8,), dtype="int32")
    x = layers.Dense(8)(layers.Embedding(4, 8)(ops.clip(source, 0, 3)))
    with pytest.raises(ec2t_tf.UnsupportedLayerError, match=r"'clip.*' of whole numbers \(int32\)"):
        ec2t_tf.apply(keras.Model(source, layers.Dense(3)(x)), verbose=0)


class Scaled(layers.Layer):
    """By one number of its own."""

    def build(self, shape: Any) -> None:
        self.alpha = self.add_weight((), "ones", name="alpha")

    def call(self, x: Any) -> Any:
        return x * (1 + 2 * self.alpha) - self.alpha


class Pyramid(layers.Layer):
    """A layer for images in front of a normalisation; of an Input Keras takes it to be training."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.resize = layers.Resizing(6, 6)
        self.conv, self.norm = layers.Conv2D(4, 1), layers.BatchNormalization()

    def build(self, shape: Any) -> None:
        self.conv.build(shape)
        self.norm.build((*shape[:-1], 4))

    def call(self, x: Any) -> Any:
        return self.norm(self.conv(self.resize(x)))


class LogOfAll(layers.Layer):
    """NaN of random numbers, half of which are less than 0."""

    def call(self, x: Any) -> Any:
        return ops.log(x)


class Root(layers.Layer):
    """0 in int8 for all small values, where a root has no slope."""

    def call(self, x: Any) -> Any:
        return ops.sqrt(ops.square(x) + 1e-6)


class Places(layers.Layer):
    """The first rows of a longer table."""

    def build(self, shape: Any) -> None:
        self.table = self.add_weight((9, shape[-1]), "uniform", name="table")

    def call(self, x: Any) -> Any:
        return x + self.table[: ops.shape(x)[1]]


class Shifted(layers.Layer):
    def build(self, shape: Any) -> None:
        self.shift = self.add_weight(shape[2:], "normal", name="shift")

    def call(self, x: Any) -> Any:
        return x + self.shift[None]


def _of_tensorflow(x: Any) -> Any:
    norm = tf.norm(x, axis=-1, keepdims=True) + 1.0
    mean, variance = tf.nn.moments(x, [-1], keepdims=True)
    return (x - mean) / norm + tf.math.reduce_std(x, -1, keepdims=True) * tf.math.l2_normalize(
        variance, 1, epsilon=0.1
    )


@pytest.mark.parametrize(
    ("middle", "why"),
    [
        (
            layers.LSTM(4, activation="gelu"),
            r"activation=gelu \(there is one with tanh, sigmoid, hard_sigmoid, relu or linear\)",
        ),
        (
            layers.SimpleRNN(4, activation=lambda x: x * x),
            r"activation='<lambda>' of yours \(there is one with tanh",
        ),
        (
            lambda x: ops.mean(ops.one_hot(ops.cast(x[:, :, 0], "int32"), 4), axis=1),
            "OneHot.*or use an Embedding",
        ),
        (
            lambda x: ops.take(np.eye(4, dtype="float32"), ops.cast(x[:, 0, 0], "int32"), axis=0),
            "only places that are constants have a rule.*is an Embedding",
        ),
        (layers.Lambda(lambda x: tf.math.top_k(x, 2)[0][:, 0]), r"tf\.math\.top_k inside"),
        (layers.Lambda(lambda x: ops.cumsum(x, axis=1)[:, 0]), "Cumsum of keras.ops inside"),
    ],
)
def test_what_no_rule_writes_is_named_first(middle: Any, why: str) -> None:
    """Before apply says that nothing is there to be ternary, and advises what does not help."""
    source = keras.Input((6, 3))
    model = keras.Model(source, layers.Dense(2)(middle(source)))
    with pytest.raises(ec2t_tf.UnsupportedLayerError, match="rule") as caught:
        ec2t_tf.apply(model, verbose=0)
    assert re.search(why, str(caught.value))


TAKEN: dict[str, Callable[[Any], Any]] = {
    "one number": lambda x: Scaled()(x),
    "sum of a stack": lambda x: ops.sum(ops.stack([ops.relu(x), x], axis=0), axis=0),
    "mean of a stack": lambda x: ops.mean(ops.stack([ops.relu(x), x], axis=0), axis=0),
    "largest of a stack": lambda x: ops.max(ops.stack([ops.relu(x), -x], axis=0), axis=0),
    "an image's size": lambda x: Pyramid()(x),
    "rows of a table": lambda x: Places()(x),
    "a weight with one axis more": lambda x: Shifted()(x),
    "functions of TensorFlow": lambda x: layers.Lambda(_of_tensorflow)(x),
    "root": lambda x: Root()(x),
    "logarithm": lambda x: ops.log(ops.square(x) + 1e-6),
    "logarithm of any number": lambda x: LogOfAll()(x),
    "logarithm to base 2": lambda x: ops.log2(ops.square(x) + 1e-6),
    "root of a variance": lambda x: ops.sqrt(ops.var(x, axis=(1, 2)) + 1e-6),
}


@pytest.mark.parametrize("name", TAKEN)
def test_is_trained_and_exact(name: str) -> None:
    keras.utils.set_random_seed(1)
    source = keras.Input((4, 4, 3))
    x = TAKEN[name](layers.Dense(4)(layers.Dense(4)(source)))
    x = layers.Dense(5)(x)
    model = keras.Model(source, layers.Dense(2)(layers.Flatten()(x)))
    made = ec2t_tf.apply(model, verbose=0)
    assert not made.ec2t_report.of("float")
    images = np.random.default_rng(1).normal(size=(24, 4, 4, 3)).astype(np.float32)
    images[:4] *= 1e-3
    made.compile("adam", "mse", run_eagerly=True)
    made.fit(images, np.zeros((24, 2)), batch_size=12, verbose=0)
    assert all(np.isfinite(one).all() for one in made.get_weights())
    found = Outcome()
    compare(made, [images], found)
    assert found.steps < 3
