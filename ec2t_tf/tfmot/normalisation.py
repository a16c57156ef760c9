"""Batch normalisation whose averages follow a ternary training from its first batch, in tf_keras.

As `ec2t_tf.quantisation.BatchNormalization`, which says why.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import tensorflow as tf
from tf_keras import layers

from ec2t_tf.moving_average import growing_momentum


@contextlib.contextmanager
def following(
    layer: layers.BatchNormalization, counter: tf.Variable, examples: tf.Tensor
) -> Iterator[None]:
    """A call of `layer` in training inside has a momentum that grows to its own.

    A batch with NaN or infinity does not change the averages.

    Args:
      counter: integer, t - 1; it begins at -1 and counts the batches.
      examples: in the batch, integer scalar.
    """
    averages = (layer.moving_mean, layer.moving_variance)
    before = [average.read_value() for average in averages]
    batches = tf.cast(counter, tf.float32) + 1.0
    own = layer.momentum
    momentum = growing_momentum(own, batches, examples)
    object.__setattr__(layer, "momentum", momentum)  # past Keras, which would track it
    try:
        yield
    finally:
        object.__setattr__(layer, "momentum", own)
    after = [average.read_value() for average in averages]
    finite = tf.reduce_all([tf.reduce_all(tf.math.is_finite(x)) for x in after])
    for average, old, new in zip(averages, before, after, strict=True):
        average.assign(tf.where(finite, new, old))
    counter.assign_add(tf.cast(finite, counter.dtype))
