"""tf_keras: layers and models of the user's, and what they do with their weights, the batch and
random numbers: what they are written in, or refused by name with what to do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from tf_keras import layers

import ec2t_tf
from ec2t_tf.tfmot.sizes import one_open
from tests.lower.models import trained
from tests.lower.random_check import Outcome, compare
from tests.lower.random_doors import DOORS
from tests.lower.test_doors import followed


class Hidden(tf_keras.Model):
    def __init__(self) -> None:
        super().__init__(name="mine")
        self.inner = layers.Dense(8, activation="relu")

    def call(self, x: Any) -> Any:
        return self.inner(x) + x


class Windows(layers.Layer):
    """Three windows of three steps as a batch, and back."""

    def call(self, x: Any) -> Any:
        return tf.reshape(tf.reshape(x, (-1, 3, 8)) * 0.5, (-1, 9, 8))


class Depth(layers.Layer):
    """Stochastic depth: examples lose a branch in training."""

    def call(self, x: Any, training: bool | None = None) -> Any:
        if not training:
            return x
        return x * 2.0 * tf.floor(0.5 + tf.random.uniform((tf.shape(x)[0], 1, 1)))


class Heads(layers.Layer):
    """Attention as in TensorFlow's tutorial on transformers, whose sizes are asked for."""

    def __init__(self) -> None:
        super().__init__(name="mine")
        self.query, self.key, self.value = (layers.Dense(8) for _ in range(3))
        self.out = layers.Dense(8)

    def call(self, x: Any) -> Any:
        batch, steps, _ = tf.unstack(tf.shape(x))
        q, k, v = (self.split(part(x), batch) for part in (self.query, self.key, self.value))
        scores = tf.matmul(q, k, transpose_b=True)
        weights = tf.nn.softmax(scores / tf.math.sqrt(tf.cast(tf.shape(k)[-1], tf.float32)))
        made = tf.transpose(tf.matmul(weights, v), (0, 2, 1, 3))
        return self.out(tf.reshape(made, (batch, steps, 8)))

    def split(self, x: Any, batch: Any) -> Any:
        return tf.transpose(tf.reshape(x, (batch, -1, 2, 4)), (0, 2, 1, 3))


class Sized(layers.Layer):
    """The backend's sizes, and a batch that is -1."""

    def call(self, x: Any) -> Any:
        sizes = tf_keras.backend.shape(x)
        places = tf.cast(tf.range(sizes[1]), tf.float32)[None, :, None]
        x = tf.reshape(tf.identity(x) + places * 0.1, (sizes[0], sizes[1] * sizes[2]))
        return tf.reshape(x, (-1, 9, 8))


def net(middle: Any) -> tf_keras.Model:
    source = tf_keras.Input((9, 8), name="x")
    x = layers.Dense(8, activation="relu")(source)
    x = layers.Dense(8, name="middle")(middle(x))
    return tf_keras.Model(source, layers.Dense(3)(layers.GlobalMaxPooling1D()(x)))


KINDS = {Hidden: 2, Windows: 1, Depth: 1, Heads: 5, Sized: 1}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_is_what_it_is_written_in(kind: type) -> None:
    tf_keras.utils.set_random_seed(3)
    optimizer = tf_keras.optimizers.Adam(1e-3)
    model, inputs = trained(net(kind()), steps=2, optimizer=optimizer)
    assert not model.ec2t_report.of("float")
    assert len(model.ec2t_report.of("ternary")) == KINDS[kind]
    outcome = Outcome()
    compare(model, inputs, outcome)
    assert outcome.steps < 3
    if kind is Depth:
        spread = np.std([model(inputs[0], training=True).numpy() for _ in range(4)], axis=0)
        assert spread.max() > 0.01


class Scaled(layers.Layer):
    def build(self, shape: Any) -> None:
        self.gamma = self.add_weight("gamma", (shape[-1],), initializer="ones", regularizer="l2")

    def call(self, x: Any) -> Any:
        return x * self.gamma


class Moving(layers.Layer):
    """A statistic that `call` itself keeps."""

    def build(self, shape: Any) -> None:
        self.mean = self.add_weight("mean", (shape[-1],), trainable=False)

    def call(self, x: Any) -> Any:
        self.mean.assign(0.9 * self.mean + 0.1 * tf.reduce_mean(x, axis=(0, 1)))
        return x - self.mean


class OverBatch(layers.Layer):
    """A number that is another one for each size of the batch."""

    def call(self, x: Any) -> Any:
        return x / tf.cast(tf.shape(x)[0], x.dtype)


class Sorted(layers.Layer):
    """Without a config that makes it again."""

    def __init__(self, function: Any) -> None:
        super().__init__(name="mine")
        self.function = function

    def call(self, x: Any) -> Any:
        return self.function(x)


