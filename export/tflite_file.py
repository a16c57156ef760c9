"""Formerly a reader of .tflite files; its errors are now elsewhere."""

from __future__ import annotations

import warnings
from typing import Any

_MOVED = {"FileError": "ec2t_tf.export.graph", "ConversionError": "ec2t_tf.export.convert"}


def __getattr__(name: str) -> Any:
    if name not in _MOVED:
        raise AttributeError(
            f"module '{__name__}' has no attribute '{name}': ec2t_tf.export.tflite.read reads files"
        )
    import importlib

    warnings.warn(
        f"{__name__}.{name} is now {_MOVED[name]}.{name}; the old name goes with the next release.",
        DeprecationWarning,
        stacklevel=2,
    )
    return getattr(importlib.import_module(_MOVED[name]), name)
