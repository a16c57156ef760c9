"""Equal spread of the output channels of a tf_keras net before it becomes ternary."""

from __future__ import annotations

import collections
from collections.abc import Collection

import numpy as np
import tf_keras
from tf_keras import layers

from ec2t_tf.equal_channels import Channels, equalised
from ec2t_tf.tfmot import graph


def equal_weights(model: tf_keras.Model, names: Collection[str]) -> dict[int, np.ndarray]:
    """Values for the variables (by their id) of these layers and of the normalisations after them.

    With them the model computes what it did. Layers and normalisations that are called more than
    once keep their weights.
    """
    if isinstance(model, tf_keras.Sequential):
        model = tf_keras.Model(model.inputs, model.outputs)
    readers = graph.consumers(model)
    calls = collections.Counter(node.layer.name for node in graph.nodes(model))
    found: dict[int, np.ndarray] = {}
    for node in graph.nodes(model):
        layer = node.layer
        if layer.name not in names or calls[layer.name] != 1 or not _can_be_scaled(layer):
            continue
        after = readers.get(id(node.outputs), [])
        reader = after[0] if len(after) == 1 else None
        if isinstance(reader, layers.BatchNormalization) and calls[reader.name] == 1:
            found.update(_scaled(layer, reader))
    return found


def _can_be_scaled(layer: layers.Layer) -> bool:
    kinds = (layers.Conv1D, layers.Conv2D, layers.Conv2DTranspose, layers.Dense)
    activation = getattr(getattr(layer, "activation", None), "__name__", "")
    return type(layer) in kinds and activation == "linear"


def _scaled(layer: layers.Layer, normalisation: layers.BatchNormalization) -> dict[int, np.ndarray]:
    axis = -2 if isinstance(layer, layers.Conv2DTranspose) else -1
    kernel = np.moveaxis(layer.kernel.numpy(), axis, -1)
    if kernel.shape[-1] != normalisation.moving_mean.shape[0]:
        return {}  # it normalises along another axis
    given = Channels(
        kernel,
        layer.bias.numpy() if layer.use_bias else None,
        normalisation.moving_mean.numpy(),
        normalisation.moving_variance.numpy(),
    )
    found = equalised(given, normalisation.epsilon)
    values = {
        id(layer.kernel): np.moveaxis(found.kernel, -1, axis),
        id(normalisation.moving_mean): found.mean,
        id(normalisation.moving_variance): found.variance,
    }
    if found.bias is not None:
        values[id(layer.bias)] = found.bias
    return values
