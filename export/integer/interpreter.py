"""A graph computed in exact integers, with NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np

from ec2t_tf.export.graph import Graph, Tensor

from .node import ROUNDINGS
from .numpy_arrays import NumPyArrays
from .program import Program
from .state import State


class Interpreter:
    """What a runtime computes from a net, bit for bit.

    Values have n samples in front, where n stands in place of a batch of 1. State (variables, LSTM,
    SVDF) is kept from call to call, one stream a sample; `reset` begins anew.

    Args:
      graph: the net.
      rounding: "reference" is BUILTIN_REF of LiteRT and our C code; "xnnpack" is LiteRT's default
        on x86-64, with the builtin kernel where XNNPACK leaves an operator; "builtin" is LiteRT
        without its default delegate, one thread; "micro" is TensorFlow Lite Micro.

    Attributes:
      state: what is kept from call to call.

    Raises:
      NotExactError: an operator is not known bit for bit in this rounding.
    """

    def __init__(self, graph: Graph, *, rounding: str = "reference") -> None:
        if rounding not in ROUNDINGS:
            raise ValueError(f"rounding must be among {ROUNDINGS}. Received: {rounding!r}.")
        self.graph, self.rounding = graph, rounding
        self._xp, self.state = NumPyArrays(), State()
        self._program = Program(graph, rounding, self._xp, self.state)
        start = graph.initial
        self._initial = None if start is None else Program(start, rounding, self._xp, self.state)
        self.reset()

    @property
    def keeps_state(self) -> bool:
        """Whether a call depends on the calls before it."""
        return any(tensor.variable or tensor.dtype == "resource" for tensor in self.graph.tensors)

    def reset(self) -> None:
        """Begins anew: every state has its initial value."""
        self.state.clear()
        if self._initial is not None:
            self._initial.run(())

    def __call__(self, *inputs: Any) -> Any:
        """Codes (or floats) of the net's inputs -> its output, or a list of several.

        Args:
          inputs: one array an input, in the order of the graph, of the tensor's type: (n,
            *shape[1:]) where the tensor's batch is 1, else (n, *shape).

        Raises:
          ValueError: their number, shape or type is not the graph's; with a state, n differs from
            the call before.
        """
        values = self._entered(inputs)
        self.state.begin(len(values[0]) if values else 1)
        found = self._program.run(values)
        outputs = [
            _left(value, self.graph.tensors[index])
            for value, index in zip(found, self.graph.outputs, strict=True)
        ]
        return outputs[0] if len(outputs) == 1 else outputs

    def _entered(self, inputs: tuple[Any, ...]) -> list[Any]:
        graph = self.graph
        if len(inputs) != len(graph.inputs):
            raise ValueError(
                f"the net has {len(graph.inputs)} inputs. Received: {len(inputs)} arrays."
            )
        values: list[Any] = []
        for index, given in zip(graph.inputs, inputs, strict=True):
            tensor, array = graph.tensors[index], np.asarray(given)
            inner = outside(tensor)
            if array.shape[1:] != inner or array.ndim != len(inner) + 1:
                raise ValueError(
                    f"input {tensor.name!r} must have the shape (n, "
                    f"{', '.join(map(str, inner))}). Received: {array.shape}."
                )
            if array.dtype != tensor.dtype:
                raise ValueError(
                    f"input {tensor.name!r} must be {tensor.dtype}. Received: {array.dtype}."
                )
            if len(array) != (len(values[0]) if values else len(array)):
                raise ValueError(
                    f"every input must have the same number of samples. Received: {len(values[0])} "
                    f"and {len(array)}."
                )
            values.append(self._xp.constant(array.reshape(-1, *tensor.shape)))
        return values


def outside(tensor: Tensor) -> tuple[int, ...]:
    """The shape of one sample of an input or output: without a batch of 1."""
    return tensor.shape[1:] if tensor.shape[:1] == (1,) else tensor.shape


def _left(value: Any, tensor: Tensor) -> Any:
    return np.asarray(value).reshape(-1, *outside(tensor)).astype(tensor.dtype)
