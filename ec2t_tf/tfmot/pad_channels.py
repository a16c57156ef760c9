"""The shortcut of ResNet-20 in tf_keras, under the name that files of v0.1.0 know it by."""

from __future__ import annotations

import tensorflow as tf
import tf_keras


@tf_keras.saving.register_keras_serializable(package="ec2t_tf")
class PadChannels(tf_keras.layers.Layer):
    """Zero-pads the channels of an NHWC tensor by `before` and `after`."""

    moves_values_only = True  # so int8 stays int8

    def __init__(self, before: int, after: int, **kwargs: object) -> None:
        super().__init__(**kwargs)
        self.before, self.after = before, after

    def call(self, inputs: tf.Tensor) -> tf.Tensor:
        return tf.pad(inputs, [[0, 0], [0, 0], [0, 0], [self.before, self.after]])

    def compute_output_shape(self, input_shape: tuple) -> tuple:
        return (*input_shape[:3], input_shape[3] + self.before + self.after)

    def get_config(self) -> dict:
        return {**super().get_config(), "before": self.before, "after": self.after}
