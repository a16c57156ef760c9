"""Where values are rounded: the operators of an int8 file, and what each of them absorbs.

Between a layer and what its operator absorbs nothing is rounded: convolution, batch normalisation
and ReLU are one operator. What only ends in a concatenation is rounded with the range of that.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from ec2t_tf.quantisation.graph import Call, Graph, Value
from ec2t_tf.quantisation.kinds import (
    FIXED_RANGE,
    KERNELS,
    MOVING,
    OWN_RANGE,
    RECURRENT,
    SAME_RANGE,
    activation_name,
    has_rule,
    kind_of,
)


class Fusion:
    """What happens to the output of each call of a graph.

    Args:
      graph: in which every activation that no operator computes is a layer of its own.
      float_layers: names of the layers that stay float; they end every fusion.
    """

    def __init__(self, graph: Graph, float_layers: Collection[str] = ()) -> None:
        self._users = graph.consumers()
        self._float = set(float_layers)

    def is_float(self, call: Call) -> bool:
        """Whether it computes in float: by policy, or because nothing is known about it."""
        return call.name in self._float or not has_rule(kind_of(call.operation))

    def range_of(self, call: Call) -> str:
        """ "own", "fixed", "same" (as its input, rounded again), "moved" (as its input) or "none".

        "none" is what a later operator absorbs, or float.
        """
        kind = kind_of(call.operation)
        if self.is_float(call):
            return "none"
        if kind in RECURRENT:
            return "none"  # its own operator rounds
        if kind in FIXED_RANGE:
            return "fixed"
        if kind in MOVING:
            return "moved"
        if kind in SAME_RANGE:
            return "same"
        return "none" if self._is_absorbed(call, kind) else "own"

    def _is_absorbed(self, call: Call, kind: str) -> bool:
        results = call.results
        if kind in KERNELS:
            activation = activation_name(call.operation)
            folding = ("BatchNormalization", "ReLU") if _has_channels(call.operation) else ("ReLU",)
            if activation == "linear" and self._only_before(results, *folding):
                return True
        elif kind in ("BatchNormalization", "Add") and self._only_before(results, "ReLU"):
            return True
        return kind in OWN_RANGE and self._only_concatenated(results)

    def _only_before(self, results: list[Value], *kinds: str) -> bool:
        """Whether each value has one use, by an operation of one of these kinds."""
        for value in results:
            users = self._users.get(value, [])
            if len(users) != 1 or users[0] is None or self.is_float(users[0]):
                return False
            if kind_of(users[0].operation) not in kinds:
                return False
            axis = getattr(users[0].operation, "axis", -1)
            if axis not in (-1, len(value.shape) - 1):
                return False  # a normalisation along another axis than the kernel's
        return True

    def _only_concatenated(self, results: list[Value]) -> bool:
        """Whether every value is used once, by a concatenation."""
        return self._only_before(results, "Concatenate")


def _has_channels(layer: Any) -> bool:
    """Whether the last axis of what a layer with a kernel computes is that of the kernel's units,
    so that a normalisation along it can be folded into them."""
    equation = getattr(layer, "equation", None)
    if equation is None:
        return True
    left, _, result = equation.replace(" ", "").replace("...", "").partition("->")
    entry, inner = left.split(",")
    units = [c for c in inner if c not in entry]
    kept = [c for c in entry if c not in inner]
    return len(units) == 1 and result == "".join((*kept, *units))
