"""A model of this room as one of the native room, from which files are written.

What tfmot's wrappers have learnt becomes what the rules of `ec2t_tf.export.lower` read: kernels as
codes with scales (`TrainedKernel`), ranges of activations as `FakeQuant`s, all else as the layer of
that name in Keras 3.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
import tf_keras
from tf_keras import layers
from tf_keras.src.layers.core.tf_op_layer import SlicingOpLambda, TFOpLambda

from ec2t_tf.layer_config import config_of, derive
from ec2t_tf.quantisation import graph as native_graph
from ec2t_tf.quantisation import kinds
from ec2t_tf.quantisation.fake_quant import FakeQuant
from ec2t_tf.quantisation.kinds import hard_sigmoid_of_keras_2
from ec2t_tf.quantisation.quantised import LARGEST_CODE, SMALLEST_WEIGHT, Quantised
from ec2t_tf.quantisation.recurrent import Recurrent
from ec2t_tf.tfmot import graph
from ec2t_tf.tfmot.in_keras_3 import ToKeras3, fitting_config, name_of, require_graph
from ec2t_tf.tfmot.opened import is_written_by_users
from ec2t_tf.tfmot.quantizers import KnownRange, TernaryQuantizer, unwrapped
from ec2t_tf.tfmot.recurrent import Rounded
from ec2t_tf.tfmot.rewrite import rewrite
from ec2t_tf.tfmot.wrapper import (
    is_quantise_layer,
    is_quantised,
    last_name,
    plain_activation,
    wrapped,
)


def native(model: tf_keras.Model) -> keras.Model:
    """The model in Keras 3, trained ranges and kernels included; it computes, but trains no more.

    Args:
      model: what `ec2t_tf.apply` or tfmot returned, trained or not; or a plain tf_keras model.

    Raises:
      TypeError, ValueError: see `to_keras_3`.
    """
    if not is_quantised(model) and any(is_written_by_users(x) for x in model.layers):
        model = rewrite(model).model
    return _Native(model).twin


class Plan(NamedTuple):
    """A plain model's graph in Keras 3, for decisions about it.

    Attributes:
      graph: of the twin.
      calls: by the name of a layer of tf_keras, its calls in the graph.
      names: by that of a layer or operation of Keras 3, that of the layer of tf_keras.
    """

    graph: native_graph.Graph
    calls: dict[str, list[native_graph.Call]]
    names: dict[str, str]


def plan_of(model: tf_keras.Model) -> Plan:
    rebuilt = _Native(model)
    found = native_graph.read(rebuilt.twin)
    calls: dict[str, list[native_graph.Call]] = {}
    for call in found.calls:
        name = rebuilt.origin.get(call.operation.name, call.name)
        calls.setdefault(name, []).append(call)
    names = {call.name: name for name, made in calls.items() for call in made}
    return Plan(found, calls, names)


class TrainedKernel(Quantised):
    """A layer whose kernel tfmot has quantised.

    Args:
      layer: of Keras 3.
      codes: int8, shape of the kernel.
      scale: float32, () or (channels,).
    """

    def __init__(
        self, layer: keras.layers.Layer, codes: np.ndarray, scale: np.ndarray, **options: Any
    ) -> None:
        super().__init__(layer, **options)
        self.codes, self.scale = codes, scale

    def quantised_kernel(self, *, training: bool = False) -> Any:
        return keras.ops.convert_to_tensor(_spread(self.codes, self.scale, self.layer))

    def codes_and_scale(self) -> tuple[np.ndarray, np.ndarray]:
        return self.codes, self.scale


def _codes_and_scale(
    kernel: tf.Variable, quantizer: Any, state: dict[str, tf.Variable]
) -> tuple[np.ndarray, np.ndarray]:
    """int8 codes of a kernel that tfmot's wrapper quantises, and the scale of a code.

    The scale is float32, () or (channels,), those along the last axis.
    """
    if isinstance(quantizer, TernaryQuantizer):
        assignment = quantizer.assign(kernel, state)
        values, largest = assignment.dequantise(), assignment.largest
    else:
        values = np.asarray(quantizer(kernel, False, weights=state))
        largest = state["max_var"].numpy()
    scale = np.maximum(np.float32(largest), np.float32(SMALLEST_WEIGHT)) / np.float32(LARGEST_CODE)
    return np.rint(values / scale).astype(np.int8), scale


def _spread(codes: np.ndarray, scale: np.ndarray, layer: Any) -> np.ndarray:
    """float32 values of a kernel; depthwise ones have scales of (inputs, multiplier)."""
    if scale.ndim and "Depthwise" in type(layer).__name__:
        scale = scale.reshape(codes.shape[-2:])
    return (codes * scale).astype(np.float32)


class _Native(ToKeras3):
    """Rebuilds a model with all that is quantised in it."""

    def __init__(self, model: tf_keras.Model) -> None:
        super().__init__({})
        self._consumers = graph.consumers(model)
        self._behind = _outputs_by_layer(model)
        self.origin: dict[str, str] = {}  # by the name of an operation, of TensorFlow's function
        self._names = graph.Names({name_of(wrapped(layer)) for layer in model.layers})
        self.twin = self.model(model)

    def model(self, model: Any) -> Any:
        require_graph(model)
        twin = self._functional(model)
        for layer in model.layers:
            if not graph.is_nested(layer):
                self._fill(layer)
        return twin

    def _node(self, node: Any, arguments: Any, options: dict[str, Any]) -> Any:
        layer = node.layer
        if is_quantise_layer(layer):
            if layer.quantizer_vars is None:
                fixed = unwrapped(layer.quantizer)
                return FakeQuant("fixed", (fixed.init_min, fixed.init_max))(arguments[0])
            return self._ranged(arguments[0], layer.quantizer_vars, name_of(layer))
        inner = wrapped(layer)
        if inner is layer:
            x = super()._node(node, arguments, options)
            first = keras.tree.flatten(x)[0]
            self.origin[first._keras_history.operation.name] = layer.name
            return x
        ranges = [variables for variables in (self._own_range(layer),) if variables]
        found = [_activation_of(activation) for activation in layer._quantize_activations]
        function, before, after = found[0] if found else (None, None, None)
        own = before is not None or _is_users(function)
        if isinstance(inner, layers.Activation):
            x = arguments[0]
            x = x if before is None else self._ranged(x, before, f"{name_of(inner)}_before")
            x = self._prescribed(self.layer(inner), x)
        else:
            options = {k: v for k, v in options.items() if "training" not in k and v is not None}
            x = self._prescribed(self._of(layer, linear=own), *arguments, **options)
            if own:
                x = x if before is None else self._ranged(x, before, f"{name_of(inner)}_before")
                name = self._names.unique(f"{name_of(inner)}_activation")
                activation = keras.layers.Activation(self._function(inner, function), name=name)
                x = self._prescribed(activation, x)
        if after is not None:
            ranges.append(after)
        if not ranges and not isinstance(x, list | tuple):
            (output,) = tf.nest.flatten(node.outputs)
            ranges = [r for r in (self._of_concatenation(output),) if r is not None]
        for variables in ranges:
            x = self._ranged(x, variables, name_of(inner))
        return x

    def _own_range(self, layer: Any) -> dict[str, tf.Variable] | None:
        """Of a wrapped layer's output, if it does not have that of its input."""
        config = layer.quantize_config
        follows = isinstance(config, KnownRange) and config.limits is not None
        return None if follows or not layer._output_quantizers else layer._output_quantizer_vars

    def _prescribed(self, layer: Any, *arguments: Any, **options: Any) -> Any:
        """The layer's output, in the range that its operator prescribes, if it does."""
        x = layer(*arguments, **options)
        limits = kinds.FIXED_RANGE.get(kinds.kind_of(layer))
        return x if limits is None else FakeQuant("fixed", limits)(x)

    def _ranged(self, x: Any, variables: dict[str, tf.Variable], name: str) -> Any:
        limits = float(variables["min_var"].numpy()), float(variables["max_var"].numpy())
        return FakeQuant("fixed", limits, name=self._names.unique(f"{name}_range"))(x)

    def _of_concatenation(self, tensor: Any) -> dict[str, tf.Variable] | None:
        """The range of the concatenation that alone takes a tensor, moved or not."""
        users = self._consumers.get(id(tensor), [])
        if len(users) != 1 or users[0] is None:
            return None
        user = users[0]
        if isinstance(wrapped(user), layers.Concatenate):
            return self._own_range(user) if user is not wrapped(user) else None
        outputs = self._behind.get(id(user), [])
        moves = kinds.kind_of(self.layer(wrapped(user))) in kinds.MOVING
        return self._of_concatenation(outputs[0]) if moves and len(outputs) == 1 else None

    def _of(self, layer: Any, *, linear: bool) -> Any:
        """The twin of a wrapped layer, its kernel in codes; the same one each time."""
        if id(layer) in self._twins:
            return self._twins[id(layer)]
        inner = layer.layer

        def codes_and_scale(number: int) -> tuple[np.ndarray, np.ndarray]:
            kernel, quantizer, state = layer._weight_vars[number]
            return _codes_and_scale(kernel, unwrapped(quantizer), state)

        if isinstance(inner, Rounded):
            wrapper = inner.native(
                name_of(inner),
                lambda part, i: TrainedKernel(part.layer, *codes_and_scale(i), name=part.name),
            )
            self._twins[id(layer)] = wrapper
            return wrapper
        twin = self._make(inner, **({"activation": "linear"} if linear else {}))
        wrapper = twin
        if layer._weight_vars:
            codes, scale = codes_and_scale(0)
            if scale.ndim and "Depthwise" in type(inner).__name__:
                scale = np.broadcast_to(scale, codes.shape[-2:]).reshape(-1)
            wrapper = TrainedKernel(twin, codes, scale, name=name_of(inner))
        self._twins[id(layer)] = wrapper
        return wrapper

    def _fill(self, layer: Any) -> None:
        twin = self._twins.get(id(layer))
        if isinstance(twin, _Foreign | Recurrent) or twin is None or not twin.weights:
            return
        if wrapped(layer) is layer:
            super()._fill(layer)
            return
        values = {last_name(v).removeprefix("depthwise_"): v for v in layer.weights}
        for weight in (twin.layer if isinstance(twin, TrainedKernel) else twin).weights:
            weight.assign(values[weight.name].numpy())
        derive(twin)

    def _make(self, layer: Any, **changes: Any) -> Any:
        if type(layer).__name__ in kinds.NOTHING_AT_INFERENCE:
            return keras.layers.Identity(name=name_of(layer))
        return super()._make(layer, **changes)

    def _config(self, layer: Any, twin_class: type, renamed: Mapping[str, str]) -> dict[str, Any]:
        """In float32, without what only training needs."""
        inside = graph.INSIDE.get(type(layer), "")  # a twin of its own comes in its place
        given = config_of(layer, tf_keras.activations.linear, without=inside)
        config = fitting_config(layer, given, twin_class, renamed)
        training = ("_regularizer", "_constraint")
        return {key: value for key, value in config.items() if not key.endswith(training)}

    def _rest(self, layer: Any) -> list[Any]:
        return []

    def _function(self, layer: Any, function: Any) -> Any:
        return super()._function(layer, plain_activation(function))

    def _without_function(self, layer: Any, function: Any) -> Any:
        return _OF_TENSORFLOW.get(function, function)

    def _without(self, layer: Any, why: str) -> Any:
        return _foreign(layer)


