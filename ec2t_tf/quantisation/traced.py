"""A Lambda, a layer or a subclassed model of the user's, written in keras.ops (or functions of
TensorFlow that are like them), as what it consists of.

Its `call` is run on symbolic values, by an object that has stand-ins for what it holds: layers
under names of their own, and `Weight` for its own weights. It is run for two sizes of the batch;
what differs between the two is the batch, which is left open.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from ec2t_tf.built_in import is_of_keras
from ec2t_tf.quantisation.compositions import WITHOUT_RULE, composed
from ec2t_tf.quantisation.graph import BATCHES, Call, Graph, Value, has_graph, read
from ec2t_tf.quantisation.kinds import (
    ACTIVATIONS,
    NOTHING_AT_INFERENCE,
    class_name,
    has_rule,
    kind_of,
)
from ec2t_tf.quantisation.opening import Opened
from ec2t_tf.quantisation.own_kernels import OwnKernels
from ec2t_tf.quantisation.symbolic import as_tensors
from ec2t_tf.quantisation.tensorflow_functions import recorded
from ec2t_tf.quantisation.values import Constant, ForEach, InTraining, Weight
from ec2t_tf.treatments import UnsupportedLayerError

Tensor = Any
ANOTHER_EACH_TIME = "numbers that are others for another batch, or at another call (random ones)"


def written_in_operations(layer: Any, args: tuple, options: dict) -> type[Opened] | None:
    """What opens a layer of the user's, called so; None where `call` says what no graph holds."""
    if (isinstance(layer, keras.Model) and has_graph(layer)) or not layer.built:
        return None
    if OnlyInTraining.works(layer, args, options):
        return OnlyInTraining
    return Traced if not _adds_losses(layer) and Traced.works(layer, args, options) else None


def is_one_activation(layer: Any, args: tuple, options: dict) -> bool:
    """Whether a Lambda calls one activation, of which a saved model keeps the name; a function it
    keeps as code, which Keras cannot run again where it names what it imported."""
    try:
        calls = (
            _Inside(layer, lambda name: name, "").operations(args, options, BATCHES[0], None).calls
        )
    except Exception:  # it may do anything
        return False
    return len(calls) == 1 and class_name(calls[0].operation) in ACTIVATIONS


def _adds_losses(layer: Any) -> bool:
    """Whether its `call` adds losses, beside those of regularised weights."""
    regularised = [v for v in layer.trainable_variables if v.regularizer is not None]
    return len(layer.losses) > len(regularised)


class Traced(Opened):
    """The operations, and the layers that it has inside.

    It need not be rebuildable from its config, and its layers stay as they are.
    """

    def make(self) -> None:
        self.inside = _Inside(self.layer, self.unique, self.name)
        self.parts = self.inside.made

    def __call__(self, *args: Any, **options: Any) -> Tensor:
        try:
            return _rebuilt(self.inside, args, options)
        except KeptValueError as error:
            raise UnsupportedLayerError(
                "apply requires layers of yours whose calls stand for themselves. Received: "
                f"'{self.layer.name}' ({type(self.layer).__name__}), called several times, with "
                f"{error}. Give it to the call as an argument."
            ) from error

    def take_weights(self, weights: list[np.ndarray]) -> None:
        """Aliases have them."""

    @staticmethod
    def works(layer: Any, args: tuple, options: dict) -> bool:
        return not why_not(layer, args, options)


def why_not(layer: Any, args: tuple, options: dict) -> str:
    """What keeps a layer of the user's from being what it is written in; "" if nothing does.

    The batch of the values is open, or 1 as in a net that is written.
    """

    if not is_of_keras(type(layer).__call__):
        return "a __call__ of its own"

    def given_as(x: Any) -> Any:
        if not _is_open(x):
            return x
        first = None if x.shape[0] == 1 else x.shape[0]
        return keras.Input(batch_shape=(first, *x.shape[1:]), dtype=x.dtype)

    given = keras.tree.map_structure(given_as, (args, options))
    try:
        inside = _Inside(layer, lambda name: name, layer.name)
        made = keras.tree.flatten(_rebuilt(inside, *given))
    except ValueError as error:
        return str(error).splitlines()[0][:120] if str(error) else "an error of its call"
    except Exception as error:
        says = (str(error).splitlines() or [""])[0][:80]
        return f"{type(error).__name__} in its call on symbolic values: {says}"
    sized = all(keras.utils.is_keras_tensor(x) and None not in x.shape[1:] for x in made)
    return "" if made and sized else "results of open sizes"


