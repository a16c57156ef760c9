"""A net computed in exact integers: what each runtime computes, bit for bit.

It is the oracle of the tests (C, delegate, lowering) and computes where a runtime is missing.
"""

# The rules enter themselves into the table.
from . import (  # noqa: F401
    activations,
    convolution,
    elementwise,
    movement,
    pooling,
    quantisation,
    recurrent,
    resize,
    softmax,
    state,
    tables,
)
from .interpreter import Interpreter
from .node import ROUNDINGS, RULES, NotExactError

__all__ = ["ROUNDINGS", "RULES", "Interpreter", "NotExactError"]
