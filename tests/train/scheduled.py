"""A small net and a data set, for the tests of what changes over a training."""

from __future__ import annotations

import numpy as np
import tensorflow as tf
import tensorflow_model_optimization as tfmot
import tf_keras
from tf_keras import layers

import ec2t_tf
from ec2t_tf.methods import EC2T
from ec2t_tf.tfmot.quantize_config import ternary_layers

ConstantSparsity = tfmot.sparsity.keras.ConstantSparsity
PolynomialDecay = tfmot.sparsity.keras.PolynomialDecay


def float_net(seed: int = 0) -> tf_keras.Model:
    tf_keras.utils.set_random_seed(seed)
    normal = tf_keras.initializers.RandomNormal(stddev=0.3, seed=seed)
    return tf_keras.Sequential(
        [
            layers.InputLayer((8,)),
            layers.Dense(16, activation="relu", name="first"),
            layers.Dense(40, activation="relu", kernel_initializer=normal, name="large"),
            layers.Dense(20, activation="relu", kernel_initializer=normal, name="middle"),
            layers.Dense(3, name="last"),
        ]
    )


LAYERS = 2  # ternary ones
RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(64, 8)).astype(np.float32)
Y = (X @ RANDOM.normal(size=(8, 3))).argmax(axis=1)
LOSS = tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def ternary_net(
    method: EC2T, *, optimizer="adam", run_eagerly: bool = True, **compiled
) -> tf_keras.Model:
    """Tracing takes longer than training such a net, so most tests run eagerly."""
    model = ec2t_tf.apply(float_net(), method)
    model.compile(optimizer, LOSS, run_eagerly=run_eagerly, **compiled)
    return model


def fit(model, *, steps: int, batch_size: int = 16) -> None:
    per_epoch = len(X) // batch_size
    assert steps % per_epoch == 0
    model.fit(X, Y, batch_size=batch_size, epochs=steps // per_epoch, shuffle=False, verbose=0)


def sparsity_of(model) -> float:
    """Share of zeros in all ternary layers together."""
    codes = [layer.assign().codes.ravel() for layer in ternary_layers(model)]
    return float(np.mean(np.concatenate(codes) == 0))


def state_of(model, name: str) -> list[float]:
    return [float(layer.state[name].numpy()) for layer in ternary_layers(model)]


def gradients_of(model, x, y):
    with tf.GradientTape() as tape:
        loss = LOSS(y, model(x, training=True))
    return tape.gradient(loss, model.trainable_variables)
