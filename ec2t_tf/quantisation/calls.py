"""The layer calls of a Keras 3 model, for who counts them."""

from __future__ import annotations

import keras

from ec2t_tf.counting.operations import LayerCall
from ec2t_tf.quantisation.graph import read


def is_readable(model: keras.Model) -> bool:
    """Whether it is a built Sequential or functional model."""
    return bool(model.built) and getattr(model, "inputs", None) is not None


def calls(model: keras.Model) -> list[LayerCall]:
    """In the order they run, the model's inputs in front; nested models are opened."""
    graph = read(model)
    inputs = keras.tree.flatten(graph.inputs)
    found = []
    for name, value in zip(graph.input_names, inputs, strict=True):
        layer = keras.layers.InputLayer(batch_shape=value.shape, name=name)
        found.append(LayerCall(layer, "InputLayer", (), value.shape, value.shape))
    for call in graph.calls:
        makers = [x.index if x.maker < 0 else len(inputs) + x.maker for x in call.inputs]
        kind = type(call.operation).__name__
        shape = call.inputs[0].shape
        found.append(LayerCall(call.operation, kind, tuple(makers), shape, call.results[0].shape))
    return found
