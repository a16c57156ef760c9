"""`summary` of a tf_keras model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import tensorflow as tf
import tf_keras
from tf_keras import layers

from ec2t_tf.counting.places import Shape, places
from ec2t_tf.policy import Treatment
from ec2t_tf.summary import LayerSummary, float_rows, row, rows_without_a_graph
from ec2t_tf.tfmot import wrapper
from ec2t_tf.tfmot.quantize_config import ternary_layers
from ec2t_tf.tfmot.quantizers import kernel_owner
from ec2t_tf.tfmot.recurrent import Rounded


def has_kernel(layer: layers.Layer) -> bool:
    """Whether the layer multiplies its input with weights: a matrix or a larger tensor."""
    if isinstance(layer, layers.PReLU):
        return False
    return any(len(weight.shape) >= 2 for weight in layer.weights)


def kernels_of(layer: layers.Layer) -> list[tf.Variable]:
    """The weights that multiply the input, also inside tfmot's wrapper: one, but of an LSTM or GRU
    inside it two."""
    if wrapper.wrapped(layer) is not layer:
        return wrapper.quantised_weights(layer)
    if not has_kernel(layer) or wrapper.is_quantise_layer(layer):
        return []
    for name in ("depthwise_kernel", "kernel"):
        if hasattr(layer, name):
            return [getattr(layer, name)]
    return [max(layer.weights, key=lambda weight: weight.shape.num_elements())]


def rows(model: tf_keras.Model) -> Iterator[LayerSummary]:
    """One for each layer with a kernel; of a float model one for each kernel."""
    if not wrapper.is_quantised(model):
        yield from _of_floats(model)
        return
    ternary = {id(one.latent): one for one in ternary_layers(model)}
    for outer in model.layers:
        layer = wrapper.wrapped(outer)
        bias = getattr(kernel_owner(layer), "bias", None)
        biases = 0 if bias is None else bias.shape.num_elements()
        for number, kernel in enumerate(kernels_of(outer)):
            name = layer.name
            if isinstance(layer, Rounded):
                name += "/recurrent" if number else "/kernel"
            weights: Any = tuple(kernel.shape)
            treatment = Treatment.INT8 if outer is not layer else Treatment.FLOAT
            if id(kernel) in ternary:
                one = ternary[id(kernel)]
                treatment = Treatment.TERNARY if one.method.is_ternary else Treatment.PRUNE
                weights = one.assign()
            applied = _places(layer, outer)
            yield row(name, weights, treatment, places=applied, biases=0 if number else biases)


def _places(layer: layers.Layer, outer: layers.Layer) -> Shape:
    if isinstance(layer, layers.Embedding):
        return ()
    if isinstance(layer, Rounded):
        return tuple(outer.input_shape[1:2])  # time steps
    return places(layer, outer.input_shape, outer.output_shape)


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
