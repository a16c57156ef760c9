"""`ec2t_tf.quantisation.slopes` in tf_keras."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf
import tf_keras


@tf_keras.saving.register_keras_serializable(package="ec2t_tf")
class FiniteSlope(tf_keras.layers.Layer):
    """Values as they are; a gradient that is NaN or infinite is none."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.supports_masking = True

    def call(self, x: tf.Tensor) -> tf.Tensor:
        return _with_finite_slope(x)


@tf.custom_gradient
def _with_finite_slope(x: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
    def gradient(slope: tf.Tensor) -> tf.Tensor:
        return tf.where(tf.math.is_finite(slope), slope, tf.zeros_like(slope))

    return tf.identity(x), gradient
