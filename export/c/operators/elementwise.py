"""Operators on one operand element by element: tables of 256 values."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..graph import Operator

if TYPE_CHECKING:
    from ..lower import Lowering

KINDS = (
    "RELU",
    "RELU6",
    "RELU_N1_TO_1",
    "RELU_0_TO_1",
    "LEAKY_RELU",
    "ELU",
    "GELU",
    "HARD_SWISH",
    "LOGISTIC",
    "TANH",
    "QUANTIZE",
    "ABS",
    "NEG",
    "EXP",
    "LOG",
    "SQRT",
    "RSQRT",
)


def elementwise(net: Lowering, op: Operator) -> None:
    net.activation(op, 0)
    net.add_table(op, 0, net.lookup())


OPERATORS = dict.fromkeys(KINDS, elementwise)
