"""`summary` of a Keras 3 model."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import keras

from ec2t_tf.counting.places import Shape, places
from ec2t_tf.methods.base import Assignment
from ec2t_tf.policy import Treatment
from ec2t_tf.quantisation.graph import Call, read
from ec2t_tf.quantisation.kinds import KERNELS
from ec2t_tf.quantisation.quantised import Quantised
from ec2t_tf.quantisation.recurrent import Recurrent
from ec2t_tf.summary import LayerSummary, row


def rows(model: keras.Model) -> Iterator[LayerSummary]:
    """One for each layer with a kernel, nested models opened."""
    seen: set[str] = set()
    for call in read(model).calls:
        layer: Any = call.operation
        if isinstance(layer, Recurrent):
            if call.name not in seen:
                seen.add(call.name)
                yield from _recurrent_rows(layer, call)
            continue
        inner = layer.layer if isinstance(layer, Quantised) else layer
        kernel = kernel_of(inner) if call.is_layer and call.name not in seen else None
        if kernel is None:
            continue
        seen.add(call.name)
        bias = getattr(inner, "bias", None)
        biases = 0 if bias is None else math.prod(bias.shape)
        applied = applied_at(inner, call)
        if isinstance(layer, Quantised) and layer.method is not None:
            treatment = Treatment.TERNARY if layer.method.is_ternary else Treatment.PRUNE
            yield row(call.name, layer.assign(), treatment, places=applied, biases=biases)
            continue
        treatment = Treatment.INT8 if isinstance(layer, Quantised) else Treatment.FLOAT
        yield row(call.name, tuple(kernel.shape), treatment, places=applied, biases=biases)


def _recurrent_rows(layer: Recurrent, call: Call) -> Iterator[LayerSummary]:
    """One for each of its two matrices, which every step multiplies."""
    for name, part in zip(("kernel", "recurrent"), layer.parts, strict=True):
        shape = tuple(part.latent.shape)
        bias = layer.bias if name == "kernel" and layer.layer.use_bias else None
        treatment = Treatment.INT8
        weights: Assignment | tuple[int, ...] = shape
        if part.method is not None:
            treatment = Treatment.TERNARY if part.method.is_ternary else Treatment.PRUNE
            weights = part.assign()
        yield row(
            f"{call.name}/{name}",
            weights,
            treatment,
            places=call.inputs[0].shape[1:2],  # time steps
            biases=0 if bias is None else math.prod(bias.shape),
        )


def kernel_of(layer: keras.layers.Layer) -> keras.Variable | None:
    """The weight that multiplies the input; None if there is none."""
    for name in ("depthwise_kernel", "kernel"):
        if hasattr(layer, name):
            return getattr(layer, name)
    matrices = [weight for weight in layer.weights if len(weight.shape) >= 2]
    if isinstance(layer, keras.layers.PReLU) or not matrices:
        return None
    return max(matrices, key=lambda weight: math.prod(weight.shape))


def applied_at(layer: keras.layers.Layer, call: Call) -> Shape:
    """Where its kernel is applied; a layer that is not known counts once."""
    if type(layer).__name__ not in KERNELS:
        return ()
    return places(layer, call.inputs[0].shape, call.results[0].shape)
