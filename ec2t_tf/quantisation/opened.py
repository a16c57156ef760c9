"""Layers of either Keras that are several operators of an int8 file, as these.

| layer                      | instead                                                          |
|----------------------------|------------------------------------------------------------------|
| MultiHeadAttention         | four EinsumDense, two `ops.einsum`, a Softmax                    |
| GroupQueryAttention        | the same, and an `ops.repeat` of keys and of values              |
| Attention                  | two `ops.einsum`, a Softmax, a DepthwiseConv1D for its scale     |
| AdditiveAttention          | an Add, a tanh, a DepthwiseConv1D, a sum, a Softmax, an einsum   |
| Softmax with a mask        | scores of which some are left out, that Softmax                  |
| Dot                        | an `ops.einsum`, two UnitNormalization if it normalises          |
| Bidirectional              | its two layers, `ops.flip` and the layer that merges             |
| RNN                        | an LSTM, GRU or SimpleRNN for each of its cells                  |
| TimeDistributed            | its layer, on the steps as a batch                               |
| LSTM, GRU, SimpleRNN with  | that layer, and its last step                                    |
| its state                  |                                                                  |
| AdaptiveAveragePooling,    | a pooling with strides, where all windows are of one size        |
| AdaptiveMaxPooling         |                                                                  |
| Add, Multiply of more than | layers of two values each                                        |
| two values                 |                                                                  |
| Lambda and layers of the   | what they consist of, see `traced`                               |
| user's                     |                                                                  |
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np

from ec2t_tf.layer_config import config_of
from ec2t_tf.quantisation.attention import Attention, Bahdanau, Grouped, Luong, MaskedSoftmax
from ec2t_tf.quantisation.kinds import RECURRENT, class_name, has_rule, kind_of
from ec2t_tf.quantisation.opening import Opened, Tensor, values_of
from ec2t_tf.quantisation.recurrent import RETURNS_STATE
from ec2t_tf.quantisation.stepped import loop_of
from ec2t_tf.quantisation.values import CellState


class Product(Opened):
    """A Dot."""

    def make(self) -> None:
        self.axes = self._axes(self.layer)
        self.unit = [
            self.layers.UnitNormalization(
                axis, name=self.unique(f"{self.name}_unit_{i}"), dtype=self.layer.dtype_policy
            )
            for i, axis in enumerate(self.axes if self.layer.normalize else ())
        ]

    @staticmethod
    def _axes(layer: Any) -> tuple[int, ...]:
        return (layer.axes,) * 2 if isinstance(layer.axes, int) else tuple(layer.axes)

    def __call__(self, inputs: list[Tensor], *_: Any, **__: Any) -> Tensor:
        values = inputs
        if self.unit:
            values = [unit(x) for unit, x in zip(self.unit, inputs, strict=True)]
        matrices, entries, kept = [], [], []
        for x, axis, rest in zip(values, self.axes, "bc", strict=True):
            if len(x.shape) == 2:
                matrix, inner = self.ops.expand_dims(x, 1), 2
            else:
                matrix, inner = x, axis % 3
                kept.append(x.shape[3 - inner])
            matrices.append(matrix)
            entries.append(f"ad{rest}" if inner == 1 else f"a{rest}d")
        made = self.ops.einsum(f"{entries[0]},{entries[1]}->abc", *matrices)
        return made if len(kept) == 2 else self.ops.reshape(made, (-1, *(kept or [1])))

    @staticmethod
    def missing(layer: Any, args: tuple, options: dict) -> list[str]:
        ranks = [len(x.shape) for x in values_of(args, options)]
        if any(rank not in (2, 3) for rank in ranks):
            return ["inputs of more than three axes"]
        axes = zip(Product._axes(layer), ranks, strict=True)
        return ["the batch as an axis"] if any(not axis % rank for axis, rank in axes) else []


class BothWays(Opened):
    """A Bidirectional."""

    def make(self) -> None:
        for half in ("forward", "backward"):
            given = getattr(self.layer, f"{half}_layer")
            self.part(self.copy(given, self.unique(f"{self.name}_{half}")))
        merges: dict[str, Any] = {
            "concat": self.layers.Concatenate,
            "sum": self.layers.Add,
            "mul": self.layers.Multiply,
            "ave": self.layers.Average,
        }
        self.merge = merges[self.layer.merge_mode](name=self.name)

    def __call__(self, x: Tensor, **_: Any) -> Tensor:
        there, back = (part(x) for part in self.parts)
        if self.layer.forward_layer.return_sequences:
            back = self.ops.flip(back, axis=1)
        return self.merge([there, back])

    @staticmethod
    def missing(layer: Any, args: tuple, options: dict) -> list[str]:
        lacks = ["merge_mode=None"] if layer.merge_mode is None else []
        lacks += ["return_state=True"] if layer.return_state else []
        begun = any(x is not None for x in (*args[1:2], options.get("initial_state")))
        return lacks + (["an initial state"] if begun else [])


class EveryStep(Opened):
    """A TimeDistributed: the steps are a batch."""

    def make(self) -> None:
        self.inner = self.part(self.copy(self.layer.layer, self.name))
        if self.inner.activity_regularizer is not None:
            self.inner.activity_regularizer = None  # Keras does not count it inside either

    def __call__(self, x: Tensor, **options: Any) -> Tensor:
        if isinstance(self.inner, self.layers.Dense):
            return self.inner(x)
        steps = x.shape[1]
        made = self.inner(self.ops.reshape(x, (-1, *x.shape[2:])))
        return self.ops.reshape(made, (-1, steps, *made.shape[1:]))


class Cells(Opened):
    """An RNN of one cell, or of several one above the other."""

    KINDS = ("LSTMCell", "GRUCell", "SimpleRNNCell")

    def make(self) -> None:
        cells = self._cells(self.layer)
        for number, cell in enumerate(cells):
            last = number == len(cells) - 1
            config = {
                **config_of(cell, keras.activations.linear),
                "name": self.name if last else self.unique(f"{self.name}_{number}"),
                "return_sequences": self.layer.return_sequences or not last,
                "go_backwards": self.layer.go_backwards and not number,
            }
            kind = getattr(self.layers, type(cell).__name__.removesuffix("Cell"))
            self.part(kind.from_config(config))

    @staticmethod
    def _cells(layer: Any) -> list[Any]:
        return list(getattr(layer.cell, "cells", [layer.cell]))

    def __call__(self, x: Tensor, **_: Any) -> Tensor:
        for part in self.parts:
            x = part(x)
        return x

    @staticmethod
    def missing(layer: Any, args: tuple, options: dict) -> list[str]:
        kinds = {type(cell).__name__ for cell in Cells._cells(layer)}
        found = [f"a {kind}" for kind in sorted(kinds - {*Cells.KINDS})]
        found += [f"{x}=True" for x in ("return_state", "stateful") if getattr(layer, x)]
        begun = any(x is not None for x in (*args[1:2], options.get("initial_state")))
        return found + (["an initial state"] if begun else [])


class WithState(Opened):
    """A loop that returns its state: the last step, and what an LSTM carries beside it."""

    def make(self) -> None:
        self.whole = self.part(self.copy(self.layer, self.name))
        self.whole.return_state = False
        self.carried: Any = None
        if kind_of(self.layer) == "LSTM":
            inner = self.copy(self.layer, self.unique(f"{self.name}_whole"))
            self.carried = CellState(inner, name=self.unique(f"{self.name}_cell_state"))

    def __call__(self, x: Tensor, **_: Any) -> Any:
        y = self.whole(x)
        last = y[:, -1] if self.layer.return_sequences else y
        return (y, last) if self.carried is None else (y, last, self.carried(x))

    def take_weights(self, weights: list[np.ndarray]) -> None:
        super().take_weights(weights)
        if self.carried is not None:
            self.carried.set_weights(weights)

    @staticmethod
    def missing(layer: Any, args: tuple, options: dict) -> list[str]:
        begun = any(x is not None for x in (*args[1:], options.get("initial_state")))
        found = [x for x in loop_of(layer).missing(layer) if x != RETURNS_STATE]
        if layer.return_state and layer.activity_regularizer is not None:  # of the states too
            found.append("activity_regularizer")
        return found + (["an initial state"] if begun else [])


class Chain(Opened):
    """An Add or Multiply of many."""

    def make(self) -> None:
        pass

    def __call__(self, inputs: list[Tensor], *_: Any, **__: Any) -> Tensor:
        first, *rest = inputs
        for number, value in enumerate(rest, 1):
            last = number == len(rest)
            name = self.name if last else self.unique(f"{self.name}_{number}")
            first = type(self.layer)(name=name, dtype=self.layer.dtype_policy)([first, value])
        return first


class Adaptive(Opened):
    """An adaptive pooling with windows of one size."""

    def make(self) -> None:
        pass

    def __call__(self, x: Tensor) -> Tensor:
        kind = getattr(self.layers, class_name(self.layer).removeprefix("Adaptive"))
        sizes = zip(x.shape[1:-1], self.layer.output_size, strict=True)
        return kind(tuple(a // b for a, b in sizes), name=self.name)(x)

    @staticmethod
    def missing(layer: Any, args: tuple, options: dict) -> list[str]:
        lacks = ["channels first"] if layer.data_format == "channels_first" else []
        sizes = zip(values_of(args, options).shape[1:-1], layer.output_size, strict=True)
        differ = any(a is None or a % b for a, b in sizes)
        return lacks + (["windows of several sizes"] if differ else [])


OPENED: dict[str, type[Opened]] = {
    **{f"Adaptive{kind}Pooling{n}D": Adaptive for kind in ("Average", "Max") for n in (1, 2)},
    "MultiHeadAttention": Attention,
    "GroupedQueryAttention": Grouped,
    "Attention": Luong,
    "AdditiveAttention": Bahdanau,
    "Dot": Product,
    "Softmax": MaskedSoftmax,
    "Bidirectional": BothWays,
    "TimeDistributed": EveryStep,
    "RNN": Cells,
}


def opened_as(layer: Any, args: tuple, options: dict) -> type[Opened] | None:
    """What a layer that is called so can be opened as; None where it stays as it is."""
    if type(layer) in (keras.layers.Add, keras.layers.Multiply):
        return Chain if len(values_of(args, options)) > 2 else None
    kind = _kind_of_layer(layer)
    if kind_of(layer) in RECURRENT and layer.return_state:
        kind = WithState
    if kind is None and (_is_users(layer) or class_name(layer) == "Lambda"):
        from ec2t_tf.export.lower.pending import RULES  # which reads graphs by this room
        from ec2t_tf.quantisation.traced import is_one_activation, written_in_operations

        is_function = class_name(layer) == "Lambda" and is_one_activation(layer, args, options)
        if has_rule(kind_of(layer)) and not is_function:
            return None
        if class_name(layer) != "Lambda" and class_name(layer) in RULES:
            return None  # a rule that the user registered
        return written_in_operations(layer, args, options)
    if kind is None or not kind.wanted(layer, args, options):
        return None
    return None if kind.missing(layer, args, options) else kind


def closed_by(layer: Any, args: tuple, options: dict) -> list[str]:
    """What keeps a layer of Keras from int8 operators; empty if nothing does, or it never has any.

    Of a layer that would be opened, or is recurrent.
    """
    if kind_of(layer) in RECURRENT:
        return WithState.missing(layer, args, options) or loop_of(layer).missing(layer)
    kind = _kind_of_layer(layer)
    if kind is None and isinstance(layer, keras.layers.Layer) and _is_users(layer):
        from ec2t_tf.quantisation.traced import why_not  # whose layers are opened too

        stands_for_another = type(layer).__call__.__module__.startswith("ec2t_tf.")  # tf_keras'
        why = "" if stands_for_another else why_not(layer, args, options)
        return [why] if why else []
    if kind is None or not kind.wanted(layer, args, options):
        return []
    return kind.missing(layer, args, options)


def _is_users(layer: Any) -> bool:
    return kind_of(layer) == "Lambda" or "." in class_name(layer)


def _kind_of_layer(layer: Any) -> type[Opened] | None:
    """Not of an operation that has the name of a layer: `keras.ops.dot` is no Dot."""
    is_layer = isinstance(layer, keras.layers.Layer)
    return OPENED.get(class_name(layer)) if is_layer else None
