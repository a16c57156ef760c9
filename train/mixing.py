"""Augmentations that look at more than one example, or at no task in particular.

Cutout (DeVries, Taylor 2017) blanks a square of an image; mixup (Zhang, Cisse, Dauphin, Lopez-Paz
2018) trains on a * one example + (1 - a) * another, with both labels.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ec2t_tf.train import targets
from ec2t_tf.train.tasks.base import Augmentation, Batch

MIXUP = 0x6D697875  # a stream of random numbers of its own: "mixu"


def cutout(side: int, filler: np.ndarray) -> Augmentation:
    """A square of `side` pixels around a random pixel of each image becomes `filler`.

    Args:
      side: in pixels, also of features (bands, frames, 1). Parts outside the image are lost.
      filler: by channel, in the unit of the stored images.
    """

    def augment(images: np.ndarray, random: np.random.Generator) -> np.ndarray:
        count, height, width = images.shape[:3]
        inside = []
        for size in (height, width):
            begin = random.integers(0, size, (count, 1)) - side // 2
            place = np.arange(size)
            inside.append((place >= begin) & (place < begin + side))
        blank = inside[0][:, :, None, None] & inside[1][:, None, :, None]
        return np.where(blank, filler.astype(images.dtype), images)

    return augment


def then(first: Augmentation, second: Augmentation) -> Augmentation:
    """One augmentation after another."""

    def augment(inputs: np.ndarray, random: np.random.Generator) -> np.ndarray:
        return second(first(inputs, random), random)

    return augment


def mixup(
    batches: Iterator[Batch], alpha: float, *, seed: int, first_step: int = 0
) -> Iterator[Batch]:
    """(inputs, labels) to (mixed inputs, targets); what is mixed depends on seed and step only.

    Args:
      alpha: of the Beta(alpha, alpha) distribution of the shares; near 0 it mixes little.
    """
    for step, (inputs, labels) in enumerate(batches, first_step):
        random = np.random.default_rng((seed, step, MIXUP))
        order = random.permutation(len(labels))
        share = random.beta(alpha, alpha, len(labels)).astype(np.float32)
        wide = share.reshape(-1, *[1] * (inputs.ndim - 1))
        rows = targets.rows(labels)
        rows[:, 1], rows[:, 2] = labels[order], share
        yield inputs + wide * (inputs[order] - inputs), rows
