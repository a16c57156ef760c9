"""The only file that knows tf_keras from Keras 3.

tfmot, and so everything in this package that trains, works on tf_keras. `to_tf_keras` rebuilds a
Keras 3 model there, node by node, and `to_keras_3` goes back. Both copy the weights with a check of
every shape and compare the outputs of the two models on random input before they return.

Keras 3 is imported where it is used: users of tf_keras do not pay for it.
"""

from __future__ import annotations

from typing import Any

import tf_keras

from ec2t_tf.tfmot.in_keras_3 import _require_tf_keras_graph, _ToKeras3
from ec2t_tf.tfmot.in_tf_keras import _require_keras_3_graph, _ToTfKeras
from ec2t_tf.tfmot.twins import TOLERANCE, CustomLayers, _random_input, _require_equal


def to_tf_keras(
    model: Any, *, custom_layers: CustomLayers | None = None, tolerance: float = TOLERANCE
) -> tf_keras.Model:
    """Rebuilds a Keras 3 model in tf_keras: same graph, same names, same weights, same outputs.

    Args:
      model: a built Keras 3 `Sequential` or functional model; nested models, shared layers, several
        inputs and outputs and graphs written with `keras.ops` are rebuilt as they are.
      custom_layers: twins of what only the user knows: `{Keras3Layer: TfKerasLayer}`. The twin is
        made with `TfKerasLayer.from_config(layer.get_config())`. Activation functions of the user
        are listed the same way.
      tolerance: largest difference between the outputs of the two models on random input, relative
        to the largest output.

    Returns:
      A new tf_keras model. The given one is untouched.

    Raises:
      TypeError: `model` is not a Keras 3 model with a graph.
      ValueError: it is not built, holds something without a twin, or the twin computes otherwise.
    """
    _require_keras_3_graph(model)
    twin = _ToTfKeras(custom_layers or {}).model(model)
    structure = getattr(model, "_functional", model)._inputs_struct
    _require_equal(model, twin, _random_input(model.inputs, structure), tolerance)
    return twin


def to_keras_3(
    model: tf_keras.Model,
    *,
    custom_layers: CustomLayers | None = None,
    tolerance: float = TOLERANCE,
) -> Any:
    """Rebuilds a tf_keras model in Keras 3: the way back from `to_tf_keras`.

    Args:
      model: a built tf_keras `Sequential` or functional model of plain layers.
      custom_layers: `{TfKerasLayer: Keras3Layer}`, made with `Keras3Layer.from_config(...)`.
      tolerance: as in `to_tf_keras`.

    Returns:
      A new Keras 3 model.

    Raises:
      TypeError: `model` is not a tf_keras model with a graph.
      ValueError: it is not built, holds something without a twin, or the twin computes otherwise.
    """
    _require_tf_keras_graph(model)
    twin = _ToKeras3(custom_layers or {}).model(model)
    feed = _random_input(model.inputs, model._nested_inputs)
    _require_equal(model, twin, feed, tolerance)
    return twin
