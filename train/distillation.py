"""Knowledge distillation: the ternary net also learns what the float net thinks of an image.

Hinton, Vinyals, Dean, Distilling the knowledge in a neural network (2015): the loss is

    share * T^2 * KL(softmax(teacher / T) || softmax(student / T)) + (1 - share) * cross entropy.

The teacher's logits travel beside the labels, so that any Keras model learns from them without a
training step of its own.
"""

from __future__ import annotations

import dataclasses

import tensorflow as tf
import tf_keras


@dataclasses.dataclass(frozen=True)
class Distillation:
    """How much a student listens to its teacher.

    Attributes:
      teacher: model whose output is logits.
      share: weight of the teacher's word against the labels', above 0 and at most 1.
      temperature: T above; larger ones tell more about the wrong classes.
    """

    teacher: tf_keras.Model
    share: float = 0.7
    temperature: float = 2.0

    def __post_init__(self) -> None:
        if not 0.0 < self.share <= 1.0:
            raise ValueError(
                "share must be above 0 and at most 1. "
                f"Received: share={self.share}. For no distillation leave it out."
            )
        if not self.temperature > 0.0:
            raise ValueError(
                f"temperature must be above 0. Received: temperature={self.temperature}."
            )

    def attach(self, batches: tf.data.Dataset) -> tf.data.Dataset:
        """(images, labels) to (images, targets): label and the teacher's logits side by side."""

        def targets(images: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            logits = self.teacher(images, training=False)
            labels = tf.cast(tf.reshape(labels, [-1, 1]), tf.float32)
            return images, tf.concat([labels, logits], axis=1)

        return batches.map(targets).prefetch(2)

    def loss(self, targets: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
        """Loss of each image; plain cross entropy where `targets` are labels only (validation)."""
        labels, taught = split(targets)
        hard = tf_keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)
        if taught is None:
            return hard
        soft = tf_keras.losses.kl_divergence(
            tf.nn.softmax(taught / self.temperature), tf.nn.softmax(logits / self.temperature)
        )
        return self.share * self.temperature**2 * soft + (1.0 - self.share) * hard


def accuracy(targets: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Whether each image is classified as its label says, teacher or not."""
    return tf_keras.metrics.sparse_categorical_accuracy(split(targets)[0], logits)


def split(targets: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor | None]:
    """Labels (batch,) and the teacher's logits, None where there are none."""
    if targets.shape.rank == 1 or targets.shape[-1] == 1:
        return tf.reshape(targets, [-1]), None
    return targets[:, 0], targets[:, 1:]
