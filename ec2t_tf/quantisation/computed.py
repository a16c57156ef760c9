"""Kernels and other values that are computed from weights alone, the same for every input.

A file has only what comes out. What trains is what they are computed from.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from ec2t_tf.quantisation.registered import registered
from ec2t_tf.quantisation.values import Weight

Tensor = Any


@registered
class Computed(keras.layers.Layer):
    """A value that a model computes from its weights, with no input.

    Args:
      model: takes anything of shape (1,), which only leads to its weights.
      options: those of `keras.layers.Layer`.

    Call arguments:
      like: as for `Weight`.
    """

    def __init__(self, model: Any, **options: Any) -> None:
        super().__init__(**{**options, "dtype": "float32"})
        is_saved = isinstance(model, dict)
        self.model = keras.saving.deserialize_keras_object(model) if is_saved else model
        self.shape = tuple(int(n) for n in self.model.output.shape)
        self.built = True

    @property
    def value(self) -> Tensor:
        """float32, as the weights are now."""
        return self.model(ops.zeros((1,)))

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        return np.asarray(ops.convert_to_numpy(self.value), dtype)

    @property
    def regularizer(self) -> Any:
        """Of its weights; one that is set is called once, in the place of all that they have."""
        return next((v.regularizer for v in self.trainable_variables if v.regularizer), None)

    @regularizer.setter
    def regularizer(self, regularizer: Any) -> None:
        for variable in self.trainable_variables:
            variable.regularizer, regularizer = regularizer, None

    def without_regularizers(self) -> None:
        for layer in self.model.layers:
            if isinstance(layer, Weight):
                layer.regularizer = layer.value.regularizer = None

    def call(self, like: Tensor) -> Tensor:
        return self.value

    def compute_output_spec(self, like: Any) -> keras.KerasTensor:
        return keras.KerasTensor(self.shape, dtype="float32")

    def get_config(self) -> dict:
        saved = keras.saving.serialize_keras_object(self.model)
        return {**super().get_config(), "model": saved}


class OfComputed:
    """A layer of Keras whose kernel is computed; in front of Keras' class.

    Args:
      kernel: what computes it, of the shape that Keras' class makes a variable of.
      settings: those of Keras' class.
    """

    _given: Any = None

    def __init__(self, *settings: Any, kernel: Any, **options: Any) -> None:
        super().__init__(*settings, **options)
        is_saved = isinstance(kernel, dict)
        self.computed = keras.saving.deserialize_keras_object(kernel) if is_saved else kernel

    def add_weight(self, *args: Any, name: str | None = None, **options: Any) -> Any:
        make: Callable[..., Any] = super().add_weight  # type: ignore[misc]
        return self.computed if name == "kernel" else make(*args, name=name, **options)

    @property
    def kernel(self) -> Tensor:
        """What the layer computes with."""
        found = self.computed.value if self._given is None else self._given
        return ops.cast(found, self.compute_dtype)  # type: ignore[attr-defined]

    @kernel.setter
    def kernel(self, value: Any) -> None:
        """Keras' `build` sets what `add_weight` gives it."""

    @contextlib.contextmanager
    def computing_with(self, kernel: Tensor) -> Iterator[None]:
        """Inside, another kernel takes its place."""
        self._given = kernel
        try:
            yield
        finally:
            self._given = None

    def plain(self, name: str) -> keras.layers.Layer:
        """Keras' layer of these settings, with the kernel as a weight."""
        kind: Any = next(x for x in type(self).__mro__ if x.__module__.startswith("keras."))
        config = self.get_config()
        del config["kernel"]
        return kind.from_config({**config, "name": name})

    def get_own_weights(self) -> list[np.ndarray]:
        """Its bias, if it has one."""
        bias = getattr(self, "bias", None)
        return [] if bias is None else [ops.convert_to_numpy(bias)]

    def save_own_variables(self, store: Any) -> None:
        keras.layers.Layer.save_own_variables(self, store)

    def load_own_variables(self, store: Any) -> None:
        keras.layers.Layer.load_own_variables(self, store)

    def get_config(self) -> dict:
        saved = keras.saving.serialize_keras_object(self.computed)
        return {**super().get_config(), "kernel": saved}  # type: ignore[misc]


@registered
class Dense(OfComputed, keras.layers.Dense):
    """Of a computed kernel."""


@registered
class EinsumDense(OfComputed, keras.layers.EinsumDense):
    """Of a computed kernel."""


@registered
class Conv1D(OfComputed, keras.layers.Conv1D):
    """Of a computed kernel."""


@registered
class Conv2D(OfComputed, keras.layers.Conv2D):
    """Of a computed kernel."""


@registered
class Conv1DTranspose(OfComputed, keras.layers.Conv1DTranspose):
    """Of a computed kernel."""


@registered
class Conv2DTranspose(OfComputed, keras.layers.Conv2DTranspose):
    """Of a computed kernel."""


@registered
class DepthwiseConv1D(OfComputed, keras.layers.DepthwiseConv1D):
    """Of a computed kernel."""


@registered
class DepthwiseConv2D(OfComputed, keras.layers.DepthwiseConv2D):
    """Of a computed kernel."""


KINDS = {
    kind.__name__: kind
    for kind in (
        *(Dense, EinsumDense, Conv1D, Conv2D, Conv1DTranspose, Conv2DTranspose),
        *(DepthwiseConv1D, DepthwiseConv2D),
    )
}