class _Foreign(keras.layers.Layer):
    """A layer of the user's, or a function of TensorFlow that Keras 3 does not have."""

    def __init__(self, layer: Any, name: str | None = None) -> None:
        super().__init__(name=name or name_of(layer), dtype="float32")
        self._held = lambda: layer  # where Keras does not look for variables
        self.moves_values_only = bool(getattr(layer, "moves_values_only", False))
        self.elementwise = bool(getattr(layer, "elementwise", False)) or (
            not self.moves_values_only and not layer.weights and kinds.is_elementwise(layer)
        )

    def get_config(self) -> dict[str, Any]:
        """For a copy in this process; there is no other."""
        return {"layer": self._held()}

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        """Constants among the arguments stay here: Keras only hands tensors on."""
        given = keras.tree.flatten((arguments, options))
        tensors = [x for x in given if keras.utils.is_keras_tensor(x)]
        if not tensors:  # values, in the places of the tensors
            return super().__call__(*arguments)
        places = [i for i, x in enumerate(given) if keras.utils.is_keras_tensor(x)]
        known = [None if i in places else x for i, x in enumerate(given)]
        self._filled = lambda values: keras.tree.pack_sequence_as(
            (arguments, options), _placed(known, places, values)
        )
        return super().__call__(*tensors)

    def compute_output_spec(self, *tensors: Any) -> Any:
        layer = self._held()
        if not isinstance(layer, TFOpLambda | SlicingOpLambda):
            return super().compute_output_spec(*tensors)
        return tf.nest.map_structure(
            lambda x: keras.KerasTensor((tensors[0].shape[0], *x.shape[1:]), x.dtype.name),
            layer.output,
        )

    def call(self, *tensors: Any) -> Any:
        arguments, options = self._filled(tensors)
        return self._held()(*arguments, **options)


