"""A graph computed in exact integers."""

from __future__ import annotations

from typing import Any

import numpy as np

from ec2t_tf.export.graph import Graph, Tensor

from .node import ROUNDINGS, Node, prepare
from .numpy_arrays import NumPyArrays


class Interpreter:
    """What a runtime computes from a net, bit for bit.

    Values have n samples in front: (n, *shape of the tensor), where n stands in place of a batch
    of 1. State is kept from call to call, one stream a sample; `reset` begins anew.

    Args:
      graph: the net.
      rounding: "reference" is BUILTIN_REF of LiteRT and our C code; "xnnpack" is LiteRT's default
        on x86-64, with the builtin kernel where XNNPACK leaves an operator; "builtin" is LiteRT
        without its default delegate; "micro" is TensorFlow Lite Micro.

    Raises:
      NotExactError: an operator is not known bit for bit in this rounding.
    """

    def __init__(self, graph: Graph, *, rounding: str = "reference") -> None:
        if rounding not in ROUNDINGS:
            raise ValueError(f"rounding must be among {ROUNDINGS}. Received: {rounding!r}.")
        self.graph, self.rounding = graph, rounding
        self._xp = NumPyArrays()
        self._steps = [
            (operator, prepare(Node(graph, operator, number, rounding, self._xp)))
            for number, operator in enumerate(graph.operators)
        ]
        self._last = self._last_uses()

    def __call__(self, *inputs: Any) -> Any:
        """Codes (or floats) of the net's inputs -> its output, or a list of several.

        Args:
          inputs: one array an input, in the order of the graph, of the tensor's type: (n,
            *shape[1:]) where the tensor's batch is 1, else (n, *shape).

        Raises:
          ValueError: their number, shape or type is not the graph's.
        """
        values = self._entered(inputs)
        for number, (operator, step) in enumerate(self._steps):
            given = [values.get(i) if i >= 0 else None for i in operator.inputs]
            found = step(*given)
            parts = found if isinstance(found, tuple) else (found,)
            values.update(zip(operator.outputs, parts, strict=True))
            for done in self._last[number]:
                values.pop(done, None)
        outputs = [self._left(values[i], self.graph.tensors[i]) for i in self.graph.outputs]
        return outputs[0] if len(outputs) == 1 else outputs

    def _last_uses(self) -> list[list[int]]:
        """Tensors that each operator is the last to use."""
        seen = set(self.graph.outputs)
        last: list[list[int]] = []
        for operator in reversed(self.graph.operators):
            mine = {*operator.inputs, *operator.outputs} - seen
            last.append(sorted(mine))
            seen |= mine
        return last[::-1]

    def _entered(self, inputs: tuple[Any, ...]) -> dict[int, Any]:
        graph = self.graph
        if len(inputs) != len(graph.inputs):
            raise ValueError(
                f"the net has {len(graph.inputs)} inputs. Received: {len(inputs)} arrays."
            )
        values = {}
        for index, given in zip(graph.inputs, inputs, strict=True):
            tensor, array = graph.tensors[index], np.asarray(given)
            inner = tensor.shape[1:] if tensor.shape[:1] == (1,) else tensor.shape
            if array.shape[1:] != inner or array.ndim != len(inner) + 1:
                raise ValueError(
                    f"input {tensor.name!r} must have the shape (n, "
                    f"{', '.join(map(str, inner))}). Received: {array.shape}."
                )
            if array.dtype != tensor.dtype:
                raise ValueError(
                    f"input {tensor.name!r} must be {tensor.dtype}. Received: {array.dtype}."
                )
            values[index] = self._xp.constant(array.reshape(-1, *tensor.shape))
        return values

    @staticmethod
    def _left(value: Any, tensor: Tensor) -> Any:
        shape = tensor.shape[1:] if tensor.shape[:1] == (1,) else tensor.shape
        return np.asarray(value).reshape(-1, *shape).astype(tensor.dtype)
