"""Biases as integer arithmetic has them, so that what Keras computes is what the file computes.

TensorFlow Lite adds an int32 bias to the sum of products, in units of (scale of the input) x (scale
of the weights). A float bias of training is up to half a unit off, which moves about one activation
in a thousand by a step; every later layer multiplies that. Here inference in Keras moves the bias,
or the offset of the batch normalisation that becomes one, to the nearest unit.

Training is not touched: there a batch normalisation has no fixed scale, so its bias has no unit.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import tensorflow as tf
import tf_keras

# Largest int8 code of a weight, and steps between the least and the largest int8 activation.
WEIGHT_STEPS = 127.0
ACTIVATION_STEPS = 255.0


def unit(input_range: tuple[tf.Tensor, tf.Tensor], largest_weight: tf.Tensor) -> tf.Tensor:
    """Value of 1 in an int32 bias: float32, shape of `largest_weight`, () or (channels,)."""
    smallest, largest = input_range
    return (largest - smallest) / ACTIVATION_STEPS * (largest_weight / WEIGHT_STEPS)


def nearest(bias: tf.Tensor, unit: tf.Tensor) -> tf.Tensor:
    """`bias` to the nearest whole number of units, float32; as it is where the unit is 0."""
    return tf.where(unit > 0.0, tf.round(tf.math.divide_no_nan(bias, unit)) * unit, bias)


def folded_offset(
    normalisation: tf_keras.layers.BatchNormalization,
    bias: tf.Tensor | float,
    unit: tf.Tensor,
) -> tf.Tensor:
    """beta of a batch normalisation whose folded bias is a whole number of units.

    The converter folds y = a (x + bias - mean) + beta, a = gamma / sqrt(variance + epsilon), into
    weights of |a| times their scale and the bias a (bias - mean) + beta.

    Args:
      normalisation: with `beta`, float32 (channels,).
      bias: of the layer before it, float32 (channels,), or 0.
      unit: of that layer's bias, float32, () or (channels,).
    """
    factor = tf.math.rsqrt(normalisation.moving_variance + normalisation.epsilon)
    if normalisation.scale:
        factor *= normalisation.gamma
    shift = factor * (bias - normalisation.moving_mean)
    beta = tf.convert_to_tensor(normalisation.beta)
    return beta + nearest(shift + beta, unit * tf.abs(factor)) - (shift + beta)


@contextlib.contextmanager
def replaced(layer: tf_keras.layers.Layer, name: str, value: tf.Tensor) -> Iterator[None]:
    """The layer computes with `value` in place of its variable `name` inside."""
    variable = getattr(layer, name)
    # Past Keras, which would forget the variable.
    object.__setattr__(layer, name, value)
    try:
        yield
    finally:
        object.__setattr__(layer, name, variable)
