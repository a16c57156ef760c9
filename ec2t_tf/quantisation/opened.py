"""Layers of either Keras that are several operators of an int8 file, as these.

| layer                      | instead                                                          |
|----------------------------|------------------------------------------------------------------|
| MultiHeadAttention         | four EinsumDense, two `ops.einsum`, a Softmax                    |
| Attention                  | two `ops.einsum`, a Softmax, a DepthwiseConv1D for its scale     |
| AdditiveAttention          | an Add, a tanh, a DepthwiseConv1D, a sum, a Softmax, an einsum   |
| Dot                        | an `ops.einsum`, two UnitNormalization if it normalises          |
| Bidirectional              | its two layers, `ops.flip` and the layer that merges             |
| RNN                        | an LSTM or GRU for each of its cells                             |
| TimeDistributed            | its layer, on the steps as a batch                               |
| AdaptiveAveragePooling,    | a pooling with strides, where all windows are of one size        |
| AdaptiveMaxPooling         |                                                                  |
| Add, Multiply of more than | layers of two values each                                        |
| two values                 |                                                                  |
| Lambda and layers of the   | what they consist of, see `traced`                               |
| user's                     |                                                                  |
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from ec2t_tf.quantisation.kinds import class_name, has_rule, kind_of
from ec2t_tf.quantisation.recurrent import RECURRENT

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

    def attended(self, scores: Tensor, value: Tensor) -> Tensor:
        """softmax(scores) value, with the dropout of the layer."""
        return self.ops.einsum("abc,acd->abd", self.dropout(self.softmax(scores)), value)

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
    def missing(layer: Any, args: tuple, options: dict) -> list[str]:
        """What of a layer, called so, has no operators."""
        return []

    def take_weights(self, weights: list[np.ndarray]) -> None:
        """The weights of the layer, in its order."""
        for part in self.parts:
            count = len(part.weights)
            part.set_weights(weights[:count])
            weights = weights[count:]


class Attention(Opened):
    """1 / sqrt(key_dim) goes into the matrix of the queries."""

    def make(self) -> None:
        self.config, self.shared = self.layer.get_config(), {"dtype": self.layer.dtype_policy}
        self.make_weighing(self.config["dropout"])
        self.inner: list[Any] = []

    def __call__(
        self,
        query: Tensor,
        value: Tensor,
        key: Tensor | None = None,
        *,
        return_attention_scores: bool = False,
        **_: Any,
    ) -> Any:
        shape = query.shape
        query, value, key = (x if x is None else self._as_steps(x) for x in (query, value, key))
        if not self.inner:
            self._make_matrices(query, value)
        *inner, outer = self.inner
        pairs = zip(inner, (query, value if key is None else key, value), strict=True)
        q, k, v = (layer(x) for layer, x in pairs)
        weights = self.softmax(self.ops.einsum("aecd,abcd->acbe", k, q))
        made = outer(self.ops.einsum("acbe,aecd->abcd", self.dropout(weights), v))
        if len(shape) > 3:
            made = self.ops.reshape(made, (-1, *shape[1:-1], made.shape[-1]))
        return (made, weights) if return_attention_scores else made

    def _as_steps(self, x: Tensor) -> Tensor:
        """(batch, steps, channels): the steps are the axes that attend, the batch those before."""
        if len(x.shape) == 3:
            return x
        axes = _attending(self.config, len(x.shape))
        return self.ops.reshape(x, (-1, math.prod(x.shape[axes[0] : -1]), x.shape[-1]))

    def _make_matrices(self, query: Tensor, value: Tensor) -> None:
        config = self.config
        names = [f"{a}_{b}" for a in ("kernel", "bias") for b in ("regularizer", "constraint")]
        shared = {**self.shared, **{name: config[name] for name in names}}
        heads, key_dim = config["num_heads"], config["key_dim"]
        value_dim = config["value_dim"] or key_dim
        width = config["output_shape"] or query.shape[-1]
        width = width[-1] if isinstance(width, tuple | list) else width
        asked, given = query.shape[1], value.shape[1]
        heading, joining = "abc,cde->abde", "abcd,cde->abe"
        for part, equation, shape in (
            ("query", heading, (asked, heads, key_dim)),
            ("key", heading, (given, heads, key_dim)),
            ("value", heading, (given, heads, value_dim)),
            ("", joining, (asked, width)),
        ):
            axes = "de" if equation == heading else "e"
            layer = self.layers.EinsumDense(
                equation,
                output_shape=shape,
                bias_axes=axes if config["use_bias"] else None,
                name=self.unique(f"{self.name}_{part}") if part else self.name,
                **shared,
            )
            self.inner.append(self.part(layer))

    def take_weights(self, weights: list[np.ndarray]) -> None:
        super().take_weights(weights)
        query, root = self.inner[0], math.sqrt(self.config["key_dim"])
        scale = getattr(self.layer, "_inverse_sqrt_key_dim", 1 / root)  # not in Keras' config
        scaled = [w / root if scale == 1 / root else w * scale for w in query.get_weights()]
        query.set_weights(scaled)

    @staticmethod
    def missing(layer: Any, args: tuple, options: dict) -> list[str]:
        config, found = layer.get_config(), []
        ranks = {len(x.shape) for x in keras.tree.flatten((args, options)) if is_value(x)}
        rank = max(ranks)
        if len(ranks) > 1 or rank < 3:
            found.append("inputs that are not all (batch, steps, channels)")
        elif _attending(config, rank) not in [list(range(a, rank - 1)) for a in range(1, rank - 1)]:
            found.append("attention_axes that are not the last before the channels")
        if config.get("activity_regularizer") is not None:  # of values that are scaled here
            found.append("activity_regularizer")
        asked = [k for k, v in options.items() if v is not None and v is not False]
        known = ["training", "query", "value", "key"]
        known += ["return_attention_scores"] if rank == 3 else []
        found += [k for k in asked if k not in known]
        return found + (["masks"] if len(args) > 3 else [])


def _attending(config: dict[str, Any], rank: int) -> list[int]:
    """The axes of the steps of a MultiHeadAttention, of values of a rank."""
    axes = config.get("attention_axes")
    if axes is None:
        return list(range(1, rank - 1))
    return sorted(axis % rank for axis in ([axes] if isinstance(axes, int) else axes))


class Luong(Opened):
    """An Attention: softmax(scale query key^T) value."""

    def make(self) -> None:
        self.make_weighing(self.layer.dropout)
        if self.layer.use_scale:  # a factor that is trained, in int8 by default
            settings = {"use_bias": False, "dtype": self.layer.dtype_policy}
            name = self.unique(f"{self.name}_scale")
            self.scale = self.part(self.layers.DepthwiseConv1D(1, name=name, **settings))

    def __call__(self, inputs: list[Tensor], *_: Any, **__: Any) -> Tensor:
        query, value, *key = inputs
        return self.attended(self.scores(query, key[0] if key else value), value)

    def scores(self, query: Tensor, key: Tensor) -> Tensor:
        scores = self.ops.einsum("abd,acd->abc", query, key)
        if not self.layer.use_scale:
            return scores
        asked, given = query.shape[1], key.shape[1]
        scaled = self.scale(self.ops.reshape(scores, (-1, asked * given, 1)))
        return self.ops.reshape(scaled, (-1, asked, given))

    def take_weights(self, weights: list[np.ndarray]) -> None:
        for part, value in zip(self.parts, weights, strict=True):
            part.set_weights([np.reshape(value, (1, -1, 1))])

    @staticmethod
    def missing(layer: Any, args: tuple, options: dict) -> list[str]:
        mode = getattr(layer, "score_mode", "dot")
        found = [] if mode == "dot" else ["score_mode other than 'dot'"]
        if any(len(x.shape) != 3 for x in _values(args, options)):
            found.append("inputs that are not all (batch, steps, channels)")
        found += ["masks"] if any(x is not None for x in keras.tree.flatten(args[1:])) else []
        known = ("inputs", "training")
        return found + [k for k, v in options.items() if v not in (None, False) and k not in known]


class Bahdanau(Luong):
    """An AdditiveAttention: softmax(sum(scale tanh(query + key))) value."""

    def make(self) -> None:
        super().make()
        self.sum, self.tanh = (
            kind(*given, name=self.unique(f"{self.name}_{part}"), dtype=self.layer.dtype_policy)
            for part, kind, *given in (
                ("sum", self.layers.Add),
                ("tanh", self.layers.Activation, "tanh"),
            )
        )

    def scores(self, query: Tensor, key: Tensor) -> Tensor:
        pairs = [self.ops.expand_dims(query, 2), self.ops.expand_dims(key, 1)]
        shape = (-1, query.shape[1], key.shape[1])
        made = self.tanh(self.sum(pairs))
        if self.layer.use_scale:
            flat = self.ops.reshape(made, (-1, shape[1] * shape[2], made.shape[-1]))
            made = self.ops.reshape(self.scale(flat), (*shape, made.shape[-1]))
        return self.ops.sum(made, axis=-1)


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
        ranks = [len(x.shape) for x in _values(args, options)]
        if any(rank not in (2, 3) for rank in ranks):
            return ["inputs of more than three axes"]
        axes = zip(Product._axes(layer), ranks, strict=True)
        return ["the batch as an axis"] if any(not axis % rank for axis, rank in axes) else []


def _values(args: tuple, options: dict) -> Any:
    """What a layer is called with, by place or by name."""
    return args[0] if args else options["inputs"]


def is_value(x: Any) -> bool:
    return hasattr(x, "shape") and hasattr(x, "dtype")


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
        self.inner.activity_regularizer = None  # Keras does not count it inside either

    def __call__(self, x: Tensor, **options: Any) -> Tensor:
        if isinstance(self.inner, self.layers.Dense):
            return self.inner(x)
        steps = x.shape[1]
        made = self.inner(self.ops.reshape(x, (-1, *x.shape[2:])))
        return self.ops.reshape(made, (-1, steps, *made.shape[1:]))

    @staticmethod
    def missing(layer: Any, args: tuple, options: dict) -> list[str]:
        inner = layer.layer
        if hasattr(inner, "layers"):
            return ["a model inside"]
        return ["a recurrent layer inside"] if hasattr(inner, "cell") else []


class Cells(Opened):
    """An RNN of one cell, or of several one above the other."""

    KINDS = ("LSTMCell", "GRUCell")

    def make(self) -> None:
        cells = self._cells(self.layer)
        for number, cell in enumerate(cells):
            last = number == len(cells) - 1
            config = {
                **cell.get_config(),
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
        sizes = zip(_values(args, options).shape[1:-1], layer.output_size, strict=True)
        differ = any(a is None or a % b for a, b in sizes)
        return lacks + (["windows of several sizes"] if differ else [])


OPENED: dict[str, type[Opened]] = {
    **{f"Adaptive{kind}Pooling{n}D": Adaptive for kind in ("Average", "Max") for n in (1, 2)},
    "MultiHeadAttention": Attention,
    "Attention": Luong,
    "AdditiveAttention": Bahdanau,
    "Dot": Product,
    "Bidirectional": BothWays,
    "TimeDistributed": EveryStep,
    "RNN": Cells,
}


def opened_as(layer: Any, args: tuple, options: dict) -> type[Opened] | None:
    """What a layer that is called so can be opened as; None where it stays as it is."""
    if type(layer) in (keras.layers.Add, keras.layers.Multiply):
        return Chain if len(_values(args, options)) > 2 else None
    kind = _kind_of_layer(layer)
    if kind is None and (_is_users(layer) or class_name(layer) == "Lambda"):
        from ec2t_tf.export.lower.pending import RULES  # which reads graphs by this room
        from ec2t_tf.quantisation.traced import is_one_activation, written_in_operations

        is_function = class_name(layer) == "Lambda" and is_one_activation(layer, args, options)
        if has_rule(kind_of(layer)) and not is_function:
            return None
        if class_name(layer) != "Lambda" and class_name(layer) in RULES:
            return None  # a rule that the user registered
        return written_in_operations(layer, args, options)
    return None if kind is None or kind.missing(layer, args, options) else kind


def closed_by(layer: Any, args: tuple, options: dict) -> list[str]:
    """What keeps a layer of Keras from int8 operators; empty if nothing does, or it never has any.

    Of a layer that would be opened, or is recurrent.
    """
    if kind_of(layer) in RECURRENT:
        return RECURRENT[kind_of(layer)].missing(layer)
    kind = _kind_of_layer(layer)
    if kind is None and isinstance(layer, keras.layers.Layer) and _is_users(layer):
        from ec2t_tf.quantisation.traced import why_not  # whose layers are opened too

        stands_for_another = type(layer).__call__.__module__.startswith("ec2t_tf.")  # tf_keras'
        why = "" if stands_for_another else why_not(layer, args, options)
        return [why] if why else []
    return [] if kind is None else kind.missing(layer, args, options)


def _is_users(layer: Any) -> bool:
    return kind_of(layer) == "Lambda" or "." in class_name(layer)


def _kind_of_layer(layer: Any) -> type[Opened] | None:
    """Not of an operation that has the name of a layer: `keras.ops.dot` is no Dot."""
    is_layer = isinstance(layer, keras.layers.Layer)
    return OPENED.get(class_name(layer)) if is_layer else None