class Doubled(layers.Dense):
    """What it is called with is in the graph, and doubled again when it is called again."""

    def __call__(self, x: Any, *args: Any, **options: Any) -> Any:
        return super().__call__(x * 2.0, *args, **options)


class Times(layers.Dense):
    """By a number that its config leaves out."""

    def __init__(self, units: int, factor: float = 1.0, **options: Any) -> None:
        super().__init__(units, **options)
        self.factor = factor

    def call(self, x: Any) -> Any:
        return super().call(x) * self.factor


class Noise(layers.Layer):
    """Other numbers at each call, in training or not."""

    def call(self, x: Any) -> Any:
        return x + tf.random.normal(tf.shape(x))


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: Scaled(name="mine"), r"'mine' \(Scaled\), whose weights gamma are its own: put"),
        (lambda: Moving(name="mine"), r"'mine' \(Moving\), whose call raises a TypeError on"),
        (lambda: OverBatch(name="mine"), r"by itself.*'mine' \(OverBatch\), which makes"),
        (
            lambda: Sorted(lambda x: tf.sort(x)),
            r"'mine' \(Sorted\), with tf\.sort inside; and from_config",
        ),
        (lambda: Doubled(8, name="mine"), r"'mine' \(Doubled\) with a __call__ of its own"),
        (
            lambda: Times(8, 3.0, name="mine"),
            r"'mine' \(Times\).* its get_config leaves something out",
        ),
        (lambda: Noise(name="mine"), "random numbers in a layer of yours"),
    ],
    ids=lambda x: "" if isinstance(x, str) else x().__class__.__name__,
)
def test_the_rest_is_refused_before_training(make: Any, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        ec2t_tf.apply(net(make()), verbose=0)


def test_one_size_of_two_is_known() -> None:
    assert one_open([-1, 9, 8], (-1, -1, 2, 4)) == [-1, 9, 2, 4]
    assert one_open([-1, 9, 8], [-1, 72]) == [-1, 72]
    assert one_open([-1, -1, 8], [-1, -1, 8]) == [-1, -1, 8]  # both are open
    assert one_open([-1, 9, 8], [-1, -1, 5]) == [-1, -1, 5]  # no whole number


class HandsOn(layers.Layer):
    """`training` by its place, as much code for TensorFlow 2 has it."""

    def __init__(self, last: layers.Layer, **options: Any) -> None:
        super().__init__(**options)
        self.first, self.last = layers.Dense(6), last

    def call(self, x: Any, training: Any = None) -> Any:
        return self.last(self.first(x), training)


@pytest.mark.parametrize("training", [None, False])
@pytest.mark.parametrize("kind", [layers.BatchNormalization, layers.GaussianNoise])
def test_training_by_its_place(kind: Any, training: Any) -> None:
    source = tf_keras.Input((7, 5), name="x")
    last = kind(0.1) if kind is layers.GaussianNoise else kind()
    x = layers.Dense(6)(source)
    x = HandsOn(last)(x) if training is None else HandsOn(last)(x, training)
    _, found = followed(DOORS["tf_keras"], source, lambda _: x)
    assert not found.floats


@pytest.mark.parametrize(
    "make", [layers.ReLU, lambda: layers.Activation("gelu"), layers.Add, layers.Concatenate]
)
def test_a_layer_that_is_called_again_has_another_range(make: Any) -> None:
    """One object in two places: 0.01 of the spread from the float net as two are; 0.6 before."""
    nets = []
    for shared in (True, False):
        tf_keras.utils.set_random_seed(1)
        one = make()
        other = one if shared else make()
        source = tf_keras.Input((6,))
        small, large, next_to_it = (
            layers.Dense(6, kernel_initializer=tf_keras.initializers.RandomNormal(0.0, size, n))
            for n, size in enumerate((0.01, 30.0, 3.0))
        )
        is_of_two = isinstance(one, layers.Add | layers.Concatenate)
        x = small(source)
        x = large(one([x, x]) if is_of_two else one(x))
        x = other([x, next_to_it(source)]) if is_of_two else other(x)
        nets.append(tf_keras.Model(source, layers.Dense(3)(x)))
    x = np.random.default_rng(0).normal(size=(64, 6)).astype(np.float32)
    shared, apart = (distance_of(model, x) for model in nets)
    assert shared == pytest.approx(apart, abs=1e-6)
    assert shared < 0.05


def distance_of(model: tf_keras.Model, x: np.ndarray) -> float:
    """Of the int8 net from the float one, in spreads of its outputs."""
    made = ec2t_tf.apply(model, policy=ec2t_tf.Policy([ec2t_tf.Rule("int8")]), verbose=0)
    made(x, training=True)
    wanted = np.asarray(model(x))
    return float(np.abs(np.asarray(made(x)) - wanted).mean() / wanted.std())
