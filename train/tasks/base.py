"""What a task gives the script: examples, and an epoch of them as a function of (seed, epoch).

Because an epoch's order and augmentation depend on nothing but the seed and the epoch's number, a
run that is killed and resumed sees exactly the batches that an uninterrupted run sees.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import numpy as np

# Examples are held in memory; a larger set would need a streaming reader.
MEMORY_LIMIT_BYTES = 4 << 30

Augmentation = Callable[[np.ndarray, np.random.Generator], np.ndarray]
"""(batch of inputs, what decides) -> batch of inputs; never in place."""
Batch = tuple[np.ndarray, np.ndarray]
"""Inputs (count, ...) float32, and what the loss compares with."""


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


def unchanged(inputs: np.ndarray, random: np.random.Generator) -> np.ndarray:
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

    classifies: ClassVar[bool] = True
    """Whether the net's outputs are logits of classes."""
    figure_name: ClassVar[str] = "top-1"
    """What `figure` is."""

    @property
    def outputs(self) -> int:
        """How many the net has."""
        return self.classes

    def expected(self, inputs: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """What the loss compares the outputs for normalised `inputs` with."""
        return labels

    def figure(self, outputs: np.ndarray, split: Split) -> float:
        """How good the outputs (count, outputs) for all of a split are, 0 to 1."""
        return float((outputs.argmax(axis=-1) == split.labels).mean())

    @property
    def input_shape(self) -> tuple[int, ...]:
        return tuple(self.train.inputs.shape[1:])

    def normalise(self, inputs: np.ndarray) -> np.ndarray:
        """Stored inputs to float32 with zero mean and unit variance."""
        return (inputs.astype(np.float32) / np.float32(self.full_scale) - self.mean) / self.std

    def evaluation(self, split: Split, batch_size: int = 256) -> Evaluation:
        """Batches in the stored order: normalised inputs, and what is expected."""
        return Evaluation(self, split, batch_size)

    def training(
        self,
        *,
        batch_size: int,
        seed: int,
        first_epoch: int,
        last_epoch: int,
        steps: int | None = None,
    ) -> Iterator[Batch]:
        """Shuffled, augmented, normalised batches of epochs [first_epoch, last_epoch).

        An epoch has all whole batches, or the first `steps` of them.
        """
        versions = (self.train.inputs, *self.variants)
        whole = len(self.train) // batch_size
        for epoch in range(first_epoch, last_epoch):
            inputs = versions[epoch % len(versions)]
            order = np.random.default_rng((seed, epoch)).permutation(len(self.train))
            for number in range(whole if steps is None else min(steps, whole)):
                rows = order[number * batch_size : (number + 1) * batch_size]
                random = np.random.default_rng((seed, epoch, number))
                batch = self.normalise(self.augment(inputs[rows], random))
                yield batch, self.expected(batch, self.train.labels[rows])

    def steps_per_epoch(self, batch_size: int) -> int:
        if batch_size < 1 or batch_size > len(self.train):
            raise DataError(
                f"batch_size must be between 1 and the {len(self.train)} training examples of "
                f"'{self.name}'. Received: batch_size={batch_size}. Choose a smaller --batch_size."
            )
        return len(self.train) // batch_size


@dataclasses.dataclass(frozen=True)
class Evaluation(Sequence[Batch]):
    """The batches of a split in the stored order, each normalised when it is asked for."""

    data: TaskData
    split: Split
    batch_size: int

    def __len__(self) -> int:
        return -(-len(self.split) // self.batch_size)

    def __getitem__(self, number: Any) -> Any:
        if not 0 <= number < len(self):
            raise IndexError(number)
        part = self.split[slice(number * self.batch_size, (number + 1) * self.batch_size)]
        inputs = self.data.normalise(part.inputs)
        return inputs, self.data.expected(inputs, part.labels)


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
