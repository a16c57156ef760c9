"""Activation functions that Keras 3 has and tf_keras lacks or computes otherwise.

Each is registered with tf_keras under the package name `ec2t_tf`, so that a model which uses one
is saved and loaded without a scope. Definitions follow `keras.activations` of Keras 3.
"""

from __future__ import annotations

from collections.abc import Callable

import tensorflow as tf
import tf_keras

Activation = Callable[[tf.Tensor], tf.Tensor]

_register = tf_keras.saving.register_keras_serializable(package="ec2t_tf")


@_register
def relu6(x: tf.Tensor) -> tf.Tensor:
    """min(max(x, 0), 6)."""
    return tf.nn.relu6(x)


@_register
def leaky_relu(x: tf.Tensor) -> tf.Tensor:
    """x where positive, 0.2 x elsewhere."""
    return tf.nn.leaky_relu(x, alpha=0.2)


@_register
def hard_sigmoid(x: tf.Tensor) -> tf.Tensor:
    """relu6(x + 3) / 6. (tf_keras' own `hard_sigmoid` is clip(0.2 x + 0.5, 0, 1).)"""
    return tf.nn.relu6(x + 3.0) * (1.0 / 6.0)


@_register
def hard_silu(x: tf.Tensor) -> tf.Tensor:
    """x relu6(x + 3) / 6, also known as hard swish."""
    return x * tf.nn.relu6(x + 3.0) * (1.0 / 6.0)


@_register
def hard_tanh(x: tf.Tensor) -> tf.Tensor:
    """clip(x, -1, 1)."""
    return tf.clip_by_value(x, -1.0, 1.0)


@_register
def celu(x: tf.Tensor) -> tf.Tensor:
    """max(x, 0) + min(0, exp(x) - 1)."""
    return tf.maximum(x, 0.0) + tf.minimum(0.0, tf.math.expm1(tf.minimum(x, 0.0)))


@_register
def log_sigmoid(x: tf.Tensor) -> tf.Tensor:
    """log(1 / (1 + exp(-x)))."""
    return tf.math.log_sigmoid(x)


@_register
def log_softmax(x: tf.Tensor) -> tf.Tensor:
    """x - log(sum(exp(x))) over the last axis."""
    return tf.nn.log_softmax(x)


@_register
def hard_shrink(x: tf.Tensor) -> tf.Tensor:
    """x where |x| > 0.5, else 0."""
    return tf.where(tf.abs(x) > 0.5, x, tf.zeros_like(x))


@_register
def soft_shrink(x: tf.Tensor) -> tf.Tensor:
    """sign(x) max(|x| - 0.5, 0)."""
    return tf.sign(x) * tf.maximum(tf.abs(x) - 0.5, 0.0)


@_register
def tanh_shrink(x: tf.Tensor) -> tf.Tensor:
    """x - tanh(x)."""
    return x - tf.tanh(x)


@_register
def squareplus(x: tf.Tensor) -> tf.Tensor:
    """(x + sqrt(x^2 + 4)) / 2."""
    return (x + tf.sqrt(tf.square(x) + 4.0)) / 2.0


@_register
def sparse_plus(x: tf.Tensor) -> tf.Tensor:
    """0 below -1, x above 1, (x + 1)^2 / 4 between."""
    return tf.where(x <= -1.0, tf.zeros_like(x), tf.where(x < 1.0, tf.square(x + 1.0) / 4.0, x))


@_register
def sparse_sigmoid(x: tf.Tensor) -> tf.Tensor:
    """0 below -1, 1 above 1, (x + 1) / 2 between."""
    return tf.clip_by_value(0.5 * (x + 1.0), 0.0, 1.0)


# Keras 3 name -> function, for all whose definition tf_keras does not share.
KERAS_3_ONLY: dict[str, Activation] = {
    function.__name__: function
    for function in (
        relu6,
        leaky_relu,
        hard_sigmoid,
        hard_silu,
        hard_tanh,
        celu,
        log_sigmoid,
        log_softmax,
        hard_shrink,
        soft_shrink,
        tanh_shrink,
        squareplus,
        sparse_plus,
        sparse_sigmoid,
    )
}
