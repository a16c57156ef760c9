"""The layer calls of a tf_keras model, for who counts them."""

from __future__ import annotations

from typing import Any

import tf_keras

from ec2t_tf.counting.operations import LayerCall
from ec2t_tf.tfmot.graph import is_nested, nodes


def is_readable(model: tf_keras.Model) -> bool:
    """Whether it is a built Sequential or functional model."""
    return bool(model.built and getattr(model, "_is_graph_network", False))


def calls(model: tf_keras.Model) -> list[LayerCall]:
    """In the order they run, the model's inputs in front; nested models are opened."""
    found: list[LayerCall] = []
    maker: dict[int, int] = {}

    def add(layer: Any, inputs: list[Any], outputs: list[Any]) -> None:
        sources = tuple(maker[id(tensor)] for tensor in inputs)
        maker.update((id(output), len(found)) for output in outputs)
        kind = getattr(layer, "symbol", None) or type(layer).__name__  # (an operator, x + y)
        source = tuple((inputs or outputs)[0].shape)
        found.append(LayerCall(layer, kind, sources, source, tuple(outputs[0].shape)))

    def open_model(inner: tf_keras.Model) -> None:
        for node in nodes(inner):
            inputs, outputs = _list(node.keras_inputs), _list(node.outputs)
            if not is_nested(node.layer):
                add(node.layer, inputs, outputs)
                continue
            given = zip(node.layer.inputs, inputs, strict=True)
            maker.update((id(theirs), maker[id(ours)]) for theirs, ours in given)
            open_model(node.layer)
            made = zip(outputs, node.layer.outputs, strict=True)
            maker.update((id(ours), maker[id(theirs)]) for ours, theirs in made)

    for tensor, name in zip(model.inputs, model.input_names, strict=True):
        add(tf_keras.layers.InputLayer(tensor.shape[1:], name=name), [], [tensor])
    open_model(model)
    return found


def _list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]
