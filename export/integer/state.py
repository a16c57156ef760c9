"""What is kept from one call to the next: variables, and the states of recurrent operators."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np
import numpy.typing as npt

from .node import INTEGERS, Node, Step, rule


class State:
    """Values by key, one for each of `samples` streams."""

    def __init__(self) -> None:
        self.samples = 1
        self.values: dict[Hashable, npt.NDArray[Any]] = {}

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

    def read(self, key: Hashable, start: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The value (samples, ...), from `start` (1, ...) where nothing was written."""
        value = self.values.get(key, start)
        return np.broadcast_to(value, (self.samples, *value.shape[1:]))


# -- variables ---------------------------------------------------------------------------------


@rule("VAR_HANDLE", types=("resource",), host=True)
def var_handle(node: Node) -> Step:
    """A variable's handle: its name, as an array of one object."""
    name = (node.option("container", ""), node.option("shared_name", ""))
    handle = np.empty(1, object)
    handle[0] = name
    return lambda: handle


@rule("READ_VARIABLE", types=(*INTEGERS, "float32"), host=True)
def read_variable(node: Node) -> Step:
    state, out = node.state, node.output
    start = np.full((1, *out.shape), int(out.zero_point[0]) if out.zero_point.size else 0)
    start = start.astype(np.float32 if out.dtype == "float32" else np.int32)
    return lambda handle: state.read(handle[0], start)


@rule("ASSIGN_VARIABLE", types=("resource",), host=True)
def assign_variable(node: Node) -> Step:
    def run(*given: Any) -> Any:
        handle, value = node.filled(given)
        node.state.values[handle[0]] = value
        return ()

    return run


@rule("CALL_ONCE", types=("none",), host=True)
def call_once(_: Node) -> Step:
    """The interpreter has run the graph's `initial` already."""
    return lambda: ()
