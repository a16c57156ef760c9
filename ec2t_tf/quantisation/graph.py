"""Reading the graph of a Keras 3 model as data, nested models opened, and running it anew.

Only public Keras is used: `clone_model` hands every call of the graph to a function. The user's
layers are not called, so that they keep the one node that they have.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import keras

from ec2t_tf.built_in import is_of_keras
from ec2t_tf.quantisation.values import Constant

BATCHES = (5040, 10080)  # which many numbers divide: windows of an image are a batch, too


@dataclasses.dataclass(frozen=True)
class Value:
    """A tensor of the graph: output `index` of call number `maker`; -1 makes the inputs."""

    maker: int
    index: int
    shape: tuple[int | None, ...] = dataclasses.field(compare=False)
    dtype: str = dataclasses.field(compare=False)

    @property
    def is_float(self) -> bool:
        return "float" in self.dtype


@dataclasses.dataclass(frozen=True)
class Call:
    """One call of a layer, or of an operation of `keras.ops`.

    Attributes:
      number: its position in the graph, which is the order of execution.
      operation: the user's layer or operation.
      name: of the layer in the opened graph: the user's, or that of a nested model in front.
      args, kwargs: structures with `Value` in place of tensors.
      outputs: the structure of what it returns, likewise.
      frozen: it, or a model around it, was called with `training=False`.
    """

    number: int
    operation: keras.Operation
    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    outputs: Any
    frozen: bool

    @property
    def inputs(self) -> list[Value]:
        return list(_values((self.args, self.kwargs)))

    @property
    def results(self) -> list[Value]:
        return list(_values(self.outputs))

    @property
    def is_layer(self) -> bool:
        return isinstance(self.operation, keras.layers.Layer)


@dataclasses.dataclass(frozen=True)
class Graph:
    """All calls in the order in which they run.

    `inputs` and `outputs` have the structure of the model's, with `Value` in place of tensors;
    `input_names` are those of the inputs one after the other.
    """

    name: str
    inputs: Any
    input_names: tuple[str, ...]
    calls: tuple[Call, ...]
    outputs: Any

    @property
    def results(self) -> list[Value]:
        """Its outputs, one after the other."""
        return list(_values(self.outputs))

    def at_inference(self) -> tuple[Call, ...]:
        """The calls without masks, which only training has (see `require_no_masked_inference`)."""
        wanted, kept = set(self.results), []
        for call in reversed(self.calls):
            if wanted.isdisjoint(call.results):
                continue
            options = {k: v for k, v in call.kwargs.items() if not (call.is_layer and k == "mask")}
            kept.append(dataclasses.replace(call, kwargs=options))
            wanted.update(kept[-1].inputs)
        return tuple(reversed(kept))

    def consumers(self) -> dict[Value, list[Call | None]]:
        """Who uses each value, one entry a use; None stands for the model's output."""
        found: dict[Value, list[Call | None]] = {}
        for call in self.calls:
            for value in call.inputs:
                found.setdefault(value, []).append(call)
        for value in self.results:
            found.setdefault(value, []).append(None)
        return found

    def run(self, inputs: Any, compute: Callable[[Call, tuple, dict], Any]) -> Any:
        """The outputs for these inputs; `compute` gives what a call returns for its arguments."""
        made = dict(zip(_values(self.inputs), keras.tree.flatten(inputs), strict=True))

        def filled(structure: Any) -> Any:
            return keras.tree.map_structure(
                lambda x: made[x] if isinstance(x, Value) else x, structure
            )

        for call in self.calls:
            results = compute(call, filled(call.args), filled(call.kwargs))
            made.update(zip(call.results, keras.tree.flatten(results), strict=True))
        return filled(self.outputs)


def _values(structure: Any) -> Iterator[Value]:
    return (x for x in keras.tree.flatten(structure) if isinstance(x, Value))


