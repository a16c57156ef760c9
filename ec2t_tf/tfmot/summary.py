"""`summary` of a tf_keras model."""

from __future__ import annotations

from collections.abc import Iterator

import tensorflow as tf
import tf_keras
from tf_keras import layers

from ec2t_tf.counting.places import places
from ec2t_tf.policy import Treatment
from ec2t_tf.summary import LayerSummary, float_rows, row, rows_without_a_graph
from ec2t_tf.tfmot import wrapper
from ec2t_tf.tfmot.quantize_config import ternary_layers


def has_kernel(layer: layers.Layer) -> bool:
    """Whether the layer multiplies its input with weights: a matrix or a larger tensor."""
    if isinstance(layer, layers.PReLU):
        return False
    return any(len(weight.shape) >= 2 for weight in layer.weights)


def kernel_of(layer: layers.Layer) -> tf.Variable | None:
    """The weight that multiplies the input, also inside tfmot's wrapper; None if there is none."""
    inner = wrapper.wrapped(layer)
    if inner is not layer:
        return next(iter(wrapper.quantised_weights(layer)), None)
    if not has_kernel(layer) or wrapper.is_quantise_layer(layer):
        return None
    for name in ("depthwise_kernel", "kernel"):
        if hasattr(layer, name):
            return getattr(layer, name)
    return max(layer.weights, key=lambda weight: weight.shape.num_elements())


def rows(model: tf_keras.Model) -> Iterator[LayerSummary]:
    """One for each layer with a kernel; of a float model one for each kernel."""
    quantised = wrapper.is_quantised(model)
    if not quantised:
        yield from _of_floats(model)
        return
    ternary = {layer.name: layer for layer in ternary_layers(model)}
    for outer in model.layers:
        layer = wrapper.wrapped(outer)
        kernel = kernel_of(outer)
        if kernel is None:
            continue
        applied = places(layer, outer.input_shape, outer.output_shape)
        bias = getattr(layer, "bias", None)
        biases = 0 if bias is None else bias.shape.num_elements()
        if layer.name in ternary:
            is_ternary = ternary[layer.name].method.is_ternary
            treatment = Treatment.TERNARY if is_ternary else Treatment.PRUNE
            weights = ternary[layer.name].assign()
            yield row(layer.name, weights, treatment, places=applied, biases=biases)
            continue
        treatment = Treatment.INT8 if quantised and outer is not layer else Treatment.FLOAT
        yield row(layer.name, tuple(kernel.shape), treatment, places=applied, biases=biases)


def _of_floats(model: tf_keras.Model) -> Iterator[LayerSummary]:
    """A float model's, those inside it opened; of a subclassed one without multiply-accumulates."""
    if not getattr(model, "_is_graph_network", False):
        yield from rows_without_a_graph(model)
        return
    for layer in model.layers:
        if isinstance(layer, tf_keras.Model):
            yield from _of_floats(layer)
            continue
        try:
            inputs = tf.nest.flatten(layer.input), tf.nest.flatten(layer.output)
        except AttributeError:  # called several times
            inputs = [], []
        shapes = [[tuple(tensor.shape) for tensor in side] for side in inputs]
        output = shapes[1][0] if shapes[1] else None
        yield from float_rows(layer, layer.name, shapes[0], output)
