"""Values that rules give and take: tensors, and operators still open; the table of rules.

A value is the index of a tensor, or an operator whose output range is not known yet (`Pending`).
What stands between an operator and the fake quantisation behind it, a normalisation or a ReLU, is
folded into it. Where no fake quantisation follows, the net was trained in float there, and is
written so.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

CODES = (-128, 127)
SMALLEST_RANGE = np.float32(1e-8)
# Operators whose inputs have the scale of their output.
ONE_SCALE = ("CONCATENATION", "MAXIMUM", "MINIMUM")


class NoRuleError(ValueError):
    """A layer, or an option of it, that no rule can write; the message names it first."""

    layer: str = ""

    @property
    def name(self) -> str:
        """Of the layer, if it is known."""
        quoted = str(self).split("'")
        key = quoted[1] if len(quoted) > 2 and not quoted[0] else self.layer
        return key.split("/")[0].split(":")[0]


def along(values: npt.NDArray, rank: int, axis: int) -> npt.NDArray:
    return values.reshape([-1 if i == axis else 1 for i in range(rank)])


@dataclasses.dataclass(frozen=True)
class Kernel:
    """Constant weights.

    Attributes:
      codes: int8, in the operator's own layout; or float32, for a layer that stays float.
      scale: float64 [channels], of each output channel; ones for a layer that stays float.
      bias: float32 [channels].
      axis: of the output channels in `codes`.
    """

    codes: npt.NDArray[Any]
    scale: npt.NDArray[np.float64]
    bias: npt.NDArray[np.float32]
    axis: int = 0

    @property
    def is_float(self) -> bool:
        return self.codes.dtype != np.int8

    @property
    def values(self) -> npt.NDArray[np.float32]:
        return (self.codes * along(self.scale, self.codes.ndim, self.axis)).astype(np.float32)

    def times(self, factor: npt.NDArray[np.float32], bias: npt.NDArray[np.float32]) -> Kernel:
        """Another scale of each output channel; where it is negative or zero, so are the codes."""
        if self.is_float:
            codes = self.values * along(factor, self.codes.ndim, self.axis)
            return dataclasses.replace(self, codes=codes, bias=bias)
        sign = along(np.sign(factor).astype(np.int8), self.codes.ndim, self.axis)
        magnitude = np.where(factor == 0, 1.0, np.abs(factor.astype(np.float64)))
        return dataclasses.replace(
            self, codes=self.codes * sign, scale=self.scale * magnitude, bias=bias
        )


@dataclasses.dataclass(frozen=True)
class Pending:
    """An operator whose output range is not known yet.

    Attributes:
      name: of its output.
      inputs: values: tensors, or pending inputs of a concatenation.
      shape: of the operator's own output.
      final: shape in which the net goes on, if another.
      least, most: limits of the output in real numbers (a fused ReLU), or None.
      prescribed: (scale, zero point) of its int8 output that TensorFlow Lite wants, or None.
      in_int8, in_float: write it where it is more than one operator: given scale and zero point, or
        in float.
      inside, move: of an operator whose values are moved, channels left where they are: the
        operator, into which a normalisation is folded, and what moves them.
    """

    name: str
    kind: str
    inputs: tuple[Any, ...]
    shape: tuple[int, ...]
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    final: tuple[int, ...] | None = None
    kernel: Kernel | None = None
    least: float | None = None
    most: float | None = None
    prescribed: tuple[float, int] | None = None
    in_int8: Callable[[float, int], int] | None = None
    in_float: Callable[[], int] | None = None
    inside: Pending | None = None
    move: Callable[[int], int] | None = None

    @property
    def is_limited(self) -> bool:
        return self.least is not None or self.most is not None

    def with_limits(self, least: float | None, most: float | None) -> Pending:
        return dataclasses.replace(self, least=least, most=most)


class TensorIndex(int):
    """Marks the index of a tensor among the numbers that a call is given."""


Value = int | Pending
Rule = Callable[..., Any]
RULES: dict[str, Rule] = {}


def rule(*kinds: str | type) -> Callable[[Rule], Rule]:
    """Registers how calls of these kinds are written: names of classes of Keras, or classes.

    A rule takes the net, the call, and the call's values in order: `Value`s, and what else it is
    called with as it is. It returns a `Value`, or a tuple of them if the call has several outputs.
    """

    def register(function: Rule) -> Rule:
        for kind in kinds:
            kind = kind if isinstance(kind, str) else f"{kind.__module__}.{kind.__name__}"
            if kind in RULES:
                raise ValueError(f"'{kind}' has a rule already.")
            RULES[kind] = function
        return function

    return register


def quantisation(low: float, high: float) -> tuple[float, int]:
    """Scale and zero point of int8 codes that cover a range with 0 in it."""
    least, most = np.float32(min(low, 0.0)), np.float32(max(high, 0.0))
    if least == most:
        return 1.0 / 255.0, -128
    # In float32 and not finer than in training.
    scale = max(most - least, SMALLEST_RANGE) / np.float32(255)
    return float(scale), int(np.clip(np.floor(-128.0 - least / scale + 0.5), *CODES))
