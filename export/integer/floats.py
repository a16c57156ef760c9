"""Operators on float32 whose every result is one correctly rounded operation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ec2t_tf.export.graph import activations

from .node import Node, NotTraceableError, Step

_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "ADD": np.add,
    "SUB": np.subtract,
    "MUL": np.multiply,
    "MAXIMUM": np.maximum,
    "MINIMUM": np.minimum,
}


def binary(node: Node) -> Step:
    """Of two float32 tensors, element by element."""
    if node.xp.traceable:
        raise NotTraceableError("a compiler may join float32 products and sums")
    activation = node.option("activation", "none")
    if activation not in activations.BOUNDS:
        raise node.refused(f"its fused activation is {activation!r}")
    low, high = activations.BOUNDS[activation]
    function = _FUNCTIONS[node.kind]

    def run(*given: Any) -> Any:
        with np.errstate(all="ignore"):
            x = function(*node.aligned(given))
        if low is not None:
            x = np.maximum(x, np.float32(low))
        return x if high is None else np.minimum(x, np.float32(high))

    return run
