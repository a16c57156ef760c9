"""What is kept from one call to the next: variables, and the states of recurrent operators."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np

from .node import INTEGERS, Node, Step, rule, zero_of


class State:
    """Values by key, one for each of `samples` streams."""

    def __init__(self) -> None:
        self.samples: Any = 1
        self.values: dict[Hashable, Any] = {}

    def clear(self) -> None:
        self.values.clear()

    def begin(self, samples: int) -> None:
        """A call with so many streams begins.

        Raises:
          ValueError: other streams are under way.
        """
        for value in self.values.values():
            if len(value) not in (1, samples):
                raise ValueError(
                    f"a call must go on with the {len(value)} samples of the call before it, or "
                    f"reset() must come first. Received: {samples} samples."
                )
        self.samples = samples

    def read(self, key: Hashable, start: Any, xp: Any = np) -> Any:
        """The value (samples, ...), from `start` (1, ...) where nothing was written."""
        value = self.values.get(key, start)
        return xp.broadcast_to(value, (self.samples, *value.shape[1:]))


# -- variables ---------------------------------------------------------------------------------


@rule("VAR_HANDLE", types=("resource",))
def var_handle(node: Node) -> Step:
    """A variable's handle: its name, as an array of one object."""
    name = (node.option("container", ""), node.option("shared_name", ""))
    handle = np.empty(1, object)
    handle[0] = name
    return lambda: handle


@rule("READ_VARIABLE", types=(*INTEGERS, "float32"))
def read_variable(node: Node) -> Step:
    xp, out = node.xp, node.output
    filled = np.full((1, *out.shape), zero_of(out), np.dtype(out.dtype))
    start = xp.constant(filled)
    return lambda handle: node.state.read(handle[0], start, xp)


@rule("ASSIGN_VARIABLE", types=("resource",))
def assign_variable(node: Node) -> Step:
    def run(*given: Any) -> Any:
        handle, value = node.filled(given)
        node.state.values[handle[0]] = value
        return ()

    return run


@rule("CALL_ONCE", types=("none",))
def call_once(_: Node) -> Step:
    """The interpreter has run the graph's `initial` already."""
    return lambda: ()
