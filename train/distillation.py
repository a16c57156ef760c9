"""Knowledge distillation: the ternary net also learns what the float net thinks of an image.

Hinton, Vinyals, Dean, Distilling the knowledge in a neural network (2015): the loss is

    share * T^2 * KL(softmax(teacher / T) || softmax(student / T)) + (1 - share) * cross entropy.

The teacher's logits travel beside the labels, so that any Keras model learns from them without a
training step of its own.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from ec2t_tf.train.tasks.base import Batch

Tensor = Any


@dataclasses.dataclass(frozen=True)
class Distillation:
    """How much a student listens to its teacher.

    Attributes:
      teacher: model whose output is logits.
      share: weight of the teacher's word against the labels', above 0 and at most 1.
      temperature: T above; larger ones tell more about the wrong classes.
    """

    teacher: Any
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

    def attach(self, batches: Iterator[Batch]) -> Iterator[Batch]:
        """(images, labels) to (images, targets): label and the teacher's logits side by side."""
        for images, labels in batches:
            logits = np.asarray(self.teacher.predict_on_batch(images), np.float32)
            column = np.reshape(labels, (-1, 1)).astype(np.float32)
            yield images, np.concatenate([column, logits], axis=1)

    def targets(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """What `attach` gives for a batch of tensors, in a graph."""
        logits = ops.cast(self.teacher(images, training=False), "float32")
        column = ops.cast(ops.reshape(labels, (-1, 1)), "float32")
        return images, ops.concatenate([column, logits], axis=1)

    def loss(self, targets: Tensor, logits: Tensor) -> Tensor:
        """Loss of each image; plain cross entropy where `targets` are labels only (validation)."""
        labels, taught = split(targets)
        hard = keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)
        if taught is None:
            return hard
        soft = keras.losses.kl_divergence(
            ops.softmax(taught / self.temperature), ops.softmax(logits / self.temperature)
        )
        return self.share * self.temperature**2 * soft + (1.0 - self.share) * hard


def accuracy(targets: Tensor, logits: Tensor) -> Tensor:
    """Whether each image is classified as its label says, teacher or not."""
    return keras.metrics.sparse_categorical_accuracy(split(targets)[0], logits)


def split(targets: Tensor) -> tuple[Tensor, Tensor | None]:
    """Labels int32 (batch,) and the teacher's logits, None where there are none."""
    if len(targets.shape) == 1 or targets.shape[-1] == 1:
        return ops.cast(ops.reshape(targets, (-1,)), "int32"), None
    return ops.cast(targets[:, 0], "int32"), targets[:, 1:]
