"""From a float graph and its treatments to a model for quantize-aware training."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

import keras

from ec2t_tf.layer_config import give_weights
from ec2t_tf.methods.base import TernaryMethod
from ec2t_tf.moving_range import GROWTH
from ec2t_tf.quantisation.computed import OfComputed
from ec2t_tf.quantisation.fake_quant import FakeQuant, Kind
from ec2t_tf.quantisation.fusion import Fusion
from ec2t_tf.quantisation.graph import Call, read
from ec2t_tf.quantisation.kinds import (
    FIXED_RANGE,
    GIVEN,
    INTERPOLATING,
    KERNELS,
    RECURRENT,
    kind_of,
)
from ec2t_tf.quantisation.model import TernaryModel
from ec2t_tf.quantisation.normalisation import BatchNormalization
from ec2t_tf.quantisation.quantised import Quantised, initialise
from ec2t_tf.quantisation.recurrent import Recurrent
from ec2t_tf.quantisation.slopes import FiniteSlope, may_be_steep
from ec2t_tf.quantisation.split import copy_layer, copy_operation, inputs_like
from ec2t_tf.quantisation.stepped import loop_of


def quantise(
    model: keras.Model,
    ternary: Mapping[str, TernaryMethod],
    *,
    untouched: Collection[str] = (),
    int8_inputs: Collection[str] = (),
) -> TernaryModel:
    """A copy of `model` for quantize-aware training: weights copied, `model` unchanged.

    Args:
      model: built functional model in which each layer is one operator (`split`).
      ternary: the method for each layer that gets one, by the layer's name; other kernels are int8.
      untouched: names of the layers that stay float.
      int8_inputs: names of recurrent layers of which only the recurrent kernel gets the method.
    """
    return _Conversion(model, ternary, untouched, int8_inputs).run()


class _Conversion:
    def __init__(
        self,
        model: keras.Model,
        ternary: Mapping[str, TernaryMethod],
        untouched: Collection[str],
        int8_inputs: Collection[str],
    ) -> None:
        self._source, self._ternary, self._int8_inputs = model, ternary, int8_inputs
        self._graph = read(model)
        self._fusion = Fusion(self._graph, untouched)
        self._names = {layer.name for layer in model.layers}
        self._made: dict[str, Any] = {}
        self._sizes = {n: _kernel_size(model.get_layer(n)) for n in ternary}
        # By the id of a tensor of the new graph, which keeps them all alive: tensors that are int8,
        # the layer that learns their range, and the rounded twins of float ones.
        self._int8: set[int] = set()
        self._ranges: dict[int, FakeQuant] = {}
        self._rounded: dict[int, Any] = {}
        # Behind an Embedding, with no normalisation between.
        self._begins_small: set[int] = set()

    def run(self) -> TernaryModel:
        inputs = inputs_like(self._graph)
        self._sources = dict(
            zip(map(id, keras.tree.flatten(inputs)), self._graph.input_names, strict=True)
        )
        outputs = self._graph.run(inputs, self._compute)
        model = TernaryModel(inputs, outputs, name=self._graph.name)
        for layer in self._source.layers:
            if layer.weights:
                _copy_weights(layer, self._made[layer.name])
        initialise(model)
        return model

    def _compute(self, call: Call, args: tuple, kwargs: dict) -> Any:
        is_float = self._fusion.is_float(call)
        if not is_float and kind_of(call.operation) != "Embedding":  # tokens may come as float32
            args, kwargs = keras.tree.map_structure(self._as_int8, (args, kwargs))
        given = [x for x in keras.tree.flatten((args, kwargs)) if keras.utils.is_keras_tensor(x)]
        if isinstance(call.operation, keras.layers.BatchNormalization):
            kwargs = {key: value for key, value in kwargs.items() if key != "training"}
        if call.name not in self._made:
            self._made[call.name] = self._make(call)
        if not is_float and may_be_steep(call):
            args = (FiniteSlope(name=self._unique(f"{call.name}_slope"))(args[0]), *args[1:])
        outputs = self._made[call.name](*args, **kwargs)
        if is_float:
            self._sources.update((id(x), call.name) for x in keras.tree.flatten(outputs))
            return outputs
        small = any(id(x) in self._begins_small for x in given)
        before = self._ranges.get(id(given[0])) if given else None
        if isinstance(call.operation, keras.layers.Embedding) or (
            small and "Normalization" not in type(call.operation).__name__
        ):
            self._begins_small.update(id(x) for x in keras.tree.flatten(outputs))
        return keras.tree.map_structure(lambda x: self._in_range(call, x, before), outputs)

    def _in_range(self, call: Call, x: Any, before: FakeQuant | None) -> Any:
        """An output of an int8 operator, rounded where its operator rounds."""
        how = self._fusion.range_of(call)
        rounding: FakeQuant | None = None
        if not x.dtype.startswith(("float", "bfloat")):
            return x
        small = id(x) in self._begins_small
        if how == "own" or (how == "same" and before is None):
            growth = GROWTH if small else 0.0
            name = self._unique(f"{call.name}_range")
            given = kind_of(call.operation) in GIVEN  # whose range is known, and may begin at 0
            kind: Kind = "widest" if given else "moving"
            rounding = FakeQuant(kind, None, growth, may_be_steep(call), name=name)
            x = rounding(x)
        elif how == "fixed":
            limits = FIXED_RANGE[kind_of(call.operation)]
            rounding = FakeQuant("fixed", limits, name=self._unique(f"{call.name}_range"))
            x = rounding(x)
        elif how == "same" and before is not None:
            rounding = before
            interpolates = kind_of(call.operation) in INTERPOLATING
            x = before(x, ties="up" if interpolates else "away")
        elif how == "moved":
            rounding = before
        self._int8.add(id(x))
        if small:
            self._begins_small.add(id(x))
        if rounding is not None:
            self._ranges[id(x)] = rounding
        return x

    def _as_int8(self, x: Any) -> Any:
        """What an int8 operator is given: a float input or output is rounded first."""
        if not keras.utils.is_keras_tensor(x) or id(x) in self._int8:
            return x
        if not x.dtype.startswith(("float", "bfloat")):
            return x
        if id(x) not in self._rounded:
            name = self._unique(f"{self._sources.get(id(x), 'input')}_range")
            rounding = FakeQuant("widest", name=name)
            rounded = rounding(x)
            self._rounded[id(x)] = rounded
            self._int8.add(id(rounded))
            self._ranges[id(rounded)] = rounding
        return self._rounded[id(x)]

    def _unique(self, name: str) -> str:
        count, wanted = 1, name
        while name in self._names:
            count += 1
            name = f"{wanted}_{count}"
        self._names.add(name)
        return name

    def _make(self, call: Call) -> Any:
        layer = call.operation
        if not call.is_layer:
            return copy_operation(layer)
        if type(layer) is keras.layers.BatchNormalization and not self._fusion.is_float(call):
            return BatchNormalization(**{**layer.get_config(), "frozen": call.frozen})
        kind = kind_of(layer)
        if kind not in (*KERNELS, *RECURRENT, "Embedding") or self._fusion.is_float(call):
            return copy_layer(layer, layer.name)
        method = self._ternary.get(layer.name)
        size = self._sizes.get(layer.name, 1) / max(self._sizes.values(), default=1)
        if kind in RECURRENT:
            half = layer.name in self._int8_inputs
            options = {"name": layer.name, "trainable": layer.trainable}
            return loop_of(layer)(layer, method, size, int8_inputs=half, **options)
        changes: dict[str, Any] = {}
        if method is not None:
            # Latent weights train without weight decay (docs/specification.md).
            keys = ("depthwise_regularizer", "kernel_regularizer", "embeddings_regularizer")
            changes[next(key for key in keys if hasattr(layer, key))] = None
        inside = copy_layer(layer, layer.name, **changes)
        if method is not None and isinstance(inside, OfComputed):
            inside.computed.without_regularizers()
        return Quantised(
            inside,
            method,
            size,
            name=layer.name,
            trainable=layer.trainable,
        )


def _kernel_size(layer: Any) -> int:
    if kind_of(layer) in RECURRENT:
        return max(_number(weights) for weights in layer.get_weights())
    names = ("depthwise_kernel", "embeddings", "kernel")
    return _number(next(getattr(layer, name) for name in names if hasattr(layer, name)))


def _number(kernel: Any) -> int:
    size = 1
    for dimension in kernel.shape:
        size *= dimension
    return size


def _copy_weights(source: Any, target: Any) -> None:
    """The weights of a layer into its copy, or into the wrapper around its copy."""
    if isinstance(target, Recurrent):
        target.take_weights(source.get_weights())
        return
    inside = target.layer if isinstance(target, Quantised) else target
    weights = source.get_weights()
    if isinstance(inside, BatchNormalization):
        weights = [*weights, *inside.get_weights()[len(weights) :]]
    give_weights(inside, weights)
