"""Knowledge distillation: the ternary net also learns what the float net thinks of an image.

Hinton, Vinyals, Dean, Distilling the knowledge in a neural network (2015). The loss is
`targets.loss`; the teacher's logits travel beside the labels.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from keras import ops

from ec2t_tf import progress
from ec2t_tf.train import targets, zoo
from ec2t_tf.train.tasks.base import Batch, TaskData
from ec2t_tf.train.zoo.published import load_weights

if TYPE_CHECKING:
    from ec2t_tf.train.doors import Keras3

Tensor = Any


@dataclasses.dataclass(frozen=True)
class Distillation:
    """How much a student listens to its teacher.

    Attributes:
      teacher: model whose output is logits.
      share: weight of the teacher's word against the labels', above 0 and at most 1.
      temperature: larger ones tell more about the wrong classes.
      last_share: to which `share` changes evenly over `steps` steps; None leaves it as it is.
      steps: of the whole training.
      examples: all that training has, where the same images come in every epoch: `attach` asks the
        teacher for them once, before the first step. In a fixed order, as the last bits of its word
        depend on the batch, and a resumed run is to have the same. None: asked in every step.
    """

    teacher: Any
    share: float = 0.7
    temperature: float = 2.0
    last_share: float | None = None
    steps: int = 1
    examples: Sequence[Batch] | None = None

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
        if self.last_share is not None and not 0.0 <= self.last_share <= 1.0:
            raise ValueError(f"last_share must be 0 to 1. Received: last_share={self.last_share}.")

    def share_at(self, step: int) -> float:
        """The teacher's share in a step, counted from 0."""
        if self.last_share is None:
            return self.share
        done = min(1.0, step / max(1, self.steps - 1))
        return self.share + done * (self.last_share - self.share)

    def attach(self, batches: Iterator[Batch], *, first_step: int = 0) -> Iterator[Batch]:
        """(images, labels or targets) to (images, targets with the teacher's logits)."""
        said = self._said()
        for step, (images, labels) in enumerate(batches, first_step):
            logits = (
                np.stack([said[_key(image)] for image in images])
                if said
                else np.asarray(self.teacher.predict_on_batch(images), np.float32)
            )
            rows = targets.rows(labels).copy()
            rows[:, targets.COLUMNS - 1] = self.share_at(step)
            yield images, np.concatenate([rows, logits], axis=1)

    def _said(self) -> dict[bytes, np.ndarray]:
        """The logits of every one of `examples`."""
        said: dict[bytes, np.ndarray] = {}
        for images, _ in progress.bar(self.examples or (), "asking the teacher"):
            logits = np.asarray(self.teacher.predict_on_batch(images), np.float32)
            said.update(zip(map(_key, images), logits, strict=True))
        return said

    def targets(self, images: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """What `attach` gives in the first step for `targets.rows`, in a graph."""
        logits = ops.cast(self.teacher(images, training=False), "float32")
        head = ops.cast(rows[:, : targets.COLUMNS - 1], "float32")
        share = ops.full_like(head[:, :1], self.share)
        return images, ops.concatenate([head, share, logits], axis=1)


def _key(image: np.ndarray) -> bytes:
    return hashlib.blake2b(image.tobytes(), digest_size=16).digest()


def net_of(name: str, weights: str | Path, data: TaskData, door: Keras3) -> Any:
    """A net of the zoo for inputs and classes of `data`, with a file's weights, in a door's Keras.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the net cannot have such inputs, or the weights are of another one.
    """
    net = door.own(zoo.build(name, input_shape=data.input_shape, classes=data.outputs))
    load_weights(net, weights)
    return net
