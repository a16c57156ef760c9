"""`summary` of a Keras 3 model."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import keras

from ec2t_tf.counting.places import Shape, places
from ec2t_tf.methods.base import Assignment
from ec2t_tf.policy import Treatment
from ec2t_tf.quantisation.graph import Call, Graph, read
from ec2t_tf.quantisation.kinds import KERNELS
from ec2t_tf.quantisation.quantised import Quantised
from ec2t_tf.quantisation.recurrent import Recurrent
from ec2t_tf.summary import LayerSummary, float_rows, row, rows_without_a_graph


def rows(model: keras.Model) -> Iterator[LayerSummary]:
    """One for each kernel, nested models opened.

    A model without a graph (subclassed) is called on symbols; where that fails, its layers are
    listed without multiply-accumulates.
    """
    graph = _graph(model)
    if graph is None:
        yield from rows_without_a_graph(model)
        return
    seen: set[str] = set()
    for call in graph.calls:
        layer: Any = call.operation
        if not call.is_layer or call.name in seen:
            continue
        seen.add(call.name)
        if isinstance(layer, Recurrent):
            yield from _recurrent_rows(layer, call)
        elif isinstance(layer, Quantised):
            yield from _quantised_row(layer, call)
        else:
            output = call.results[0].shape if call.results else None
            yield from float_rows(layer, call.name, [one.shape for one in call.inputs], output)


def _quantised_row(layer: Quantised, call: Call) -> Iterator[LayerSummary]:
    kernel = kernel_of(layer.layer)
    if kernel is None:
        return
    bias = getattr(layer.layer, "bias", None)
    treatment = Treatment.INT8
    weights: Assignment | tuple[int, ...] = tuple(kernel.shape)
    if layer.method is not None:
        treatment = Treatment.TERNARY if layer.method.is_ternary else Treatment.PRUNE
        weights = layer.assign()
    yield row(
        call.name,
        weights,
        treatment,
        places=applied_at(layer.layer, call),
        biases=0 if bias is None else math.prod(bias.shape),
    )


def _graph(model: keras.Model) -> Graph | None:
    try:
        return read(model)
    except (AttributeError, ValueError):  # subclassed
        pass
    try:
        inputs = keras.tree.map_shape_structure(
            lambda shape: keras.Input(batch_shape=shape), model.get_build_config()["input_shape"]
        )
        return read(keras.Model(inputs, model.call(inputs)))
    except Exception:  # its `call` may want anything
        return None


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