class OnlyInTraining(Opened):
    """Its input at inference, or always, with a loss."""

    def make(self) -> None:
        self.whole = self.part(InTraining(self.layer, name=self.name))

    def __call__(self, x: Tensor, *_: Any, **__: Any) -> Tensor:
        return self.whole(x)

    @staticmethod
    def works(layer: Any, args: tuple, options: dict) -> bool:
        if layer.weights or len(args) != 1 or not _is_open(args[0]):
            return False
        losses: list[Any] = []
        shadow = object.__new__(type(layer))
        vars(shadow).update({**vars(layer), "add_loss": losses.append})
        x = keras.KerasTensor(args[0].shape, dtype=args[0].dtype)
        trains = {"training": False} if "training" in _parameters(layer) else {}
        try:
            return shadow.call(x, **trains) is x and bool(trains or losses)
        except Exception:
            return False


# -- running `call` ------------------------------------------------------------------------------


class _Inside:
    """A layer with stand-ins for what it holds.

    Attributes:
      made: the stand-ins, each once, in order.
    """

    def __init__(self, layer: Any, unique: Callable[[str], str], name: str) -> None:
        self.layer, self.unique, self.name = layer, unique, name
        self.made: list[keras.layers.Layer] = []
        self._aliases: dict[int, Any] = {}
        self._weights: dict[int, Weight] = {}
        self._constants: dict[tuple, Constant] = {}
        self._names: dict[str, str] = {}
        inner = {id(v) for x in layer._flatten_layers(include_self=False) for v in x.weights}
        self.own = {id(v): v for v in layer.weights if id(v) not in inner}
        for variable in self.own.values():
            if variable.dtype.startswith(("float", "bfloat")):
                made = Weight.of(variable, unique(f"{name}_{variable.name}"))
                self._weights[id(variable)] = made
                self.made.append(made)

    def operations(self, args: tuple, options: dict, batch: int, training: Any) -> Graph:
        """What `call` does with values of this batch.

        Raises:
          Exception: anything that it raises; a layer that it holds where none is looked for.
        """
        values = [x for x in keras.tree.flatten((args, options)) if _is_open(x)]
        inputs = [
            keras.Input(
                batch_shape=(batch if x.shape[0] is None else x.shape[0], *x.shape[1:]),
                dtype=x.dtype,
            )
            for x in values
        ]
        places = iter(inputs)
        args, options = keras.tree.map_structure(
            lambda x: next(places) if _is_open(x) else x, (args, options)
        )
        function = self._function(inputs[0])
        if "training" in _parameters(self.layer):
            options = {**options, "training": training}
        with recorded(), as_tensors(), keras.StatelessScope() as scope:
            made = function(*args, **options)
        if scope.state_mapping and training is None:
            raise ValueError("variables that its call assigns to")
        return read(keras.Model(inputs, made))

    def _function(self, like: Any) -> Callable[..., Any]:
        if isinstance(self.layer, keras.layers.Lambda):
            function, extra = self.layer.function, self.layer.arguments or {}
            return lambda x, **_: function(x, **extra)
        found: set[int] = set()

        def other(value: Any) -> Any:
            if isinstance(value, keras.Model) and has_graph(value):
                found.add(id(value))
                return keras.models.clone_model(value, clone_function=self.alias)
            if isinstance(value, keras.layers.Layer):
                found.add(id(value))
                alias = self.alias(value)
                return _Part(self, alias, like) if alias.weights else alias
            if isinstance(value, keras.Variable):
                return self.weight(value, like) if id(value) in self.own else value
            if isinstance(value, list):
                return [other(x) for x in value]
            if isinstance(value, dict):
                return {key: other(x) for key, x in value.items()}
            return tuple(map(other, value)) if type(value) is tuple else value

        shadow = object.__new__(type(self.layer))
        vars(shadow).update({key: other(value) for key, value in vars(self.layer).items()})
        vars(shadow)["add_loss"] = _adds_a_loss
        if any(id(child) not in found for child in self.layer._layers):
            raise ValueError("layers in something else than lists")
        return shadow.call

    def alias(self, layer: Any) -> Any:
        """A layer with the variables of another, called elsewhere by another name."""
        if id(layer) not in self._aliases:
            made = object.__new__(type(layer))
            vars(made).update(vars(layer))
            name = self.unique(f"{self.name}_{layer.name}")
            vars(made).update(name=name, _inbound_nodes=[], _outbound_nodes=[])
            self._aliases[id(layer)] = made
            self.made.append(made)
        return self._aliases[id(layer)]

    def weight(self, variable: Any, like: Any) -> Any:
        """A weight of the layer's own; whole numbers (places in a table) are constants."""
        if not variable.dtype.startswith(("float", "bfloat")):
            return ops.convert_to_numpy(variable)
        return self._weights[id(variable)](like)

    def constant(self, values: Any, like: Any) -> Any:
        array = ops.convert_to_numpy(values)
        key = (array.dtype.name, array.shape, array.tobytes())
        if key not in self._constants:
            name = self.unique(f"{self.name}_constant")
            self._constants[key] = Constant(array, array.dtype.name, name=name)
            self.made.append(self._constants[key])
        return self._constants[key](like)


