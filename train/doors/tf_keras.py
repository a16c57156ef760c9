"""Training in tf_keras with tfmot: `--door=tfmot`, and on several devices `--distribute`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import tensorflow as tf
import tf_keras

from ec2t_tf import tfmot
from ec2t_tf.train import distribute, targets
from ec2t_tf.train.doors.keras_3 import Keras3

if TYPE_CHECKING:
    import keras

    from ec2t_tf.train.distillation import Distillation
    from ec2t_tf.train.tasks.base import Batch, Evaluation


class TfKeras(Keras3):
    """tf_keras as the script uses it.

    Args:
      name: of a strategy, see `distribute.strategy`.
    """

    keras: Any = tf_keras

    def __init__(self, name: str | None = None) -> None:
        self._strategy = distribute.strategy(name)
        self._devices = self._strategy.extended.worker_devices if name else ()

    def describe(self) -> str:
        text = f"tf_keras {tf_keras.__version__} with tfmot"
        if self._devices:
            text += f"\n{len(self._devices)} devices: {', '.join(self._devices)}"
        return text

    def scope(self) -> contextlib.AbstractContextManager:
        return self._strategy.scope()

    def own(self, net: keras.Model) -> Any:
        return tfmot.to_tf_keras(net)

    def training(
        self,
        batches: Iterator[Batch],
        teacher: Distillation | None = None,
        *,
        first_step: int = 0,
    ) -> Any:
        if teacher is not None:
            if teacher.last_share is not None:
                raise ValueError("--distill_end needs --door=keras. Received: --door=tfmot.")
            batches = ((images, targets.rows(labels)) for images, labels in batches)
        first = next(batches)

        def all_batches() -> Iterator[Batch]:
            yield first
            yield from batches

        data = _dataset(all_batches, first)
        return data if teacher is None else data.map(teacher.targets).prefetch(2)

    def evaluation(self, batches: Evaluation) -> Any:
        return _dataset(lambda: iter(batches), batches[0])

    def compile(
        self, model: Any, optimiser: Any, loss: Any, accuracy: Any, *, jit_compile: bool
    ) -> None:
        model.compile(
            optimiser, loss, metrics=[accuracy] if accuracy else [], jit_compile=jit_compile
        )


def _dataset(make: Any, first: Batch) -> tf.data.Dataset:
    signature = tuple(tf.TensorSpec((None, *x.shape[1:]), x.dtype) for x in first)
    return tf.data.Dataset.from_generator(make, output_signature=signature).prefetch(4)
