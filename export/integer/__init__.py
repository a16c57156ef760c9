"""A net computed in exact integers: what each runtime computes, bit for bit.

It is the oracle of the tests (C, delegate, lowering) and computes where a runtime is missing.
`keras_model` is the same as a Keras 3 model; it needs Keras, nothing else here does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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

if TYPE_CHECKING:
    from .keras_layer import keras_model

__all__ = ["ROUNDINGS", "RULES", "Interpreter", "NotExactError", "keras_model"]


def __getattr__(name: str) -> Any:
    if name == "keras_model":
        from .keras_layer import keras_model

        return keras_model
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
