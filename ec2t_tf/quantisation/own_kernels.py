"""What a layer of the user's computes from its weights alone, in the graph of its call.

| in its call                                   | instead                                        |
|-----------------------------------------------|------------------------------------------------|
| a convolution by a weight of the layer's own  | the layer of Keras that has it as its kernel   |
| the same by what is computed from weights     | that layer with a `Computed` kernel            |
| the sum of that and a weight of its channels  | the same layer, with it as its bias            |
| another value that is computed from weights   | a `Computed`                                   |
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from ec2t_tf.quantisation import computed
from ec2t_tf.quantisation.computed import Computed
from ec2t_tf.quantisation.graph import Call, Graph, Value
from ec2t_tf.quantisation.kinds import class_name
from ec2t_tf.quantisation.own_products import PRODUCTS, product_of
from ec2t_tf.quantisation.values import Constant, Weight

# Operations of a value and a kernel.
CONVOLUTIONS = ("Conv", "DepthwiseConv", "ConvTranspose")
_RESHAPING = ("Reshape", "ExpandDims", "Squeeze", "ConvertToTensor", "Cast")


class OwnKernels:
    """A plan of the graph of one call.

    Args:
      graph, other: of the call, for two sizes of the batch.
      name: of the user's layer.
      unique: makes a name that no other layer has.
      made: takes the new layers.
    """

    def __init__(
        self,
        graph: Graph,
        other: Graph,
        name: str,
        unique: Callable[[str], str],
        made: list[keras.layers.Layer],
    ) -> None:
        self.name, self.unique, self.made = name, unique, made
        self._calls, self._twins = graph.calls, other.calls
        self._consumers = graph.consumers()
        self._given = _given(graph, other)
        self._uses: dict[int, set[Value]] = {}  # by a weight, the last values of it alone
        for value, users in self._consumers.items():
            if value in self._given and any(u is None or not self._is_given(u) for u in users):
                for weight in self._weights(value):
                    self._uses.setdefault(id(weight), set()).add(value)
        self._kernels = {
            call.number: layer for call in self._calls if (layer := self._kernel_layer(call))
        }
        self._biases = {
            bias.number: call.number
            for call in self._calls
            if call.number in self._kernels and (bias := self._bias_of(call))
        }
        self._layers: dict[Any, Any] = {}
        self._computed: dict[Value, Any] = {}

    def writes(self, call: Call) -> bool:
        """Whether a call needs no rule: a layer, or what comes of weights, is instead."""
        if call.number in self._kernels:
            return True
        return self._is_given(call) and all(
            self._is_alone(value) for x in call.results for value in self._ends(x)
        )

    def compute(self, call: Call, args: tuple, options: dict) -> Any:
        """What is instead of a call; None if nothing is."""
        if call.number in self._biases:  # the layer has added it
            number = self._biases[call.number]
            (made,) = self._calls[number].results
            given = keras.tree.flatten((call.args, call.kwargs))
            return keras.tree.flatten((args, options))[given.index(made)]
        if call.number in self._kernels:
            return self._layer(call)(keras.tree.flatten((args, options))[0])
        if not self.is_inside(call):
            return None
        return type(call.operation).from_config(call.operation.get_config())(*args, **options)

    def is_inside(self, call: Call) -> bool:
        """Whether a call is computed inside of layers that this makes."""
        return self._is_given(call) and not call.is_layer and self.writes(call)

    def given(self, call: Call, args: tuple, options: dict, like: Any) -> tuple[tuple, dict]:
        """What another call is given in the place of what is computed from weights alone."""
        values = keras.tree.flatten((call.args, call.kwargs))
        made = [
            self._value(value, x, like) if isinstance(value, Value) else x
            for value, x in zip(values, keras.tree.flatten((args, options)), strict=True)
        ]
        return keras.tree.pack_sequence_as((args, options), made)

    def _value(self, value: Value, x: Any, like: Any) -> Any:
        if value not in self._given or self._is_weight(value) or not self._is_alone(value):
            return x
        if value not in self._computed:
            name = self.unique(f"{self.name}_{self._calls[value.maker].operation.name}")
            self._computed[value] = Computed(self._model(value), name=name)
            self.made.append(self._computed[value])
        return self._computed[value](like)

    # -- what comes of weights -----------------------------------------------------------------

    def _is_given(self, call: Call) -> bool:
        return bool(call.results) and all(value in self._given for value in call.results)

    def _is_weight(self, value: Value) -> bool:
        return isinstance(self._calls[value.maker].operation, Weight | Constant)

    def _weights(self, value: Value) -> list[Any]:
        call = self._calls[value.maker]
        if isinstance(call.operation, Weight):
            return [call.operation]
        inputs = [] if isinstance(call.operation, Constant) else call.inputs
        return [weight for x in inputs for weight in self._weights(x)]

    def _ends(self, value: Value) -> set[Value]:
        """The last values that come of this one and weights alone."""
        found: set[Value] = set()
        for user in self._consumers.get(value, []):
            if user is None or not self._is_given(user):
                found.add(value)
            else:
                found.update(end for x in user.results for end in self._ends(x))
        return found

    def _is_alone(self, value: Value) -> bool:
        """Whether its weights are nowhere else, so that they can be inside of one layer."""
        return all(self._uses[id(weight)] == {value} for weight in self._weights(value))

    def _model(self, value: Any) -> keras.Model:
        """What computes it, of weights that are its own."""
        like = keras.Input(batch_shape=(1,), name="like")
        held: dict[int, Any] = {}
        results: dict[int, list[Any]] = {}  # by the number of a call: a value may be used twice

        def made(x: Value) -> Any:
            call = self._calls[x.maker]
            operation: Any = call.operation
            if isinstance(operation, Weight | Constant):
                if id(operation) not in held:
                    held[id(operation)] = _held(operation)
                return held[id(operation)](like)
            if call.number not in results:
                args, options = keras.tree.map_structure(
                    lambda y: made(y) if isinstance(y, Value) else y, (call.args, call.kwargs)
                )
                again = type(operation).from_config(operation.get_config())
                results[call.number] = keras.tree.flatten(again(*args, **options))
            return results[call.number][x.index]

        if not isinstance(value, Value):  # numbers
            array = ops.convert_to_numpy(value)
            return keras.Model(like, Constant(array, "float32", name="constant")(like))
        return keras.Model(like, made(value), name="computed")

    # -- kernels -------------------------------------------------------------------------------

    def _kernel_layer(self, call: Call) -> str:
        """The class of Keras that computes a call; "" if none does."""
        kind = class_name(call.operation)
        if kind in PRODUCTS:
            return self._product_layer(call)
        if kind not in CONVOLUTIONS or self.why_not(call):
            return ""
        flat = {3: "1D", 4: "2D"}[len(_kernel(call).shape)]
        return f"Conv{flat}Transpose" if kind == "ConvTranspose" else f"{kind}{flat}"

    def why_not(self, call: Call) -> str:
        """Why a convolution is no layer of Keras; "" if it is, or no convolution."""
        if class_name(call.operation) not in CONVOLUTIONS:
            return ""
        x, kernel = call.inputs[0], _kernel(call)
        if x in self._given or _is_array(keras.tree.flatten((call.args, call.kwargs))[0]):
            return " of what does not come from its input"
        if len(kernel.shape) not in (3, 4):
            return f" with a kernel of shape {tuple(kernel.shape)}"
        if not isinstance(kernel, Value):
            return ""
        if kernel not in self._given:
            return " with a kernel that is not computed from weights alone"
        if not self._is_only_in(kernel, call):
            return " with weights that are also used elsewhere"
        return ""

    def _is_only_in(self, kernel: Value, call: Call) -> bool:
        """Whether its weights are nowhere but in this call, or others that are just like it."""
        users = self._consumers[kernel]
        same = all(u is not None and _settings(u) == _settings(call) for u in users)
        return same and self._is_alone(kernel)

    def _product_layer(self, call: Call) -> str:
        if len(call.inputs) != 2:
            return ""
        x, kernel = call.inputs
        is_kernel = kernel in self._given and x not in self._given
        if not is_kernel or not self._is_only_in(kernel, call):
            return ""
        if x.shape[1:] != self._twins[call.number].inputs[0].shape[1:]:
            return ""  # the batch is not its first axis
        product = product_of(call, kernel)
        return product.kind if product is not None else ""

    def _bias_of(self, call: Call) -> Call | None:
        """The sum of its result and a weight for each channel."""
        (result,) = call.results
        kernel = _kernel(call)
        user, *others = self._consumers.get(result, [None])
        is_one = isinstance(kernel, Value) and len(self._consumers[kernel]) == 1
        if user is None or others or not is_one:
            return None
        if class_name(user.operation) != "Add" or len(user.inputs) != 2:
            return None
        other = next((x for x in user.inputs if x != result), result)
        if other not in self._given or not self._is_alone(other) or self._moved(other) is None:
            return None
        channels = result.shape[-1]
        sized = (
            other.shape[-1:] == (channels,) and math.prod(n or 0 for n in other.shape) == channels
        )
        if class_name(call.operation) in PRODUCTS:
            product = product_of(call, kernel)
            sized = sized and product is not None and product.bias is not None
        trains = all(x.trainable for x in (*self._weights(kernel), *self._weights(other)))
        fits = sized and trains and user.results[0].shape == result.shape
        return user if fits else None

    def _moved(self, value: Value) -> Weight | None:
        """The weight that a value has the numbers of, in another shape perhaps."""
        call = self._calls[value.maker]
        if isinstance(call.operation, Weight):
            return call.operation
        is_moved = class_name(call.operation) in _RESHAPING and len(call.inputs) == 1
        return self._moved(call.inputs[0]) if is_moved else None

    def _layer(self, call: Call) -> Any:
        kernel = _kernel(call)
        key = kernel if isinstance(kernel, Value) else call.number
        if key not in self._layers:
            self._layers[key] = self._make_layer(call, kernel)
            self.made.append(self._layers[key])
        return self._layers[key]

    def _make_layer(self, call: Call, kernel: Any) -> Any:
        kind, operation = self._kernels[call.number], _settings(call)
        name = self.unique(f"{self.name}_{_snake(class_name(call.operation))}")
        settings: dict[str, Any] = {"name": name}
        product = product_of(call, kernel) if class_name(call.operation) in PRODUCTS else None
        if product is None:
            settings |= _of_convolution(kind, call, operation)
        else:
            settings |= product.settings
        number = next((n for n, of in self._biases.items() if of == call.number), None)
        bias = None
        if number is not None:
            other = next(x for x in self._calls[number].inputs if x not in call.results)
            bias = self._moved(other)
        if kind != "EinsumDense":
            settings["use_bias"] = bias is not None
        if bias is not None:
            settings["bias_regularizer"] = bias.regularizer
            settings["bias_constraint"] = bias.constraint
            settings |= (product.bias or {}) if product is not None else {}
        is_weight = isinstance(kernel, Value) and self._is_weight(kernel)
        source = self._moved(kernel) if is_weight else None
        values = []
        if source is None:
            made: Any = Computed(self._model(kernel), name=f"{name}_kernel")
            layer = computed.KINDS[kind](kernel=made, **settings)
        else:
            part = "depthwise" if "Depthwise" in kind else "kernel"
            settings[f"{part}_regularizer"] = source.regularizer
            settings[f"{part}_constraint"] = source.constraint
            layer = getattr(keras.layers, kind)(trainable=source.trainable, **settings)
            values = [source.get_weights()[0]]
        layer.build((None, *call.inputs[0].shape[1:]))
        if bias is not None:
            layer.bias.assign(ops.reshape(bias.value, (-1,)))
        if source is not None:
            layer.set_weights([*values, *layer.get_weights()[1:]])
        return layer


def _given(graph: Graph, other: Graph) -> set[Value]:
    """Values that are computed from weights alone, and the same for every batch."""
    found: set[Value] = set()
    for call, twin in zip(graph.calls, other.calls, strict=True):
        is_same = [x.shape for x in call.results] == [x.shape for x in twin.results]
        is_root = isinstance(call.operation, Weight | Constant)
        of_given = not call.is_layer and bool(call.inputs) and found.issuperset(call.inputs)
        if is_root or (of_given and is_same):
            found.update(call.results)
    roots: set[Value] = set()  # with a weight below, not constants alone
    for call in graph.calls:
        if isinstance(call.operation, Weight) or not roots.isdisjoint(call.inputs):
            roots.update(call.results)
    return found & roots


def _held(operation: Any) -> Any:
    """A weight or constant for another model, in float32."""
    made = type(operation).from_config({**operation.get_config(), "dtype": "float32"})
    made.set_weights(operation.get_weights())
    return made


def _kernel(call: Call) -> Any:
    """The second argument of a call, a value or numbers."""
    return keras.tree.flatten((call.args, call.kwargs))[1]


def _is_array(x: Any) -> bool:
    return not isinstance(x, Value) and hasattr(x, "shape")


def _settings(call: Call) -> dict[str, Any]:
    found = vars(call.operation)
    settings = {k: v for k, v in found.items() if not k.startswith("_") and k != "name"}
    return {**settings, "kind": class_name(call.operation), "given": call.inputs[0].shape[1:]}


def _of_convolution(kind: str, call: Call, operation: dict[str, Any]) -> dict[str, Any]:
    x, shape = call.inputs[0], tuple(_kernel(call).shape)
    keys = ("strides", "padding", "data_format", "dilation_rate", "output_padding")
    settings = {key: operation[key] for key in keys if key in operation}
    settings["kernel_size"] = shape[:-2]
    if "Depthwise" in kind:
        return {**settings, "depth_multiplier": shape[-1]}
    if "Transpose" in kind:
        return {**settings, "filters": shape[-2]}
    channels = x.shape[1 if settings["data_format"] == "channels_first" else -1]
    return {**settings, "filters": shape[-1], "groups": channels // shape[-2]}


def _snake(name: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")
