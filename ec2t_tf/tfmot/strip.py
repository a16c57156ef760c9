"""`strip` of a tf_keras model."""

from __future__ import annotations

import tf_keras

from ec2t_tf.tfmot import scheme, wrapper
from ec2t_tf.tfmot.quantize_config import ternary_layers
from ec2t_tf.tfmot.quantizers import kernel_owner


def is_treated(model: tf_keras.Model) -> bool:
    """Whether tfmot's wrappers are in it."""
    return wrapper.is_quantised(model)


def plain(model: tf_keras.Model) -> tf_keras.Model:
    """The float model, with the weights that the ternary layers compute with."""
    copy = scheme.plain_model(model)
    there = {layer.name: layer for layer in copy.layers}
    for ternary in ternary_layers(model):
        owner = kernel_owner(there[ternary.layer.name])
        getattr(owner, ternary.kernel_name).assign(ternary.assign().dequantise())
    return copy
