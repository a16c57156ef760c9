"""`strip`: from the model that was trained back to plain layers."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from ec2t_tf import doors


def strip(
    model: Any,
    *,
    keras_version: int | None = None,
    custom_layers: Mapping[Any, Any] | None = None,
) -> Any:
    """A plain float model whose ternary layers hold {-w_n, 0, +w_p}; of the library of `model`.

    The weights are those the ternary model computes with; activations are no longer quantised.
    Layers have the names they had before `apply`.

    Args:
      model: what `apply` returned, or `load_model` loaded.
      keras_version: deprecated; 3 turns a tf_keras model into one of Keras 3, for which there is
        `ec2t_tf.tfmot.to_keras_3`.
      custom_layers: deprecated with it; `{TfKerasLayer: Keras3Layer}`.

    Raises:
      ValueError: not such a model, an unknown version, or (Keras 3) a layer without a twin.
    """
    if keras_version not in (None, 2, 3):
        raise ValueError(
            "keras_version must be 2 (tf_keras) or 3 (Keras 3). "
            f"Received: keras_version={keras_version!r}."
        )
    room = doors.of(model)
    if room is None or not room.strip.is_treated(model):
        raise ValueError(
            "strip requires a model that ec2t_tf.apply made. "
            f"Received: '{getattr(model, 'name', model)}', which has no ternary or int8 layer."
        )
    plain = room.strip.plain(model)
    if keras_version is None:
        return plain
    warnings.warn(
        "keras_version goes with the next release: strip keeps the library of the model. Use "
        "ec2t_tf.tfmot.to_keras_3(ec2t_tf.strip(model)).",
        DeprecationWarning,
        stacklevel=2,
    )
    if keras_version == 3 and doors.is_tf_keras(plain):
        from ec2t_tf.tfmot import to_keras_3

        return to_keras_3(plain, custom_layers=custom_layers)
    return plain
