"""`strip` of a tf_keras model."""

from __future__ import annotations

import tf_keras

from ec2t_tf.tfmot import scheme, wrapper
from ec2t_tf.tfmot.quantize_config import ternary_layers


def is_treated(model: tf_keras.Model) -> bool:
    """Whether tfmot's wrappers are in it."""
    return wrapper.is_quantised(model)


def plain(model: tf_keras.Model) -> tf_keras.Model:
    """The float model, with the weights that the ternary layers compute with."""
    ternary = {layer.name: layer for layer in ternary_layers(model)}
    copy = scheme.plain_model(model)
    for layer in copy.layers:
        if layer.name in ternary:
            kernel = ternary[layer.name].kernel_name
            getattr(layer, kernel).assign(ternary[layer.name].assign().dequantise())
    return copy
