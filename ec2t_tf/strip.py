"""`strip`: from the model that was trained back to plain layers."""

from __future__ import annotations

import tf_keras

from ec2t_tf import scheme
from ec2t_tf.quantize_config import ternary_layers


def strip(model: tf_keras.Model) -> tf_keras.Model:
    """A plain float model whose ternary layers hold {-w_n, 0, +w_p}.

    The weights are those the ternary model computes with; activations are no longer quantised.
    Layers have the names they had before `apply`.

    Args:
      model: what `apply` returned, or `load_model` loaded.

    Raises:
      ValueError: not such a model.
    """
    ternary = {layer.name: layer for layer in ternary_layers(model)}
    if not ternary:
        raise ValueError(
            "strip requires a model that ec2t_tf.apply made. "
            f"Received: '{getattr(model, 'name', model)}', which has no ternary layer."
        )
    plain = scheme.plain_model(model)
    for layer in plain.layers:
        if layer.name in ternary:
            kernel = ternary[layer.name].kernel_name
            getattr(layer, kernel).assign(ternary[layer.name].assign().dequantise())
    return plain
