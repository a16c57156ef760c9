"""Layers that attend, as the operators of an int8 file."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np

from ec2t_tf.quantisation import masks
from ec2t_tf.quantisation.opening import Opened, Tensor, is_value, values_of
from ec2t_tf.quantisation.values import ForEach


class Attention(Opened):
    """1 / sqrt(key_dim) goes into the matrix of the queries."""

    def make(self) -> None:
        self.config, self.shared = self.settings(), {"dtype": self.layer.dtype_policy}
        self.make_weighing(self.config["dropout"])
        self.inner: list[Any] = []

    def settings(self) -> dict[str, Any]:
        return self.layer.get_config()

    def of_each_head(self, x: Tensor) -> Tensor:
        """Keys or values, of which several heads may share one."""
        return x

    def __call__(
        self,
        query: Tensor,
        value: Tensor,
        key: Tensor | None = None,
        *,
        return_attention_scores: bool = False,
        **options: Any,
    ) -> Any:
        shape = query.shape
        allowed = masks.of_attention(options, query.shape[1], value.shape[1])
        query, value, key = (x if x is None else self._as_steps(x) for x in (query, value, key))
        if not self.inner:
            self._make_matrices(query, value)
        *inner, outer = self.inner
        pairs = zip(inner, (query, value if key is None else key, value), strict=True)
        q, k, v = (layer(x) for layer, x in pairs)
        k, v = self.of_each_head(k), self.of_each_head(v)
        weights = self.weighed(self.ops.einsum("aecd,abcd->acbe", k, q), allowed)
        made = outer(self.ops.einsum("acbe,aecd->abcd", weights, v))
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
        given_heads = config.get("num_key_value_heads", heads)
        value_dim = config["value_dim"] or key_dim
        width = config["output_shape"] or query.shape[-1]
        width = width[-1] if isinstance(width, tuple | list) else width
        asked, given = query.shape[1], value.shape[1]
        heading, joining = "abc,cde->abde", "abcd,cde->abe"
        for part, equation, shape in (
            ("query", heading, (asked, heads, key_dim)),
            ("key", heading, (given, given_heads, key_dim)),
            ("value", heading, (given, given_heads, value_dim)),
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
        config = layer.get_config()
        found = [name for name in ("use_gate", "sliding_window") if config.get(name)]
        values = {k: v for k, v in options.items() if k != "attention_mask"}
        given = [x for x in keras.tree.flatten((args, values)) if is_value(x)]
        ranks = {len(x.shape) for x in given}
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
        if rank == 3 and isinstance(layer, keras.layers.Layer):
            known += ["use_causal_mask", "attention_mask"]
            named = dict(zip(("query", "value"), args, strict=False)) | options
            steps = (named[name].shape[1] for name in ("query", "value"))
            found += masks.lacks(options, *steps)
        found += [k for k in asked if k not in known]
        return found + (["masks"] if len(args) > 3 else [])


class Grouped(Attention):
    """A GroupQueryAttention: several heads share their keys and values."""

    def settings(self) -> dict[str, Any]:
        config = self.layer.get_config()
        names = {"num_heads": config["num_query_heads"], "key_dim": config["head_dim"]}
        return {**config, **names, "value_dim": None, "output_shape": None}

    def of_each_head(self, x: Tensor) -> Tensor:
        times = self.config["num_heads"] // self.config["num_key_value_heads"]
        return x if times == 1 else self.ops.repeat(x, times, axis=2)


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

    def __call__(self, inputs: list[Tensor], *_: Any, **options: Any) -> Tensor:
        query, value, *key = self._of_each(inputs)
        allowed = masks.of_attention(options, query.shape[1], value.shape[1])
        return self.attended(self.scores(query, key[0] if key else value), value, allowed)

    def scores(self, query: Tensor, key: Tensor) -> Tensor:
        scores = self.ops.einsum("abd,acd->abc", query, key)
        if not self.layer.use_scale:
            return scores
        asked, given = query.shape[1], key.shape[1]
        scaled = self.scale(self.ops.reshape(scores, (-1, asked * given, 1)))
        return self.ops.reshape(scaled, (-1, asked, given))

    def _of_each(self, inputs: list[Tensor]) -> list[Tensor]:
        """Values that are the same for all examples, as a Perceiver's latents, for each."""
        like = next((x for x in inputs if x.shape[0] != 1), None)
        if like is None:
            return inputs
        name = f"{self.name}_for_each"
        return [x if x.shape[0] != 1 else ForEach(name=self.unique(name))(x, like) for x in inputs]

    def take_weights(self, weights: list[np.ndarray]) -> None:
        for part, value in zip(self.parts, weights, strict=True):
            part.set_weights([np.reshape(value, (1, -1, 1))])

    @staticmethod
    def missing(layer: Any, args: tuple, options: dict) -> list[str]:
        mode = getattr(layer, "score_mode", "dot")
        found = [] if mode == "dot" else ["score_mode other than 'dot'"]
        if any(len(x.shape) != 3 for x in values_of(args, options)):
            found.append("inputs that are not all (batch, steps, channels)")
        batches = {x.shape[0] for x in values_of(args, options)}
        if len(batches) > 1 and not isinstance(layer, keras.layers.Layer):
            found.append("a value that is not there for each example")
        found += ["masks"] if any(x is not None for x in keras.tree.flatten(args[1:])) else []
        known = ["inputs", "training"]
        if not found and isinstance(layer, keras.layers.Layer):
            known.append("use_causal_mask")
            asked, given = (x.shape[1] for x in values_of(args, options)[:2])
            found += masks.lacks(options, asked, given)
        return found + [k for k, v in options.items() if v not in (None, False) and k not in known]


class MaskedSoftmax(Opened):
    """A Softmax that is given a mask of constants."""

    def make(self) -> None:
        self.inner = self.layers.Softmax(name=self.name, dtype=self.layer.dtype_policy)

    def __call__(self, x: Tensor, mask: Any = None, **_: Any) -> Tensor:
        allowed = masks.constant(mask)
        assert allowed is not None
        masked = masks.Masked(allowed, name=self.unique(f"{self.name}_masked"))
        return self.inner(masked(x))

    @staticmethod
    def wanted(layer: Any, args: tuple, options: dict) -> bool:
        return _mask_of(args, options) is not None

    @staticmethod
    def missing(layer: Any, args: tuple, options: dict) -> list[str]:
        mask = masks.constant(_mask_of(args, options))
        rank = len(values_of(args, options).shape)
        if mask is None:
            return ["a mask that the net computes"]
        found = [] if layer.axis in (-1, rank - 1) else ["a mask and an axis that is not the last"]
        if mask.ndim == rank and mask.shape[0] != 1:
            found.append("a mask of each example")
        return found + (["a mask that leaves out all"] if masks.is_empty(mask.astype(bool)) else [])


def _mask_of(args: tuple, options: dict) -> Any:
    return args[1] if len(args) > 1 else options.get("mask")


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
