"""What a task gives the script: examples, and an epoch of them as a function of (seed, epoch).

Because an epoch's order and augmentation depend on nothing but the seed and the epoch's number, a
run that is killed and resumed sees exactly the batches that an uninterrupted run sees.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import tensorflow as tf

# Examples are held in memory; a larger set would need a streaming reader.
MEMORY_LIMIT_BYTES = 4 << 30

Augmentation = Callable[[tf.Tensor, tf.Tensor], tf.Tensor]
"""(batch of inputs, two integers of a stateless seed) -> batch of inputs."""


class DataError(ValueError):
    """The requested data set cannot be used; the message says what to do."""


@dataclasses.dataclass(frozen=True)
class Split:
    """Inputs (count, ...) uint8 or float32, and labels (count,) int64."""

    inputs: np.ndarray
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, rows: slice | np.ndarray) -> Split:
        return Split(self.inputs[rows], self.labels[rows])


def unchanged(inputs: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """The augmentation that does nothing."""
    return inputs


@dataclasses.dataclass(frozen=True)
class TaskData:
    """A data set with its validation examples held out of the training examples.

    Attributes:
      mean, std: float32, by channel (the last axis) or one for all, of the inputs divided by
        `full_scale`.
      full_scale: 255 for pixels, else 1.
      augment: applied to training batches before they are normalised.
      variants: other versions of the training inputs (a sound at another place, louder, noisier);
        epoch n trains on number n modulo their count, with the plain ones as number 0.
      labels: a name for each class, perhaps none.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    classes: int
    mean: np.ndarray
    std: np.ndarray
    full_scale: float = 1.0
    augment: Augmentation = unchanged
    variants: tuple[np.ndarray, ...] = ()
    labels: tuple[str, ...] = ()

    @property
    def input_shape(self) -> tuple[int, ...]:
        return tuple(self.train.inputs.shape[1:])

    def normalise(self, inputs: np.ndarray | tf.Tensor) -> tf.Tensor:
        """Stored inputs to float32 with zero mean and unit variance."""
        return (tf.cast(inputs, tf.float32) / self.full_scale - self.mean) / self.std

    def evaluation(self, split: Split, batch_size: int = 256) -> tf.data.Dataset:
        """Normalised (inputs, labels) batches in the stored order."""
        batches = tf.data.Dataset.from_tensor_slices((split.inputs, split.labels))
        return batches.batch(batch_size).map(lambda x, y: (self.normalise(x), y)).prefetch(2)

    def training(
        self,
        *,
        batch_size: int,
        seed: int,
        first_epoch: int,
        last_epoch: int,
        steps: int | None = None,
    ) -> tf.data.Dataset:
        """Shuffled, augmented, normalised batches of epochs [first_epoch, last_epoch).

        An epoch has all whole batches, or the first `steps` of them.
        """
        # One array: version v of example i is row v * count + i.
        count, versions = len(self.train), 1 + len(self.variants)
        inputs = tf.constant(np.concatenate([self.train.inputs, *self.variants]))
        labels = tf.constant(self.train.labels)

        def batch(epoch: tf.Tensor, number: tf.Tensor, rows: tf.Tensor) -> tuple:
            x = tf.gather(inputs, rows + tf.cast(epoch % versions, rows.dtype) * count)
            x = self.augment(x, tf.stack([seed + 7919 * (epoch + 1), number]))
            return self.normalise(x), tf.gather(labels, rows)

        def one_epoch(epoch: tf.Tensor) -> tf.data.Dataset:
            order = tf.random.experimental.stateless_shuffle(
                tf.range(count), seed=tf.stack([tf.cast(seed, tf.int64), epoch])
            )
            order = order if steps is None else order[: steps * batch_size]
            rows = tf.data.Dataset.from_tensor_slices(order).batch(batch_size, drop_remainder=True)
            return rows.enumerate().map(lambda number, rows: batch(epoch, number, rows))

        return tf.data.Dataset.range(first_epoch, last_epoch).flat_map(one_epoch).prefetch(4)

    def steps_per_epoch(self, batch_size: int) -> int:
        if batch_size < 1 or batch_size > len(self.train):
            raise DataError(
                f"batch_size must be between 1 and the {len(self.train)} training examples of "
                f"'{self.name}'. Received: batch_size={batch_size}. Choose a smaller --batch_size."
            )
        return len(self.train) // batch_size


def held_out(examples: Split, fraction: float) -> tuple[Split, Split]:
    """(rest, held out): `fraction` of the examples, the same ones every time, in stored order.

    Raises:
      DataError: the fraction is not between 0 and 1, or leaves one side empty.
    """
    if not 0 < fraction < 1:
        raise DataError(
            "validation_fraction must lie between 0 and 1 (exclusive), because choices need held "
            f"out data. Received: validation_fraction={fraction}."
        )
    order = np.random.default_rng(0).permutation(len(examples))
    count = max(1, round(len(examples) * fraction))
    if count >= len(examples):
        raise DataError(
            f"At least two examples are required to hold one out. Received: {len(examples)}."
        )
    return examples[np.sort(order[count:])], examples[np.sort(order[:count])]