def _adds_a_loss(*_: Any) -> None:
    raise ValueError("a loss that its call adds, which no graph holds")


class _Part:
    """A layer with weights: what it makes of constants is no constant, but trains with them."""

    def __init__(self, inside: _Inside, alias: Any, like: Any) -> None:
        self._inside, self._alias, self._like = inside, alias, like

    def __call__(self, *args: Any, **options: Any) -> Any:
        flat = keras.tree.flatten((args, options))
        if not any(keras.utils.is_keras_tensor(x) for x in flat):
            args, options = keras.tree.map_structure(
                lambda x: self._inside.constant(x, self._like) if _is_array(x) else x,
                (args, options),
            )
        return self._alias(*args, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._alias, name)


# -- with the batch left open --------------------------------------------------------------------


def _rebuilt(inside: _Inside, args: tuple, options: dict) -> Tensor:
    """What the layer makes of symbolic values, in operations for every batch.

    Raises:
      Exception: `call` cannot be run so.
      ValueError: it computes otherwise in training, or does something with the batch.
    """
    values = [x for x in keras.tree.flatten((args, options)) if _is_open(x)]
    graph, other = (inside.operations(args, options, batch, None) for batch in BATCHES)
    if "training" in _parameters(inside.layer):
        trained, other_trained = (
            inside.operations(args, options, batch, True) for batch in BATCHES
        )
        if _steps(trained) != _steps(graph):
            at_inference = [x for x in _steps(trained) if x not in NOTHING_AT_INFERENCE]
            if at_inference != [x for x in _steps(graph) if x not in NOTHING_AT_INFERENCE]:
                raise ValueError("a call that computes otherwise in training")
            graph, other = trained, other_trained
    if _steps(graph) != _steps(other):
        raise ValueError("a call that computes otherwise for another batch")
    own = OwnKernels(graph, other, inside.name, inside.unique, inside.made)
    rest = [call for call in graph.calls if not call.is_layer and not own.writes(call)]
    unknown = {
        f"{kind} of keras.ops inside{own.why_not(call)}"
        for call in rest
        if (kind := _without_rule(call))
    }
    if unknown:
        raise ValueError(_listed(unknown))
    like = next(x for x in values if x.shape[0] is None)
    pairs = iter(zip(graph.calls, other.calls, strict=True))

    def compute(call: Call, args: tuple, options: dict) -> Any:
        _, twin = next(pairs)
        made = own.compute(call, args, options)
        if made is not None:
            return made
        args, options = own.given(call, args, options, like)
        options = {key: x for key, x in options.items() if key != "training"}
        return _open_call(inside, call, twin, args, options, like)

    return graph.run(values, compute)


def _open_call(
    inside: _Inside, call: Call, twin: Call, args: tuple, options: dict, like: Any
) -> Any:
    """One call of the graph, for every batch."""
    if call.is_layer:
        if isinstance(call.operation, Constant) and call.operation is not twin.operation:
            raise ValueError(ANOTHER_EACH_TIME)
        made_in_call = all(call.operation is not part for part in inside.made)
        operation = inside.alias(call.operation) if made_in_call else call.operation
        made = keras.tree.flatten(operation(*args, **options))
        pairs = zip(made, call.results, twin.results, strict=True)
        made = [_with_sizes(*each) for each in pairs]
        return keras.tree.pack_sequence_as(call.outputs, made)
    kind, (result, *_), (other, *_) = kind_of(call.operation), call.results, twin.results
    if kind in WITHOUT_RULE or (kind == "Tensordot" and len(twin.inputs[-1].shape) <= 2):
        name = inside.unique(f"{inside.name}_{call.operation.name}")
        if (others := composed(call, name)) is not None:
            return others(*args, **options)
    if kind in ("ConvertToTensor", "Cast") and result.is_float and call.inputs[0].is_float:
        return args[0]
    changed = [i for i, (a, b) in enumerate(zip(result.shape, other.shape, strict=True)) if a != b]
    if kind == "Reshape" and None in result.shape:
        raise ValueError("a reshape to sizes that are open")
    if kind == "Reshape" and len(changed) <= 1:
        shape = [-1 if i in changed else n for i, n in enumerate(result.shape)]
        return ops.reshape(args[0], shape)
    given = call.inputs
    if kind in ("BroadcastTo", "Repeat", "Tile") and changed == [0]:
        if given[0].shape[:1] == result.shape[:1] and kind == "BroadcastTo":
            return _repeated(args[0], result.shape)
        if given[0].shape == twin.inputs[0].shape and _is_one(given[0], result):
            one = ops.reshape(args[0], (1, *result.shape[1:]))
            return ForEach(name=inside.unique(f"{inside.name}_for_each"))(one, like)
    if kind == "Slice" and changed == [0]:
        starts = [int(n) for n in (*args, *options.values())[1]]
        ends = [b + int(n or 0) for b, n in zip(starts, result.shape, strict=True)]
        return args[0][(slice(None), *map(slice, starts[1:], ends[1:]))]
    if _settings(call.operation) != _settings(twin.operation):
        raise ValueError(f"{kind} of keras.ops inside, by the size of the batch")
    args, options = _constants_of_one(inside, call, twin, args, options, like)
    config = call.operation.get_config()
    name = inside.unique(f"{inside.name}_{call.operation.name}")
    return type(call.operation).from_config({**config, "name": name})(*args, **options)


