"""Gradients on whichever backend Keras runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np


def by_variables(value: Callable[[], Any], variables: Sequence[keras.Variable]) -> list[np.ndarray]:
    """d value() / d variables; zeros where there is none. `value` may write other variables."""
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            result = value()
        found = tape.gradient(result, [v.value for v in variables])
        found = [
            f if f is not None else np.zeros(v.shape) for f, v in zip(found, variables, strict=True)
        ]
    elif backend == "torch":
        for variable in variables:
            variable.value.grad = None
        value().backward()
        found = [
            np.zeros(v.shape) if v.value.grad is None else v.value.grad.detach() for v in variables
        ]
    else:
        import jax

        def pure(values: list[Any]) -> Any:
            with keras.StatelessScope(list(zip(variables, values, strict=True))):
                return value()

        found = jax.grad(pure)([v.value for v in variables])
        value()  # once more for what it writes
    return [np.asarray(keras.ops.convert_to_numpy(one)) for one in found]
