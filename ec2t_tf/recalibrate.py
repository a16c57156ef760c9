"""`recalibrate`: moving averages of batch normalisations from a few batches, as they are now."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
from keras.backend import backend
from keras.ops import convert_to_numpy

from ec2t_tf import doors


def recalibrate(model: Any, data: Iterable[Any], *, batches: int = 32) -> int:
    """Set the averages of all batch normalisations to the means over these batches.

    In training they lag behind the weights, the more so the larger their momentum. Nothing else
    changes: neither weights nor activation ranges. Normalisations that are frozen stay.

    Args:
      model: of Keras 3 or tf_keras, made by `apply` or float.
      data: an array of inputs (cut into batches of 128), or anything that gives batches: a
        `tf.data.Dataset`, a `PyDataset`, a `DataLoader`, a list. Of a batch (inputs, labels, ...)
        the inputs are taken.
      batches: how many are used at most.

    Returns:
      The number of batches used.

    Raises:
      ValueError: there is no batch.
      TypeError: not a model.
    """
    if doors.is_keras_3(model):
        import keras
    elif doors.is_tf_keras(model):
        import tf_keras as keras
    else:
        raise TypeError(
            "recalibrate requires a model of Keras 3 or tf_keras. "
            f"Received: {type(model).__name__}."
        )
    normalisations = [
        layer
        for layer in model._flatten_layers()
        if isinstance(layer, keras.layers.BatchNormalization)
        and layer.trainable
        and not getattr(layer, "frozen", False)
    ]
    averages = {id(v): v for n in normalisations for v in (n.moving_mean, n.moving_variance)}
    others = [v for v in model.variables if id(v) not in averages]
    kept = [convert_to_numpy(v) for v in others]
    momenta = [n.momentum for n in normalisations]
    sums = [np.zeros(v.shape) for v in averages.values()]
    count = 0
    run = _training_pass(model)
    try:
        for layer in normalisations:
            layer.momentum = 0.0  # the averages are those of the batch
        for inputs in _inputs_of(data):
            if count == batches:
                break
            run(inputs)
            for total, variable in zip(sums, averages.values(), strict=True):
                total += convert_to_numpy(variable)
            for variable, value in zip(others, kept, strict=True):
                variable.assign(value)
            count += 1
    finally:
        for layer, momentum in zip(normalisations, momenta, strict=True):
            layer.momentum = momentum
    if not count:
        raise ValueError("recalibrate requires at least one batch. Received: data without any.")
    for total, variable in zip(sums, averages.values(), strict=True):
        variable.assign(total / count)
    return count


def _training_pass(model: Any) -> Callable[[Any], Any]:
    """Calls the model as in training; compiled, for single operations are slow."""
    if not doors.is_keras_3(model) or backend() == "tensorflow":
        return _in_tensorflow(model)
    if backend() != "jax":
        return lambda inputs: model(inputs, training=True)
    import jax

    state = model.non_trainable_variables

    @jax.jit
    def compiled(trainable: Any, before: Any, inputs: Any) -> Any:
        return model.stateless_call(trainable, before, inputs, training=True)[1]

    def run(inputs: Any) -> None:
        trainable = [variable.value for variable in model.trainable_variables]
        after = compiled(trainable, [variable.value for variable in state], inputs)
        for variable, value in zip(state, after, strict=True):
            variable.assign(value)

    return run


def _in_tensorflow(model: Any) -> Callable[[Any], Any]:
    import tensorflow as tf

    def run(inputs: Any) -> None:
        model(inputs, training=True)

    return run if getattr(model, "run_eagerly", False) else tf.function(run, reduce_retracing=True)


def _inputs_of(data: Any) -> Iterable[Any]:
    if isinstance(data, np.ndarray):
        yield from (data[at : at + 128] for at in range(0, len(data), 128))
        return
    if isinstance(data, dict):
        length = len(next(iter(data.values())))
        for at in range(0, length, 128):
            yield {name: values[at : at + 128] for name, values in data.items()}
        return
    batches = (data[i] for i in range(len(data))) if hasattr(data, "__getitem__") else data
    for batch in batches:
        yield batch[0] if isinstance(batch, tuple | list) else batch
