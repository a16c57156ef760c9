"""Operations of keras.ops that no operator of a file is, as others that are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from ec2t_tf.quantisation import masks
from ec2t_tf.quantisation.graph import Call, Value
from ec2t_tf.quantisation.kinds import class_name

Tensor = Any
WITHOUT_RULE = (
    *("Var", "Std", "Normalize", "LayerNorm", "Logsumexp", "Glu", "DotProductAttention"),
    *("Average", "Amax", "Amin", "Dot", "Norm", "Moments"),
)


def composed(call: Call, name: str) -> Callable[..., Tensor] | None:
    """What computes the same as a call of an operation, of what has rules; None if that has one.

    Args:
      name: of a layer that is instead.
    """
    kind, operation = class_name(call.operation), call.operation
    if kind in ("Divide", "TrueDivide") and isinstance(call.args[1], Value):
        return quotient
    if kind == "Tensordot" and getattr(operation, "axes", None) == 1:
        return ops.matmul
    if kind == "Var":
        return lambda x: variance(x, axis=operation.axis, keepdims=operation.keepdims)
    if kind == "Std":
        return lambda x: ops.sqrt(variance(x, axis=operation.axis, keepdims=operation.keepdims))
    is_l2 = kind == "Normalize" and operation.order == 2 and operation.epsilon is None
    if is_l2 and operation.axis is not None:  # without an axis the norm is that of the batch, too
        return keras.layers.UnitNormalization(operation.axis, name=name)
    if kind == "LayerNorm" and operation.axis == -1 and not operation.rms_scaling:
        epsilon = keras.config.epsilon() if operation.epsilon is None else operation.epsilon
        options = {"epsilon": epsilon, "center": False, "scale": False}
        return _scaled(keras.layers.LayerNormalization(**options, name=name))
    if kind == "Average" and operation.axis is not None:  # else the batch is averaged, too
        return lambda x, weights=None: average(x, weights, axis=operation.axis)
    if kind == "Where" and masks.constant(call.args[0]) is not None:
        return masks.chosen if all(value.is_float for value in call.inputs) else None
    if kind == "DotProductAttention" and not _lacks(call):
        return lambda *given, **options: attention(
            *given, causal=operation.is_causal, name=name, **options
        )
    if kind == "Dot" and len(call.inputs[0].shape) > 1 and _rank(call.args[1]) == 2:
        return ops.matmul
    if kind in ("Amax", "Amin", "Logsumexp"):
        function = {"Amax": ops.max, "Amin": ops.min, "Logsumexp": log_sum_exp}[kind]
        return lambda x: function(x, axis=operation.axis, keepdims=operation.keepdims)
    if kind == "Norm" and _is_of_vectors(operation):
        axis, keepdims = tuple(operation.axis), operation.keepdims
        return lambda x: norm(x, operation.ord, axis=axis, keepdims=keepdims)
    if kind == "Moments":
        return lambda x: moments(x, axis=operation.axes, keepdims=operation.keepdims)
    return (lambda x: gated(x, axis=operation.axis)) if kind == "Glu" else None


def _scaled(normalise: Callable[[Tensor], Tensor]) -> Callable[..., Tensor]:
    def computed(x: Tensor, gamma: Tensor = None, beta: Tensor = None) -> Tensor:
        y = normalise(x)
        y = y if gamma is None else ops.multiply(y, gamma)
        return y if beta is None else ops.add(y, beta)

    return computed


def _rank(x: Any) -> int:
    return len(getattr(x, "shape", ()))


def _is_of_vectors(norm: Any) -> bool:
    """Of two axes, 1 and 2 are those of matrices; without axes it is that of the batch, too."""
    if norm.axis is None:
        return False
    return norm.ord is None or (norm.ord in (1, 2) and len(norm.axis) == 1)


def _lacks(call: Call) -> bool:
    """Whether an attention reads a mask that is no constant, or limits its scores."""
    operation = call.operation
    mask = call.args[4] if len(call.args) > 4 else call.kwargs.get("mask")
    options = {"is_causal": operation.is_causal, "mask": mask}
    asked, given = (x.shape[1] for x in call.args[:2])
    soft = operation.attn_logits_soft_cap is not None
    return soft or bool(masks.lacks(options, asked, given, "mask"))


def attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bias: Tensor = None,
    mask: Any = None,
    scale: float | None = None,
    *,
    causal: bool = False,
    name: str | None = None,
) -> Tensor:
    """softmax(scale query key^T + bias) value: [batch, steps, heads, size]."""
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    scores = ops.einsum("abcd,aecd->acbe", ops.multiply(query, scale), key)
    scores = scores if bias is None else ops.add(scores, bias)
    options = {"is_causal": causal, "mask": mask}
    allowed = masks.of_attention(options, query.shape[1], key.shape[1], "mask")
    scores = scores if allowed is None else masks.Masked(allowed, name=name)(scores)
    return ops.einsum("acbe,aecd->abcd", ops.softmax(scores), value)


def average(x: Tensor, weights: Any = None, *, axis: Any) -> Tensor:
    """By weights: one for each place along the axis, or for each value."""
    if weights is None:
        return ops.mean(x, axis=axis)
    shape = [1] * len(x.shape)
    if len(weights.shape) == 1:
        shape[axis] = -1
        weights = ops.reshape(weights, shape)
    total = ops.sum(ops.multiply(x, weights), axis=axis)
    whole = ops.sum(weights, axis=axis)
    return quotient(total, whole) if keras.utils.is_keras_tensor(whole) else total / whole


def log_sum_exp(x: Tensor, *, axis: Any, keepdims: bool) -> Tensor:
    """From the largest value on, so that nothing overflows."""
    largest = ops.max(x, axis=axis, keepdims=True)
    above = ops.log(ops.sum(ops.exp(ops.subtract(x, largest)), axis=axis, keepdims=keepdims))
    return ops.add(above, ops.max(x, axis=axis, keepdims=keepdims))


def gated(x: Tensor, *, axis: int) -> Tensor:
    """Half of the values, by the sigmoid of the other half."""
    values, gates = ops.split(x, 2, axis=axis)
    return ops.multiply(values, ops.sigmoid(gates))


def quotient(x: Tensor, y: Tensor) -> Tensor:
    """By a value: the reciprocal is a table."""
    return ops.multiply(ops.reciprocal(y), x)


def norm(x: Tensor, order: int | None, *, axis: Any, keepdims: bool) -> Tensor:
    """The sum of magnitudes, or the root of the sum of squares."""
    if order == 1:
        return ops.sum(ops.abs(x), axis=axis, keepdims=keepdims)
    return ops.sqrt(ops.sum(ops.square(x), axis=axis, keepdims=keepdims))


def moments(x: Tensor, *, axis: Any, keepdims: bool) -> tuple[Tensor, Tensor]:
    """Mean and variance."""
    mean = ops.mean(x, axis=axis, keepdims=keepdims)
    return mean, variance(x, axis=axis, keepdims=keepdims)


def variance(x: Tensor, *, axis: Any, keepdims: bool) -> Tensor:
    """The mean of squared distances from the mean."""
    distance = ops.subtract(x, ops.mean(x, axis=axis, keepdims=True))
    return ops.mean(ops.square(distance), axis=axis, keepdims=keepdims)
