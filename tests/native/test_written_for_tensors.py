"""Layers whose calls are written for tensors, as many have them from TensorFlow's tutorials."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

import ec2t_tf
from ec2t_tf import export
from ec2t_tf.quantisation.tensorflow_functions import FUNCTIONS as BY_NAME
from tests.lower.models import trained
from tests.lower.random_check import Outcome, compare

K = tf.keras.backend
GRID = np.linspace(-2, 2, 8).astype(np.float32)


class Own(layers.Layer):
    """With two matrices, of a function of the value and them."""

    def __init__(self, function: Callable[..., Any], **options: Any) -> None:
        super().__init__(**options)
        self.function = function

    def build(self, shape: Any) -> None:
        self.matrix = self.add_weight((shape[-1], 8), "glorot_uniform", name="matrix")
        self.other = self.add_weight((shape[-1], 8), "glorot_uniform", name="other")
        self.bias = self.add_weight((8,), "normal", name="bias")

    def call(self, x: Any) -> Any:
        return self.function(x, self.matrix, self.other, self.bias)


def attention(x: Any, w: Any, u: Any, b: Any) -> Any:
    """As it stands in many notebooks."""
    scores = K.squeeze(K.dot(K.tanh(K.dot(x, w) + b), K.expand_dims(u[:, 0])), axis=-1)
    return K.concatenate([x * K.expand_dims(K.softmax(scores)), x], axis=-1)


def by_sizes(x: Any, w: Any, u: Any, b: Any) -> Any:
    _, steps, channels = x.shape.as_list()
    assert x.shape.rank == x.get_shape().ndims == K.ndim(x) == 3
    flat = tf.reshape(tf.identity(x), [-1, steps * channels])
    return tf.reshape(tf.nn.relu(flat), [-1, steps, channels]) + tf.broadcast_to(b, [steps, 8])


FUNCTIONS: dict[str, Callable[..., Any]] = {
    "attention of the backend": attention,
    "sizes": by_sizes,
    "two products": lambda x, w, u, b: ops.matmul(x, w) + ops.matmul(ops.tanh(x), u),
    "two products and a bias": lambda x, w, u, b: ops.matmul(x, w) + ops.matmul(x[:, -1:], u) + b,
    "a product and a product by itself": lambda x, w, u, b: ops.matmul(x, w) + ops.matmul(x, w),
    "poolings": lambda x, w, u, b: (
        ops.max_pool(x, 2, 1, "same") + ops.average_pool(x, 3, 1, "same")
    ),
    "poolings of TensorFlow": lambda x, w, u, b: (
        tf.nn.max_pool1d(x, 2, 1, "SAME") + tf.nn.avg_pool(x, 3, 1, "SAME")
    ),
    "a product of TensorFlow": lambda x, w, u, b: tf.tensordot(x, w, axes=(-1, 0)),
    "an array in front": lambda x, w, u, b: ops.matmul(GRID * x, w) + (GRID - x),
    "a layer made in the call": lambda x, w, u, b: layers.add([x, ops.relu(x)], name="fixed"),
}


def net(*middle: Any, shape: tuple[int, ...] = (5, 4)) -> keras.Model:
    keras.utils.set_random_seed(1)
    chain = [keras.Input(shape), *middle, layers.Dense(8), layers.Flatten(), layers.Dense(3)]
    return keras.Sequential(chain)


def exact(model: keras.Model) -> ec2t_tf.ApplyReport:
    made, inputs = trained(model, steps=1)
    found = Outcome()
    compare(made, inputs, found)
    assert found.steps <= 3 < found.spread
    assert not made.ec2t_report.of("float")
    return made.ec2t_report


@pytest.mark.parametrize("name", FUNCTIONS)
def test_calls(name: str) -> None:
    """Each twice, so that names are, too."""
    exact(net(layers.Dense(8), Own(FUNCTIONS[name]), layers.Dense(8), Own(FUNCTIONS[name])))


CONVOLUTIONS: dict[str, tuple[tuple[int, ...], Callable[..., Any]]] = {
    "conv2d": (
        (3, 3, 4, 6),
        lambda x, w, b: tf.nn.bias_add(tf.nn.conv2d(x, w, [1, 2, 2, 1], "SAME"), b, "NHWC"),
    ),
    "depthwise_conv2d": (
        (3, 3, 4, 2),
        lambda x, w, _: tf.nn.depthwise_conv2d(x, w, [1, 1, 1, 1], "SAME"),
    ),
    "conv1d": (
        (3, 4, 6),
        lambda x, w, _: tf.nn.conv1d(tf.reshape(x, [-1, 36, 4]), w, 2, "VALID", dilations=1),
    ),
    "where": ((1,), lambda x, w, _: tf.where(np.arange(4) > 1, x, 0.5 * x)),
}


class OfTensorFlow(layers.Layer):
    def __init__(self, name: str) -> None:
        super().__init__()
        self.shape, self.function = CONVOLUTIONS[name]

    def build(self, shape: Any) -> None:
        self.kernel = self.add_weight(self.shape, "glorot_uniform", name="kernel")
        self.bias = self.add_weight(self.shape[-1:], "normal", name="bias")

    def call(self, x: Any) -> Any:
        return self.function(x, self.kernel, self.bias)


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_convolutions_of_tensorflow(name: str) -> None:
    report = exact(net(layers.Conv2D(4, 1), OfTensorFlow(name), shape=(6, 6, 2)))
    assert len(report.of("ternary")) == 1 + (name in ("conv2d", "conv1d"))


def test_a_model_for_each_step() -> None:
    inner = keras.Sequential(
        [layers.Conv1D(4, 3, activation="relu"), layers.BatchNormalization(), layers.Flatten()]
    )
    report = exact(
        net(
            layers.TimeDistributed(inner),
            layers.GRU(4, return_sequences=True, name="gru"),
            shape=(4, 6, 2),
        )
    )
    assert "gru" in report.of("ternary")


@pytest.mark.parametrize("first", [None, layers.Resizing(6, 6), layers.RandomFlip()])
def test_an_adapted_normalisation(first: Any) -> None:
    """Its mean and variance are weights, of which it makes factors when they are loaded."""
    x = np.random.default_rng(0).normal(100, 9, (32, 6, 6, 2)).astype(np.float32)
    normalisation = layers.Normalization()
    normalisation.adapt(x)
    middle = [*([] if first is None else [first]), normalisation, layers.Conv2D(4, 3)]
    source = net(*middle, shape=(6, 6, 2))
    made = ec2t_tf.apply(source, policy=ec2t_tf.Policy([ec2t_tf.Rule("int8")]), verbose=0)
    made.compile("sgd", "mse")
    made.fit(x, np.zeros((32, 3)), verbose=0)
    inside = next(one for one in made.layers if one.name == normalisation.name)
    np.testing.assert_allclose(inside.mean, normalisation.mean)
    plain = ec2t_tf.strip(made).get_layer(normalisation.name)
    np.testing.assert_allclose(plain.variance, normalisation.variance)
    found = Outcome()
    compare(made, [x], found)
    assert found.steps <= 3 < found.spread


def test_verify_takes_a_list_of_one_array(tmp_path: Any) -> None:
    made, (x,) = trained(net(layers.Dense(8)), steps=1)
    path = export.to_tflite(made, tmp_path / "net.tflite")
    assert str(export.verify(made, path, [x])) == str(export.verify(made, path, x))
    assert str(export.verify(made, path, [x[0]])) == str(export.verify(made, path, x[:1]))


ELSEWHERE = ("getitem",)  # x[...], a name that TensorFlow has in no module


@pytest.mark.parametrize("name", sorted(BY_NAME.keys() - set(ELSEWHERE)))
def test_functions_are_called_by_the_names_of_tensorflow(name: str) -> None:
    """`tf.expand_dims(input=x, axis=1)` as `tf.expand_dims(x, 1)`."""
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    parameters = list(inspect.signature(BY_NAME[name]).parameters.values())[1:]
    ours = {x.name for x in parameters if x.kind not in kinds} - {"name", "kind"}
    found = [
        set(inspect.signature(getattr(module, name)).parameters)
        for module in (tf, tf.math, tf.nn, tf.linalg, tf.image)
        if hasattr(module, name)
    ]
    assert found
    assert any(ours <= theirs for theirs in found), (ours, found)
