"""Operations of keras.ops that no operator of a file is, as others that are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from ec2t_tf.quantisation.graph import Call
from ec2t_tf.quantisation.kinds import class_name
from ec2t_tf.quantisation.registered import registered

Tensor = Any
SMALLEST = 1e-12  # variance that has a slope
WITHOUT_RULE = ("Var", "Std", "Normalize")


def composed(call: Call, name: str) -> Callable[..., Tensor] | None:
    """What computes the same as a call of an operation, of what has rules; None if that has one.

    Args:
      name: of a layer that is instead.
    """
    kind, operation = class_name(call.operation), call.operation
    if kind in ("Divide", "TrueDivide") and len(call.inputs) == 2:
        return quotient
    if kind == "Tensordot" and getattr(operation, "axes", None) == 1:
        return ops.matmul
    if kind == "Var":
        return lambda x: variance(x, axis=operation.axis, keepdims=operation.keepdims)
    if kind == "Std":
        root = keras.layers.Activation(square_root, name=name)
        return lambda x: root(variance(x, axis=operation.axis, keepdims=operation.keepdims))
    is_l2 = kind == "Normalize" and operation.order == 2 and operation.epsilon is None
    if is_l2 and operation.axis is not None:  # without an axis the norm is that of the batch, too
        return keras.layers.UnitNormalization(operation.axis, name=name)
    return None


def quotient(x: Tensor, y: Tensor) -> Tensor:
    """Of two values: the reciprocal is a table."""
    return ops.multiply(x, ops.reciprocal(y))


def variance(x: Tensor, *, axis: Any, keepdims: bool) -> Tensor:
    """The mean of squared distances from the mean."""
    distance = ops.subtract(x, ops.mean(x, axis=axis, keepdims=True))
    return ops.mean(ops.square(distance), axis=axis, keepdims=keepdims)


@registered
def square_root(x: Tensor) -> Tensor:
    """With no slope at 0, which a variance in int8 is often: that of the root is infinite."""
    return ops.sqrt(ops.maximum(x, SMALLEST))