class _Recorded(keras.Operation):
    """Stands for an operation of the user's in a graph that is only read."""

    def __init__(self, operation: keras.Operation, *, sized: bool = False) -> None:
        super().__init__()
        self.operation, self.sized = operation, sized

    def call(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError("A recorded graph is not computed.")

    def compute_output_spec(self, *args: Any, **kwargs: Any) -> Any:
        spec = self.operation.compute_output_spec(*args, **kwargs)
        if not self.sized:
            return self._of_every_batch(spec, args, kwargs)
        if all(None not in x.shape for x in keras.tree.flatten(spec)):
            return spec
        # Some layers (EinsumDense) do not say all sizes: they are called on zeros.
        args, kwargs = keras.tree.map_structure(
            lambda x: keras.ops.zeros(x.shape, x.dtype) if keras.utils.is_keras_tensor(x) else x,
            (args, kwargs),
        )
        return keras.tree.map_structure(
            lambda x: keras.KerasTensor(tuple(x.shape), keras.backend.standardize_dtype(x.dtype)),
            self.operation(*args, **kwargs),
        )

    def _of_every_batch(self, spec: Any, args: tuple, kwargs: dict) -> Any:
        """The sizes that are the same for two batches: a layer of the user's that reshapes by the
        sizes that it reads, (batch, -1, heads, channels), leaves them open with the batch."""
        given = [x for x in keras.tree.flatten((args, kwargs)) if keras.utils.is_keras_tensor(x)]
        if (
            is_of_keras(type(self.operation))
            or all(None not in x.shape[1:] for x in keras.tree.flatten(spec))
            or any(None in x.shape[1:] or x.shape[:1] != (None,) for x in given)
        ):
            return spec

        def with_batch(batch: int) -> list[Any]:
            filled = keras.tree.map_structure(
                lambda x: (
                    keras.KerasTensor((batch, *x.shape[1:]), x.dtype)
                    if keras.utils.is_keras_tensor(x)
                    else x
                ),
                (args, kwargs),
            )
            made = self.operation.compute_output_spec(*filled[0], **filled[1])
            return keras.tree.flatten(made)

        made = [
            keras.KerasTensor(
                tuple(a if a == b else None for a, b in zip(x.shape, y.shape, strict=True)), x.dtype
            )
            for x, y in zip(*map(with_batch, BATCHES), strict=True)
        ]
        return keras.tree.pack_sequence_as(spec, made)


def _takes_training(operation: Any) -> bool:
    parameters = inspect.signature(operation.call).parameters.values()
    return any(p.name == "training" or p.kind is p.VAR_KEYWORD for p in parameters)


def has_graph(model: keras.Model) -> bool:
    """Whether a model is of layers that it knows; a subclassed one has only a `call`."""
    return isinstance(model, keras.Sequential) or hasattr(model, "operations")


def functional(model: keras.Model) -> keras.Model:
    """The model's graph as a functional model that is not compiled; layers are shared with it."""
    if isinstance(model, keras.Sequential):
        return keras.Model(model.inputs[0], model.outputs[0], name=model.name)
    return keras.Model(model.input, model.output, name=model.name)


def read(model: keras.Model, *, batch: int | None = None) -> Graph:
    """The graph of a built Sequential or functional model, with nested models opened.

    With a `batch` given, all sizes are known.

    Raises:
      ValueError: they are not: an input has a size that is left open.
    """
    if batch is not None:
        require_sizes(model)
    return _Reader(model, batch).graph


def require_sizes(model: keras.Model) -> None:
    """Raises a ValueError if not all inputs have sizes, as the tensors of a file have."""
    for value in keras.tree.flatten(functional(model).input):
        require_sizes_of(value.name, value.shape, value.dtype)


def require_sizes_of(name: str, shape: Any, dtype: str) -> None:
    """Raises a ValueError if an input has not all sizes but the batch."""
    shape = tuple(shape[1:])
    if None in shape:
        sized = tuple(n or 96 for n in shape)
        raise ValueError(
            "A model whose inputs have sizes is required, as the exported file has: only the "
            f"batch may be open. Received: '{name}' with shape {(None, *shape)}. Wrap it "
            f"first in the size that the device will see, say 96: x = Input({sized}, "
            f"dtype='{dtype}'); model = Model(x, model(x))."
        )


def require_any_batch(name: str, shape: Any, dtype: str) -> None:
    """Raises a ValueError if an input is of several examples and no other number of them."""
    if shape[0] not in (None, 1):
        raise ValueError(
            "A model of any batch, or of single examples, is required: a file takes one at a time. "
            f"Received: '{name}' with shape {tuple(shape)}. Make it with Input({tuple(shape[1:])}, "
            f"dtype='{dtype}'), and with -1 for the batch where the model reshapes."
        )


class _Reader:
    def __init__(self, model: keras.Model, batch: int | None = None) -> None:
        self.batch = batch
        # One that was not started with an Input has the batch that it was first given.
        self.is_open = isinstance(model, keras.Sequential)
        self.calls: list[Call] = []
        self.names = {layer.name for layer in model.layers if not isinstance(layer, keras.Model)}
        self.given_names: dict[int, str] = {}
        source = functional(model)
        flat = keras.tree.flatten(source.input)
        values = [
            Value(-1, i, self.sized(x.shape), keras.backend.standardize_dtype(x.dtype))
            for i, x in enumerate(flat)
        ]
        outputs = self.open(source, values, prefix="", frozen=False)
        self.graph = Graph(
            model.name,
            keras.tree.pack_sequence_as(source.input, values),
            tuple(x.name for x in flat),
            tuple(self.calls),
            outputs,
        )

    def sized(self, shape: Any) -> tuple[int | None, ...]:
        first, *rest = shape
        first = None if self.is_open and first != 1 else first
        return (self.batch if first is None else first, *rest)

    def open(self, model: keras.Model, given: list[Value], *, prefix: str, frozen: bool) -> Any:
        """Append the calls of `model` on these inputs; what it returns."""
        made: dict[int, Value] = {}
        alive: list[Any] = []  # so that ids stay unique

        def there(structure: Any) -> Any:
            return keras.tree.map_structure(
                lambda x: made[id(x)] if keras.utils.is_keras_tensor(x) else x, structure
            )

        def record(operation: Any, *args: Any, **kwargs: Any) -> Any:
            if "training" in kwargs and not _takes_training(operation):
                del kwargs["training"]  # as Keras does
            outputs = _Recorded(operation, sized=self.batch is not None)(*args, **kwargs)
            alive.append((args, kwargs, outputs))
            results = keras.tree.flatten(outputs)
            is_frozen = frozen or kwargs.get("training") is False
            if isinstance(operation, keras.Model) and has_graph(operation):
                given = (args, {key: x for key, x in kwargs.items() if key != "mask"})
                inner = self.open(
                    functional(operation),
                    self.given_to(operation, there(given)),
                    prefix=operation.name,
                    frozen=is_frozen,
                )
                made.update(
                    (id(x), value) for x, value in zip(results, _values(inner), strict=True)
                )
                return outputs
            number = len(self.calls)
            values = [
                Value(number, i, tuple(x.shape), keras.backend.standardize_dtype(x.dtype))
                for i, x in enumerate(results)
            ]
            call = Call(
                number,
                operation,
                self.name_of(operation, prefix),
                there(args),
                there(kwargs),
                keras.tree.pack_sequence_as(outputs, values),
                is_frozen,
            )
            self.calls.append(call)
            made.update((id(x), value) for x, value in zip(results, values, strict=True))
            return outputs

        inputs = [
            keras.Input(batch_shape=value.shape, dtype=x.dtype, name=x.name)
            for x, value in zip(keras.tree.flatten(model.input), given, strict=True)
        ]
        made.update((id(x), value) for x, value in zip(inputs, given, strict=True))
        copy = keras.models.clone_model(
            model,
            input_tensors=keras.tree.pack_sequence_as(model.input, inputs),
            clone_function=lambda layer: layer,
            call_function=record,
        )
        return there(copy.output)

    def given_to(self, model: keras.Model, given: Any) -> list[Value]:
        """The inputs of a nested model; arrays among them are constants of the net."""
        found = [x for x in keras.tree.flatten(given) if hasattr(x, "shape")]
        like = next(x for x in found if isinstance(x, Value))
        return [
            x if isinstance(x, Value) else self.constant(x, f"{model.name}_given", like)
            for x in found
        ]

    def constant(self, array: Any, name: str, like: Value) -> Value:
        kind = keras.backend.standardize_dtype(array.dtype)
        values = keras.ops.convert_to_numpy(array)
        value = Value(len(self.calls), 0, tuple(array.shape), kind)
        made = Constant(values, kind, name=f"{name}_{value.maker}")  # by its call: no name twice
        name = self.name_of(made, "")
        self.calls.append(Call(value.maker, made, name, (like,), {}, value, frozen=False))
        return value

    def name_of(self, operation: Any, prefix: str) -> str:
        """The user's name, but for a layer of a nested model whose name another layer has."""
        if id(operation) not in self.given_names:
            name = operation.name
            if prefix and name in self.names:
                name = f"{prefix}_{name}"
                while name in self.names:
                    name += "_"
            self.names.add(name)
            self.given_names[id(operation)] = name
        return self.given_names[id(operation)]
