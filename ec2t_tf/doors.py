"""Which room a model belongs to: that of Keras 3 (`quantisation`) or that of tf_keras (`tfmot`)."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any


def is_keras_3(model: Any) -> bool:
    """Whether it is a model of Keras 3."""
    keras = sys.modules.get("keras")
    return keras is not None and isinstance(model, keras.Model)


def is_tf_keras(model: Any) -> bool:
    """Whether it is a model of tf_keras; where tf_keras is not loaded nothing is."""
    tf_keras = sys.modules.get("tf_keras")
    return tf_keras is not None and isinstance(model, tf_keras.Model)


def of(model: Any) -> ModuleType | None:
    """The room, with the modules `apply`, `calls`, `strip`, `summary` and `watch`; or None."""
    if is_keras_3(model):
        from ec2t_tf import quantisation

        return quantisation
    if is_tf_keras(model):
        from ec2t_tf import tfmot

        return tfmot
    return None