def _with_sizes(x: Any, result: Value, other: Value) -> Any:
    """A result of which only the batch is open: a layer of the user's that reshapes by the sizes
    that it reads, (batch, -1, heads, channels), leaves others open too."""
    changed = [i for i, (a, b) in enumerate(zip(result.shape, other.shape, strict=True)) if a != b]
    if None not in x.shape[1:] or None in result.shape or changed != [0]:
        return x
    return ops.reshape(x, (-1, *result.shape[1:]))


def _repeated(x: Any, shape: Any) -> Any:
    """Broadcast along all axes but the batch."""
    x = ops.reshape(x, (-1, *(1,) * (len(shape) - len(x.shape)), *x.shape[1:]))
    for axis in range(1, len(shape)):
        if x.shape[axis] != shape[axis]:
            x = ops.repeat(x, shape[axis], axis=axis)
    return x


def _is_one(given: Value, result: Value) -> bool:
    """Whether only the batch is new."""
    sizes = [n for n in given.shape if n != 1]
    return sizes == [n for n in result.shape[1:] if n != 1]


def _constants_of_one(
    inside: _Inside, call: Call, twin: Call, args: tuple, options: dict, like: Any
) -> tuple[tuple, dict]:
    """Arguments with arrays made for the batch (zeros, say) as values for each example."""

    def one(x: Any, mine: Any, other: Any) -> Any:
        if _is_open(mine):
            return x
        if not _is_array(mine) or tuple(mine.shape) == tuple(other.shape):
            if not _is_same(mine, other):
                raise ValueError(ANOTHER_EACH_TIME)
            return x
        array = ops.convert_to_numpy(mine)
        if np.any(array != array[:1]):
            raise ValueError("numbers that differ from example to example")
        made = inside.constant(array[:1], like)
        return ForEach(name=inside.unique(f"{inside.name}_for_each"))(made, like)

    flat = (
        keras.tree.flatten(x)
        for x in ((args, options), (call.args, call.kwargs), (twin.args, twin.kwargs))
    )
    parts = [one(*x) for x in zip(*flat, strict=False)]
    return keras.tree.pack_sequence_as((args, options), parts)


def _without_rule(call: Call) -> str:
    """The name of an operation that no rule writes; "" of others."""
    from ec2t_tf.export.lower.pending import RULES  # which reads graphs by this room

    name = class_name(call.operation)
    known = has_rule(kind_of(call.operation)) or name in (*RULES, "ConvertToTensor")
    known = known or composed(call, name) is not None
    return "" if known else name


def _listed(found: set[str]) -> str:
    """The names of operations once before what all share."""
    tail = " of keras.ops inside"
    plain = sorted(x.removesuffix(tail) for x in found if x.endswith(tail))
    others = sorted(x for x in found if not x.endswith(tail))
    return " and ".join([*([f"{', '.join(plain)}{tail}"] if plain else []), *others])


def _settings(operation: Any) -> dict[str, Any]:
    return {k: v for k, v in vars(operation).items() if not k.startswith("_") and k != "name"}


def _steps(graph: Graph) -> list[str]:
    return [kind_of(call.operation) for call in graph.calls]


def _parameters(layer: Any) -> Any:
    return inspect.signature(layer.call).parameters


def _is_open(x: Any) -> bool:
    """A value of a graph, or what stands for one."""
    return isinstance(x, Value) or keras.utils.is_keras_tensor(x)


class KeptValueError(ValueError):
    """A call reads a symbolic value of a call that is over."""


def _is_same(x: Any, y: Any) -> bool:
    """Whether two calls were given the same numbers, or anything else."""
    if not _is_array(x):
        return bool(x == y)
    try:
        return np.array_equal(ops.convert_to_numpy(x), ops.convert_to_numpy(y))
    except Exception as error:
        raise KeptValueError("a value that the layer keeps from another call") from error


def _is_array(x: Any) -> bool:
    return not _is_open(x) and hasattr(x, "shape") and hasattr(x, "dtype")
