"""Functions of one tensor, element by element: tables of all codes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from . import xnnpack
from .node import Node, Step, codes_of, limits, rule, scale_of, zero_of
from .rounding import rounded_away, table

Floats = npt.NDArray[np.float32]
_ONE = np.float32(1)


@rule("LOGISTIC")
def logistic(node: Node) -> Step:
    return _float_table(node, lambda v: _ONE / (_ONE + np.exp(-v)))


@rule("TANH")
def tanh(node: Node) -> Step:
    return _float_table(node, np.tanh)


def _float_table(node: Node, function: Callable[[Floats], Floats]) -> Step:
    """A function of float32, its results rounded to codes."""
    entry, out = node.input(0), node.output
    real = scale_of(entry) * (codes_of(entry) - zero_of(entry)).astype(np.float32)
    with np.errstate(over="ignore"):
        scaled = function(real) * (_ONE / scale_of(out))
    whole = np.rint(scaled) if xnnpack.takes(node) else rounded_away(scaled)
    return table(node, entry, np.clip(whole + zero_of(out), *limits(out.dtype)).astype(np.int32))
