"""Anomaly detection: one class is left out of training, and is to be told from the others.

The net learns to reproduce what is usual; how badly it reproduces an example says how unusual that
one is. The figure is the area under the ROC curve (AUC), for which no threshold is chosen: the
chance that an unusual example has a greater error than a usual one; 0.5 is guessing.
"""

from __future__ import annotations

import dataclasses
import math
from typing import ClassVar

import numpy as np

from ec2t_tf.train.tasks.base import DataError, Split, TaskData

LABELS = ("usual", "unusual")


@dataclasses.dataclass(frozen=True)
class Anomaly(TaskData):
    """`train` and `validation` hold usual examples only; labels of `test` are 1 where unusual."""

    classifies: ClassVar[bool] = False
    figure_name: ClassVar[str] = "AUC"

    @property
    def outputs(self) -> int:
        return math.prod(self.input_shape)

    def expected(self, inputs: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """The inputs themselves, flat: float32 (count, outputs)."""
        return inputs.reshape(len(inputs), -1)

    def figure(self, outputs: np.ndarray, split: Split) -> float:
        """AUC of the mean squared error of each example."""
        from sklearn.metrics import roc_auc_score

        inputs = self.normalise(split.inputs).reshape(len(split), -1)
        error = ((outputs - inputs) ** 2).mean(axis=1, dtype=np.float64)
        return float(roc_auc_score(split.labels, error))


def without(data: TaskData, left_out: str) -> Anomaly:
    """The anomaly detection task of a data set.

    Args:
      left_out: the class of which training sees nothing: its number, or its name.

    Raises:
      DataError: there is no such class, or no test example of it, or none of the others.
    """
    names = [*data.labels] or [str(number) for number in range(data.classes)]
    numbers = [str(number) for number in range(data.classes)]
    if left_out not in (*names, *numbers):
        raise DataError(
            f"--leave_out must be a class of '{data.name}', {', '.join(names)}, or its number. "
            f"Received: --leave_out={left_out}."
        )
    number = names.index(left_out) if left_out in names else numbers.index(left_out)
    usual = data.train.labels != number
    train = data.train[usual]
    validation = data.validation[data.validation.labels != number]
    unusual = (data.test.labels == number).astype(np.int64)
    if not (len(train) and len(validation) and 0 < unusual.sum() < len(unusual)):
        raise DataError(
            "Examples of the class left out to test, and of others to train, validate and test, "
            f"are required. Received: --leave_out={left_out} of '{data.name}', "
            f"{len(train)} and {len(validation)} others to train and validate, {unusual.sum()} of "
            f"{len(unusual)} to test."
        )
    # The statistics of the set know the class that is to be unknown.
    values = train.inputs[: 1 << 14].astype(np.float64) / data.full_scale
    axes = tuple(range(values.ndim - 1))
    return Anomaly(
        f"{data.name} without {names[number]}",
        train,
        validation,
        Split(data.test.inputs, unusual),
        len(LABELS),
        values.mean(axis=axes).astype(np.float32),
        np.maximum(values.std(axis=axes), 1e-3).astype(np.float32),
        data.full_scale,
        data.augment,
        tuple(variant[usual] for variant in data.variants),
        LABELS,
    )
