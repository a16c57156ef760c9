"""A graph's operators, prepared to run one after the other with one array library."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ec2t_tf.export.graph import Graph

from .node import Node, Step, prepare
from .state import State


class Program:
    """Values of the inputs, (samples, *shape) each, to values of the outputs.

    Args:
      xp: the array library, such as `NumPyArrays`.
      state: what is kept between runs.
      prepare: makes the step of an operator.

    Raises:
      NotExactError: an operator is not known bit for bit in this rounding.
    """

    def __init__(
        self,
        graph: Graph,
        rounding: str,
        xp: Any,
        state: State,
        *,
        prepare: Callable[[Node], Step] = prepare,
    ) -> None:
        self.graph = graph
        self._steps = [
            (operator, _step(Node(graph, operator, number, rounding, xp, state), prepare))
            for number, operator in enumerate(graph.operators)
        ]
        self._done = self._last_uses()

    def run(self, inputs: Sequence[Any]) -> list[Any]:
        values = dict(zip(self.graph.inputs, inputs, strict=True))
        for (operator, step), done in zip(self._steps, self._done, strict=True):
            found = step(*(values.get(i) if i >= 0 else None for i in operator.inputs))
            parts = found if isinstance(found, tuple) else (found,)
            values.update(zip(operator.outputs, parts, strict=True))
            for index in done:
                values.pop(index, None)
        return [values[index] for index in self.graph.outputs]

    def _last_uses(self) -> list[list[int]]:
        """Tensors that each operator is the last to use."""
        seen = set(self.graph.outputs)
        last = []
        for operator in reversed(self.graph.operators):
            mine = {*operator.inputs, *operator.outputs} - seen
            last.append(sorted(mine))
            seen |= mine
        return last[::-1]


def _step(node: Node, prepare: Callable[[Node], Step]) -> Step:
    """The step of an operator. Rules take an operator's values as computed, and constants beside
    them from the node: one of constants alone (a softmax of weights) is given them."""
    step = prepare(node)
    if not node.is_constant:
        return step
    return lambda *given: step(*node.alike(given))
