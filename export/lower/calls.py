"""The calls of a model as the rules see them."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Any

import keras

from ec2t_tf.quantisation import graph
from ec2t_tf.quantisation.kinds import class_name as kind_of

__all__ = ["Call", "calls_of", "kind_of", "shape_of"]


@dataclasses.dataclass(frozen=True)
class Call:
    """One call of a layer, or of an operation of `keras.ops`.

    Attributes:
      key: the name of the layer, with a number from its second call on: "conv", "conv:1".
      name: of the layer.
      operation: the layer or operation itself.
      given: what it is called with, nested structures opened: `graph.Value`s and all else.
      arguments, options: the same, as they are.
      results: the values that it makes.
      shapes, dtypes: of these, for a batch of one.
    """

    key: str
    name: str
    operation: Any
    arguments: tuple[Any, ...]
    options: dict[str, Any]
    results: tuple[graph.Value, ...]

    @property
    def kind(self) -> str:
        return kind_of(self.operation)

    @property
    def given(self) -> list[Any]:
        return keras.tree.flatten((self.arguments, self.options))

    @property
    def shape(self) -> tuple[int, ...]:
        return self.shapes[0]

    @property
    def shapes(self) -> tuple[tuple[int, ...], ...]:
        return tuple(shape_of(value) for value in self.results)

    @property
    def dtypes(self) -> tuple[str, ...]:
        return tuple(value.dtype for value in self.results)


def calls_of(network: graph.Graph) -> list[Call]:
    """The calls of a graph, with names of their own."""
    times: Counter[str] = Counter()
    calls = []
    for call in network.at_inference():
        number = times[call.name]
        times[call.name] += 1
        key = f"{call.name}:{number}" if number else call.name
        calls.append(
            Call(key, call.name, call.operation, call.args, call.kwargs, tuple(call.results))
        )
    return calls


def shape_of(value: graph.Value) -> tuple[int, ...]:
    """The shape for a batch of one.

    Raises:
      ValueError: another size is not fixed.
    """
    if None in value.shape[1:]:
        raise ValueError(
            f"A file needs values of fixed sizes. Received: one of shape {value.shape}. Give the "
            "model inputs of fixed sizes."
        )
    return tuple(1 if size is None else int(size) for size in value.shape)
