"""Training in Keras 3, on whichever backend it has."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import keras

if TYPE_CHECKING:
    from ec2t_tf.train.distillation import Distillation
    from ec2t_tf.train.tasks.base import Batch, Evaluation


class Keras3:
    """Keras 3 as the script uses it.

    Attributes:
      keras: the library: `keras.optimizers`, `keras.losses`, `keras.metrics`.
    """

    keras: Any = keras

    def describe(self) -> str:
        """Where it computes, for the first line of a run."""
        return f"Keras {keras.__version__} on {keras.backend.backend()}"

    def scope(self) -> contextlib.AbstractContextManager:
        """In which models are built and trained."""
        return contextlib.nullcontext()

    def own(self, net: keras.Model) -> Any:
        """A net of the zoo as a model of this library."""
        return net

    def training(
        self,
        batches: Iterator[Batch],
        teacher: Distillation | None = None,
        *,
        first_step: int = 0,
    ) -> Any:
        """What `fit` takes; with a teacher its word beside the labels."""
        return batches if teacher is None else teacher.attach(batches, first_step=first_step)

    def evaluation(self, batches: Evaluation) -> Any:
        """What `evaluate` takes, and `fit` for validation."""
        return _Dataset(batches)

    def compile(
        self, model: Any, optimiser: Any, loss: Any, accuracy: Any, *, jit_compile: bool
    ) -> None:
        """`model.compile`; XLA on request, but always with JAX, which is nothing without."""
        jit = jit_compile or keras.backend.backend() == "jax"
        model.compile(optimiser, loss, metrics=[accuracy] if accuracy else [], jit_compile=jit)


class _Dataset(keras.utils.PyDataset):
    """Batches of a split, by number."""

    def __init__(self, batches: Evaluation) -> None:
        super().__init__()
        self._batches = batches

    def __len__(self) -> int:
        return len(self._batches)

    def __getitem__(self, index: int) -> Batch:
        return self._batches[index]
