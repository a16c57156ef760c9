"""What training compares with where a label is not all: labels mixed, a teacher's word.

They travel beside the label in one float32 array, a row an example, so that any Keras model learns
from them on any backend without a training step of its own:

    label | the label mixed in | its share | the teacher's share | the teacher's logits, if any
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import ops

Tensor = Any
COLUMNS = 4  # before the logits


def rows(labels: np.ndarray) -> np.ndarray:
    """(count,) labels as targets (count, 4) with nothing mixed in; targets as they are."""
    if labels.ndim == 2:
        return labels
    label = labels.astype(np.float32)
    none = np.zeros_like(label)
    return np.stack([label, label, none, none], axis=1)


def loss(targets: Tensor, logits: Tensor, *, temperature: float = 1.0) -> Tensor:
    """Loss of each example (Hinton, Vinyals, Dean 2015), where S is the teacher's share,

        S T^2 KL(softmax(teacher / T) || softmax(student / T)) + (1 - S) cross entropy;

    plain cross entropy where `targets` are labels only (validation). Cross entropies with both
    labels are mixed by their shares (Zhang et al. 2018).
    """
    if _are_labels(targets):
        return _cross_entropy(ops.reshape(targets, (-1,)), logits)
    label, other, mixed, taught = (targets[:, i] for i in range(COLUMNS))
    hard = (1.0 - mixed) * _cross_entropy(label, logits) + mixed * _cross_entropy(other, logits)
    if targets.shape[-1] == COLUMNS:
        return hard
    soft = keras.losses.kl_divergence(
        ops.softmax(targets[:, COLUMNS:] / temperature), ops.softmax(logits / temperature)
    )
    return taught * temperature**2 * soft + (1.0 - taught) * hard


def accuracy(targets: Tensor, logits: Tensor) -> Tensor:
    """Whether each example is classified as its (greater) label says, teacher or not."""
    if _are_labels(targets):
        label = ops.reshape(targets, (-1,))
    else:
        label = ops.where(targets[:, 2] > 0.5, targets[:, 1], targets[:, 0])
    return keras.metrics.sparse_categorical_accuracy(ops.cast(label, "int32"), logits)


def _are_labels(targets: Tensor) -> bool:
    return len(targets.shape) == 1 or targets.shape[-1] == 1


def _cross_entropy(labels: Tensor, logits: Tensor) -> Tensor:
    labels = ops.cast(labels, "int32")
    return keras.losses.sparse_categorical_crossentropy(labels, logits, from_logits=True)
