"""All variables of a training step made before TensorFlow traces it.

TensorFlow traces a step that makes variables a second time and keeps both graphs: twice the time to
the first step, and for ResNet-8 55 MiB (`python -m tests.bench.keras_3_step`). The other backends
make them first by themselves.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import keras
from keras import ops


def make_optimizers(model: keras.Model) -> None:
    """Those of the optimiser; nothing happens where it has them or there is none."""
    if model.optimizer is not None and not model.optimizer.built:
        model.optimizer.build(model.trainable_variables)


def with_metrics(model: keras.Model, step: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """`step`, a training function of Keras on TensorFlow, with those of the metrics made before.

    They depend on the shapes and dtypes of a batch, which the iterators of `fit` know. Those of
    `train_on_batch` do not: there Keras makes the variables, while TensorFlow traces.
    """
    made = False

    def first(iterator: Any) -> Any:
        nonlocal made
        if not made and hasattr(iterator, "element_spec"):
            _make_metrics(model, iterator.element_spec)
        made = True
        return step(iterator)

    return first


def _make_metrics(model: keras.Model, specs: Any) -> None:
    parts = (getattr(model, name, None) for name in ("_compile_metrics", "_compile_loss"))
    if all(part is None or part.built for part in parts):
        return
    data = keras.tree.map_structure(_one_like, specs)
    x, y, weights = keras.utils.unpack_x_y_sample_weight(data)
    outputs = keras.tree.map_structure(_one_like, model.output)
    # What fails on zeros is made by Keras itself, as for any other model. Nothing is counted: what
    # a metric or loss writes in a stateless scope is lost with it.
    with contextlib.suppress(Exception), keras.StatelessScope():
        model.compute_metrics(x, y, outputs, sample_weight=weights)
        model.compute_loss(x=x, y=y, y_pred=outputs, sample_weight=weights)


def _one_like(spec: Any) -> Any:
    """A batch of one, of zeros; None for what a batch may lack."""
    if not hasattr(spec, "dtype"):
        return None
    sizes = list(spec.shape)
    return ops.zeros([1, *(size or 1 for size in sizes[1:])] if sizes else [], spec.dtype)
