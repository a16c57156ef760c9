"""One operator as its rule sees it, and the table of rules."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ec2t_tf.export.graph import Graph, Operator, Tensor

if TYPE_CHECKING:
    from .state import State

ROUNDINGS = ("reference", "xnnpack", "builtin", "micro")
INTEGERS = ("int8", "uint8", "int16", "int32", "int64", "bool")


class NotExactError(ValueError):
    """An operator whose result is not known bit for bit; it is refused, not approximated."""


class NotTraceableError(ValueError):
    """An operator that `keras.ops` does not compute here; NumPy does."""


@dataclasses.dataclass(frozen=True)
class Node:
    """An operator with its tensors, the rounding and the array library to compute with.

    Values have the samples first: (samples, *shape of the tensor). A value of codes is int32, a
    value of floats float32, so axes of the file count from 1.
    """

    graph: Graph
    operator: Operator
    number: int
    rounding: str
    xp: Any
    state: State

    @property
    def kind(self) -> str:
        return self.operator.kind

    @property
    def optimised(self) -> bool:
        """Whether LiteRT's optimised kernels compute what no delegate takes."""
        return self.rounding in ("builtin", "xnnpack")

    @property
    def options(self) -> dict[str, Any]:
        return self.operator.options

    @property
    def inputs(self) -> list[Tensor | None]:
        tensors = self.graph.tensors
        return [tensors[i] if i >= 0 else None for i in self.operator.inputs]

    @property
    def outputs(self) -> list[Tensor]:
        return [self.graph.tensors[i] for i in self.operator.outputs]

    @property
    def output(self) -> Tensor:
        return self.outputs[0]

    def input(self, place: int) -> Tensor:
        """An input that must be there."""
        found = self.inputs[place] if place < len(self.operator.inputs) else None
        if found is None:
            raise self.refused(f"input {place} is missing")
        return found

    def constant(self, place: int) -> npt.NDArray[Any]:
        """The values of a constant input."""
        data = self.input(place).data
        if data is None:
            raise self.refused(f"input {place} ({self.input(place).name!r}) is not a constant")
        return data

    @property
    def is_constant(self) -> bool:
        """Whether all inputs are constants."""
        inputs = [tensor for tensor in self.inputs if tensor is not None]
        return bool(inputs) and all(tensor.data is not None for tensor in inputs)

    def filled(self, given: Sequence[Any]) -> list[Any]:
        """`given` with constants (1, *shape) where nothing was computed."""
        return [
            self.xp.constant(np.asarray(tensor.data)[None])
            if value is None and tensor is not None
            else value
            for value, tensor in zip(given, self.inputs, strict=True)
        ]

    def aligned(self, given: Sequence[Any]) -> list[Any]:
        """`filled`, of one rank: TensorFlow Lite aligns last axes, and the first is of samples."""
        values = self.filled(given)
        rank = max(len(value.shape) for value in values)
        for place, value in enumerate(values):
            for _ in range(rank - len(value.shape)):
                values[place] = self.xp.expand_dims(values[place], 1)
        return values

    def alike(self, given: Sequence[Any]) -> list[Any]:
        """`filled`, the constants repeated for every sample."""
        xp, count = self.xp, self.state.samples
        return [
            value
            if held is not None or value is None
            else xp.broadcast_to(value, (count, *value.shape[1:]))
            for held, value in zip(given, self.filled(given), strict=True)
        ]

    def option(self, name: str, default: Any = None) -> Any:
        value = self.options.get(name)
        return default if value is None else value

    def refused(self, why: str) -> NotExactError:
        return NotExactError(
            f"the result of {self.kind} (operator {self.number}, output "
            f"{self.output.name if self.operator.outputs else ''!r}) is not known bit for bit in "
            f"the rounding {self.rounding!r}: {why}. Run the file in LiteRT, or leave the "
            "operator out."
        )


Step = Callable[..., Any]
"""Values of the inputs (None for a constant or an input left out) -> value of the output, or a
tuple of several."""


@dataclasses.dataclass(frozen=True)
class Rule:
    """How an operator is computed.

    Attributes:
      prepare: what an operator needs once, before the first input.
      types: rounding -> types of the first output that are exact.
      host: it is computed in NumPy whatever the array library.
    """

    prepare: Callable[[Node], Step]
    types: dict[str, tuple[str, ...]]
    host: bool = False


RULES: dict[str, Rule] = {}


def rule(
    *kinds: str, types: Sequence[str] = ("int8",), host: bool = False, **others: Sequence[str]
) -> Callable[[Callable[[Node], Step]], Callable[[Node], Step]]:
    """Enters a rule for operators of these kinds.

    Args:
      types: types that are exact in every rounding.
      host: it is computed in NumPy whatever the array library.
      others: rounding -> types, where they differ.
    """
    unknown = set(others) - set(ROUNDINGS)
    if unknown:
        raise ValueError(f"roundings must be among {ROUNDINGS}. Received: {sorted(unknown)}.")

    def enter(prepare: Callable[[Node], Step]) -> Callable[[Node], Step]:
        for kind in kinds:
            by_rounding = {r: tuple(others.get(r, types)) for r in ROUNDINGS}
            RULES[kind] = Rule(prepare, by_rounding, host)
        return prepare

    return enter


def prepare(node: Node) -> Step:
    """The step of an operator.

    Raises:
      NotExactError: it is not known bit for bit.
    """
    found = RULES.get(node.kind)
    if found is None:
        raise node.refused("there is no rule for it")
    if node.operator.custom is not None:
        raise node.refused("it is a custom operator")
    types = found.types[node.rounding]
    names = node.outputs or [tensor for tensor in node.inputs if tensor is not None]
    dtype = names[0].dtype if names else "none"
    if dtype not in types:
        raise node.refused(f"its type must be among {', '.join(types) or 'none'}, not {dtype}")
    return found.prepare(node)


# -- quantisation ------------------------------------------------------------------------------


def scale_of(tensor: Tensor) -> np.float32:
    """The scale of a tensor that has one."""
    if tensor.scale.size != 1:
        raise ValueError(
            f"tensor {tensor.name!r} must have one scale. Received: {tensor.scale.size}."
        )
    return np.float32(tensor.scale[0])


def zero_of(tensor: Tensor) -> int:
    """The zero point of a tensor that has one scale."""
    return int(tensor.zero_point[0]) if tensor.zero_point.size else 0


def limits(dtype: str) -> tuple[int, int]:
    info = np.iinfo(dtype)
    return int(info.min), int(info.max)


def codes_of(tensor: Tensor) -> npt.NDArray[np.int64]:
    """All codes of an 8- or 16-bit tensor, in order."""
    low, high = limits(tensor.dtype)
    return np.arange(low, high + 1)
