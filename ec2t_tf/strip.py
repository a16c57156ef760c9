"""`strip`: from the model that was trained back to plain layers."""

from __future__ import annotations

from typing import Any

import tf_keras

from ec2t_tf import keras_compat, scheme
from ec2t_tf.quantize_config import ternary_layers


def strip(
    model: tf_keras.Model,
    *,
    keras_version: int = 2,
    custom_layers: keras_compat.CustomLayers | None = None,
) -> Any:
    """A plain float model whose ternary layers hold {-w_n, 0, +w_p}.

    The weights are those the ternary model computes with; activations are no longer quantised.
    Layers have the names they had before `apply`.

    Args:
      model: what `apply` returned, or `load_model` loaded.
      keras_version: 2 for a tf_keras model, 3 for a Keras 3 model.
      custom_layers: `{TfKerasLayer: Keras3Layer}`, twins of custom layers for `keras_version=3`.

    Raises:
      ValueError: not such a model, an unknown version, or (Keras 3) a layer without a twin.
    """
    if keras_version not in (2, 3):
        raise ValueError(
            "keras_version must be 2 (tf_keras) or 3 (Keras 3). "
            f"Received: keras_version={keras_version!r}."
        )
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
    if keras_version == 3:
        return keras_compat.to_keras_3(plain, custom_layers=custom_layers)
    return plain
