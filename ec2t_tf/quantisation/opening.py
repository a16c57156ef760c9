"""What stands for a layer of either Keras that is several operators of an int8 file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from ec2t_tf.layer_config import give_weights
from ec2t_tf.quantisation import masks

Tensor = Any
Unique = Callable[[str], str]


class Library(NamedTuple):
    """What layers are made with.

    Attributes:
      layers: those of Keras 3, or of tf_keras.
      ops: functions by the names and with the arguments of `keras.ops`.
      copy: a layer of another name with the same settings.
    """

    layers: Any
    ops: Any
    copy: Callable[[Any, str], Any]


def _copy(layer: Any, name: str) -> Any:
    from ec2t_tf.quantisation.split import copy_layer  # which opens layers by this module

    return copy_layer(layer, name)


KERAS_3 = Library(keras.layers, ops, _copy)


class Opened:
    """Stands for a layer: called as it is, it calls the layers that it is made of.

    Args:
      layer: the layer.
      name: of it in the new model.
      unique: makes a name that no other layer has.
      library: that the layer is of.

    Attributes:
      parts: the layers it is made of.
    """

    def __init__(self, layer: Any, name: str, unique: Unique, library: Library = KERAS_3) -> None:
        self.layer, self.name, self.unique = layer, name, unique
        self.layers, self.ops, self.copy = library
        self.parts: list[Any] = []
        self.make()

    def part(self, layer: Any) -> Any:
        if not self.layer.trainable:
            layer.trainable = False
        self.parts.append(layer)
        return layer

    def weighed(self, scores: Tensor, allowed: np.ndarray | None = None) -> Tensor:
        """softmax(scores), of those that are allowed, with the dropout of the layer."""
        if allowed is None:
            return self.dropout(self.softmax(scores))
        masked = masks.Masked(allowed, name=self.unique(f"{self.name}_masked"))
        return self.dropout(self.softmax(masked(scores)))

    def attended(self, scores: Tensor, value: Tensor, allowed: np.ndarray | None = None) -> Tensor:
        """softmax(scores) value."""
        return self.ops.einsum("abc,acd->abd", self.weighed(scores, allowed), value)

    def make_weighing(self, dropout: float) -> None:
        shared = {"dtype": self.layer.dtype_policy}
        self.softmax = self.layers.Softmax(name=self.unique(f"{self.name}_softmax"), **shared)
        self.dropout = self.layers.Dropout(
            dropout, name=self.unique(f"{self.name}_dropout"), **shared
        )

    def make(self) -> None:
        raise NotImplementedError

    def __call__(self, *args: Any, **options: Any) -> Tensor:
        raise NotImplementedError

    @staticmethod
    def wanted(layer: Any, args: tuple, options: dict) -> bool:
        """Whether a layer that is called so is more than one operator."""
        return True

    @staticmethod
    def missing(layer: Any, args: tuple, options: dict) -> list[str]:
        """What of a layer, called so, has no operators."""
        return []

    def take_weights(self, weights: list[np.ndarray]) -> None:
        """The weights of the layer, in its order."""
        for part in self.parts:
            count = len(part.weights)
            give_weights(part, weights[:count])
            weights = weights[count:]


def values_of(args: tuple, options: dict) -> Any:
    """What a layer is called with, by place or by name."""
    return args[0] if args else options["inputs"]


def is_value(x: Any) -> bool:
    return hasattr(x, "shape") and hasattr(x, "dtype")
