"""Values of a net that are not computed from its inputs, and what only training computes."""

from __future__ import annotations

import inspect
from typing import Any

import keras
import numpy as np
from keras import ops

from ec2t_tf.quantisation.registered import registered

Tensor = Any


@registered
class Weight(keras.layers.Layer):
    """A weight that a layer of the user's has itself, as a value of the net.

    Args:
      shape: of the weight.
      regularizer, constraint: of the weight.

    Call arguments:
      like: any value of the net, so that a graph leads here; it is not read.
    """

    def __init__(
        self,
        shape: Any,
        regularizer: Any = None,
        constraint: Any = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        self.shape = tuple(int(n) for n in shape)
        self.regularizer = keras.regularizers.get(regularizer)
        self.constraint = keras.constraints.get(constraint)
        self.value = self.add_weight(
            self.shape, "zeros", name="value", trainable=self.trainable, **self._shared()
        )

    def _shared(self) -> dict[str, Any]:
        return {"regularizer": self.regularizer, "constraint": self.constraint}

    @classmethod
    def of(cls, variable: Any, name: str) -> Weight:
        """With the values of a variable of the user's."""
        made = cls(
            variable.shape,
            variable.regularizer,
            variable.constraint,
            name=name,
            trainable=bool(variable.trainable),
        )
        made.set_weights([ops.convert_to_numpy(variable)])
        return made

    def call(self, like: Tensor) -> Tensor:
        return ops.convert_to_tensor(self.value)

    def compute_output_spec(self, like: Any) -> keras.KerasTensor:
        return keras.KerasTensor(self.shape, dtype=self.compute_dtype)

    def get_config(self) -> dict:
        return {
            **super().get_config(),
            "shape": self.shape,
            "regularizer": keras.regularizers.serialize(self.regularizer),
            "constraint": keras.constraints.serialize(self.constraint),
        }


@registered
class Constant(keras.layers.Layer):
    """Numbers as a value of the net: the places that an Embedding is asked for, say.

    Args:
      values: an array, or nested lists.
      kind: dtype of the value.

    Call arguments:
      like: as for `Weight`.
    """

    def __init__(self, values: Any, kind: str, **options: Any) -> None:
        super().__init__(**options)
        self.kind = kind
        self.values = np.asarray(values, kind)

    def call(self, like: Tensor) -> Tensor:
        return ops.convert_to_tensor(self.values)

    def compute_output_spec(self, like: Any) -> keras.KerasTensor:
        return keras.KerasTensor(self.values.shape, dtype=self.kind)

    def get_config(self) -> dict:
        return {**super().get_config(), "values": self.values.tolist(), "kind": self.kind}


@registered
class ForEach(keras.layers.Layer):
    """A value that is the same for every example, once for each.

    Call arguments:
      x: [1, ...], or without the first axis.
      like: a value of the net with the batch as its first axis.
    """

    def call(self, x: Tensor, like: Tensor) -> Tensor:
        return ops.broadcast_to(x, (ops.shape(like)[0], *self._rest(x, like)))

    @staticmethod
    def _rest(x: Any, like: Any) -> tuple[int, ...]:
        return tuple(x.shape[1:])

    def compute_output_spec(self, x: Any, like: Any) -> keras.KerasTensor:
        return keras.KerasTensor((like.shape[0], *self._rest(x, like)), dtype=x.dtype)


class _Holds(keras.layers.Layer):
    """Has a layer inside.

    Args:
      layer: the layer.
    """

    def __init__(self, layer: Any, **options: Any) -> None:
        super().__init__(**options)
        self.layer = layer

    def build(self, shape: Any) -> None:
        if not self.layer.built:
            self.layer.build(shape)

    def get_config(self) -> dict:
        inner = keras.saving.serialize_keras_object(self.layer)
        return {**super().get_config(), "layer": inner}

    @classmethod
    def from_config(cls, config: dict, custom_objects: Any = None) -> Any:
        inner = config.pop("layer")
        if isinstance(inner, dict):
            inner = keras.saving.deserialize_keras_object(inner, custom_objects)
        return cls(inner, **config)


@registered
class CellState(_Holds):
    """What an LSTM carries from step to step beside its output: no operator of a file gives it."""

    def call(self, x: Tensor) -> Tensor:
        return self.layer(x)[2]

    def compute_output_spec(self, x: Any) -> keras.KerasTensor:
        return keras.KerasTensor((x.shape[0], self.layer.units), dtype=self.compute_dtype)


@registered
class InTraining(_Holds):
    """A layer of the user's that hands its input on at inference: stochastic depth, a penalty."""

    def __init__(self, layer: Any, **options: Any) -> None:
        super().__init__(layer, **options)
        self.supports_masking = True

    def call(self, x: Tensor, training: bool | None = None) -> Tensor:
        if "training" not in inspect.signature(self.layer.call).parameters:
            return self.layer(x)  # for the loss that it adds
        return self.layer(x, training=True) if training else x

    def compute_output_spec(self, x: Any, training: bool | None = None) -> keras.KerasTensor:
        return keras.KerasTensor(x.shape, dtype=x.dtype)
