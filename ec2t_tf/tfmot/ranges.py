"""Ranges of activations in tf_keras models: as in Keras 3 (`FakeQuant`).

tfmot's quantizers begin with +-6 and keep 99.9 % of it at every batch. Short trainings leave most
codes unused so, and clip nets with larger activations for a long time.
"""

from __future__ import annotations

import tensorflow as tf
from tensorflow_model_optimization.python.core.quantization.keras import quantizers

from ec2t_tf.moving_range import moved

# What tfmot creates ranges with: it stands for "no batch was seen".
UNKNOWN = (-6.0, 6.0)


def learns(quantizer: quantizers.Quantizer, variables: dict) -> bool:
    """Whether a quantizer of tfmot learns one range from the batches, in these variables."""
    kinds = (quantizers.MovingAverageQuantizer, quantizers.AllValuesQuantizer)
    return isinstance(quantizer, kinds) and "min_var" in variables and not quantizer.per_axis


def without_infinity(extremes: tf.Tensor, values: tf.Tensor) -> tf.Tensor:
    """The least and largest of the values that are not infinite: that is the end of the range.

    Args:
      extremes: float32 (2,), of all values; returned where both are finite.
      values: float32, of any shape.
    """

    def of_others() -> tf.Tensor:
        others = tf.where(tf.math.is_inf(values), 0.0, values)
        return tf.stack([tf.reduce_min(others), tf.reduce_max(others)])

    return tf.cond(tf.reduce_all(tf.math.is_finite(extremes)), lambda: extremes, of_others)


def update(
    quantizer: quantizers.Quantizer, extremes: tf.Tensor, variables: dict, growth: float
) -> tf.Operation:
    """Take in a batch; one with NaN changes nothing.

    Args:
      quantizer: of which `learns` is true; the range of an `AllValuesQuantizer` covers all batches.
      extremes: float32 (n,), the least and largest values of the batch among them, but infinity.
      variables: "min_var" and "max_var", float32 variables of shape ().
      growth: as `moving_range.moved` has it.
    """
    low, high = variables["min_var"], variables["max_var"]
    old_low, old_high = low.read_value(), high.read_value()
    least = tf.minimum(tf.reduce_min(extremes), 0.0)
    most = tf.maximum(tf.reduce_max(extremes), 0.0)
    if isinstance(quantizer, quantizers.AllValuesQuantizer):
        new_low, new_high = tf.minimum(old_low, least), tf.maximum(old_high, most)
    else:
        new_low, new_high = moved(old_low, old_high, least, most, growth=growth)
    unknown = tf.logical_and(tf.equal(old_low, UNKNOWN[0]), tf.equal(old_high, UNKNOWN[1]))
    # Zeros alone have no range.
    first = tf.logical_and(unknown, most > least)
    finite = tf.reduce_all(tf.math.is_finite(extremes))
    new_low = tf.where(finite, tf.where(first, least, new_low), old_low)
    new_high = tf.where(finite, tf.where(first, most, new_high), old_high)
    return tf.group(low.assign(new_low), high.assign(new_high))
