"""A graph in exact integers as a Keras 3 model, on the backend that Keras has."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops

from ec2t_tf.export.graph import Graph, Tensor

from .interpreter import Interpreter, outside
from .keras_arrays import KerasArrays
from .node import RULES, Node, NotTraceableError, Step, limits, prepare, scale_of, zero_of
from .numpy_arrays import NumPyArrays
from .program import Program
from .state import State


def keras_model(graph: Graph, *, rounding: str = "reference") -> keras.Model:
    """A model that takes and gives float32 and computes the codes of a runtime in between.

    An input of the net that holds codes is quantised first, halves away from zero; an output that
    holds codes is returned as real numbers. Every call begins with the initial state.

    Args:
      rounding: as of `Interpreter`.

    Raises:
      NotExactError: an operator is not known bit for bit in this rounding.
    """
    tensors = [graph.tensors[index] for index in graph.inputs]
    inputs = [keras.Input(outside(tensor), dtype="float32") for tensor in tensors]
    outputs = Exact(graph, rounding=rounding, name="exact")(inputs)
    return keras.Model(*(one[0] if len(one) == 1 else one for one in (inputs, outputs)))


class Exact(keras.layers.Layer):
    """float32 inputs (n, ...) of a net -> list of its float32 outputs."""

    def __init__(self, graph: Graph, *, rounding: str = "reference", **arguments: Any) -> None:
        super().__init__(trainable=False, dtype="float32", **arguments)
        self.built = True
        self._graph, self._xp, self._state = graph, KerasArrays(), State()
        # In NumPy it says what is refused, and runs what sets the state.
        numpy = Interpreter(graph, rounding=rounding)
        self._initial = {key: self._xp.constant(value) for key, value in numpy.state.values.items()}
        self._program = Program(graph, rounding, self._xp, self._state, prepare=_prepare)

    def call(self, inputs: Any) -> list[Any]:
        given = inputs if isinstance(inputs, list | tuple) else [inputs]
        values = [
            self._entered(x, self._graph.tensors[index])
            for x, index in zip(given, self._graph.inputs, strict=True)
        ]
        self._state.values = dict(self._initial)
        self._state.samples = ops.shape(values[0])[0]
        found = self._program.run(values)
        return [
            self._left(value, self._graph.tensors[index])
            for value, index in zip(found, self._graph.outputs, strict=True)
        ]

    def compute_output_spec(self, inputs: Any, **_: Any) -> list[keras.KerasTensor]:
        tensors = [self._graph.tensors[index] for index in self._graph.outputs]
        return [keras.KerasTensor((None, *outside(t)), dtype="float32") for t in tensors]

    def _entered(self, x: Any, tensor: Tensor) -> Any:
        x = ops.reshape(ops.cast(x, "float32"), (-1, *tensor.shape))
        if tensor.dtype == "float32":
            return x
        low, high = limits(tensor.dtype)
        zero = zero_of(tensor)
        if not tensor.scale.size:
            return self._xp.integers(x)
        return self._xp.nearest(scale_of(tensor), zero, low, high)(x)

    def _left(self, value: Any, tensor: Tensor) -> Any:
        value = ops.reshape(value, (-1, *outside(tensor)))
        if tensor.dtype == "float32" or not tensor.scale.size:
            return self._xp.floats(value)
        return self._xp.floats(value - zero_of(tensor)) * self._xp.constant(scale_of(tensor))


def _prepare(node: Node) -> Step:
    """With `keras.ops`, or in NumPy where that is not possible."""
    rule = RULES.get(node.kind)
    if rule is None or not rule.host:
        try:
            return prepare(node)
        except NotTraceableError:
            pass
    state = State()
    step = prepare(
        Node(node.graph, node.operator, node.number, node.rounding, NumPyArrays(), state)
    )

    def compute(*given: Any) -> Any:
        state.clear()
        state.samples = next(len(x) for x in given if x is not None)
        return step(*given)

    return lambda *given: node.xp.host(compute, given, node.outputs)