def _placed(known: list[Any], places: list[int], values: Any) -> list[Any]:
    found = dict(zip(places, values, strict=True))
    return [found.get(i, x) for i, x in enumerate(known)]


def _foreign(layer: Any) -> _Foreign:
    """Under the name of its class, by which reports call it."""
    kind = type(layer)
    return type(kind.__name__, (_Foreign,), {"__module__": kind.__module__})(layer)


def _outputs_by_layer(model: tf_keras.Model) -> dict[int, list[Any]]:
    found: dict[int, list[Any]] = {}
    for node in graph.nodes(model):
        found.setdefault(id(node.layer), []).extend(tf.nest.flatten(node.outputs))
    return found


def _activation_of(activation: Any) -> tuple[Any, Any, Any]:
    """Function, range before it and range after it, of tfmot's wrapper of an activation."""
    return (
        activation.activation,
        getattr(activation, "_pre_activation_vars", None),
        getattr(activation, "_post_activation_vars", None),
    )


# Functions of TensorFlow that are activations of Keras 3.
_OF_TENSORFLOW: dict[Any, Any] = {
    tf.nn.relu: "relu",
    tf.nn.relu6: "relu6",
    tf.nn.leaky_relu: "leaky_relu",
    tf.nn.elu: "elu",
    tf.nn.selu: "selu",
    tf.nn.silu: "silu",
    tf.nn.softmax: "softmax",
    tf.nn.softplus: "softplus",
    tf.nn.sigmoid: "sigmoid",
    tf.nn.tanh: "tanh",
    tf_keras.activations.hard_sigmoid: hard_sigmoid_of_keras_2,
}


def _is_users(function: Any) -> bool:
    """Whether it is a function that no operator fuses."""
    fused = (tf_keras.activations.linear, tf_keras.activations.relu, None)
    return function not in fused and type(function).__name__ != "NoOpActivation"
