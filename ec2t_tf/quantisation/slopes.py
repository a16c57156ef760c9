"""Functions of one value whose slope is infinite somewhere: roots and logarithms at 0, say.

What is small in a float net is 0 in int8 often, and one such value makes every weight NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from ec2t_tf.quantisation.graph import Call, Value
from ec2t_tf.quantisation.kinds import activation_name, class_name, kind_of
from ec2t_tf.quantisation.registered import registered

Tensor = Any
STEEP = (
    *("Sqrt", "Rsqrt", "Reciprocal", "Log", "Log2", "Log10", "Log1p"),
    *("Arcsin", "Arccos", "Arctanh", "Erfinv"),
)


def may_be_steep(call: Call) -> bool:
    """Whether a call is of a function of one value with an infinite slope, as the user's may be."""
    kind = class_name(call.operation)
    if kind == "Power":
        base, exponent = (*call.args, *call.kwargs.values())
        is_smooth = not isinstance(exponent, Value) and np.all(np.asarray(exponent) >= 1)
        return isinstance(base, Value) and not is_smooth
    if not call.is_layer or kind_of(call.operation) != "Activation":
        return kind in STEEP
    return kind != "Activation" or not activation_name(call.operation)


@registered
class FiniteSlope(keras.layers.Layer):
    """Values as they are; a gradient that is NaN or infinite is none."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.supports_masking = True

    def call(self, x: Tensor) -> Tensor:
        return _with_finite_slope(x)

    def compute_output_spec(self, x: Any) -> keras.KerasTensor:
        return keras.KerasTensor(x.shape, dtype=x.dtype)


@ops.custom_gradient
def _with_finite_slope(x: Tensor) -> tuple[Tensor, Callable[..., Tensor]]:
    def gradient(*arguments: Tensor, upstream: Tensor | None = None) -> Tensor:
        slope = arguments[0] if upstream is None else upstream
        return ops.where(ops.isfinite(slope), slope, ops.zeros_like(slope))

    return x * 1.0, gradient
