"""Loading what `model.save` wrote."""

from __future__ import annotations

import json
import os
import zipfile
from typing import Any

from ec2t_tf import lazy, untrusted


def load_model(path: str | os.PathLike, *, safe_mode: bool = True) -> Any:
    """Load a saved model of Keras 3 (`.keras`) or tf_keras (`.keras`, `.h5`, SavedModel folder).

    For a Keras 3 model `keras.saving.load_model` does the same. No scope and no custom objects are
    needed; a network's own custom layers must be registered
    (`keras.saving.register_keras_serializable`, or tf_keras' function of that name).

    Args:
      path: the file or folder.
      safe_mode: run nothing that the file brings or names: refuse Lambda layers, and classes and
        functions that are neither Keras's nor registered with it. False runs them: for files whose
        origin you trust.

    Raises:
      FileNotFoundError: nothing is there.
      ValueError: it is no saved model, a damaged one, or one that `safe_mode` refuses.
    """
    path = os.fspath(path)
    if not os.path.exists(path):
        raise FileNotFoundError(
            f"load_model requires a .keras or .h5 file or a SavedModel folder. Received: '{path}', "
            "which does not exist."
        )
    try:
        if _is_of_keras_3(path):
            with lazy.needed_by("ec2t_tf.load_model"):
                import keras

            if safe_mode:
                untrusted.require_nothing_to_run(path, keras.saving.get_registered_object)
            return keras.saving.load_model(path, safe_mode=safe_mode)
        with lazy.needed_by("ec2t_tf.load_model"):
            import tf_keras

            from ec2t_tf.tfmot import scheme, wrapper

        if safe_mode:
            with wrapper.loading():
                untrusted.require_nothing_to_run(path, tf_keras.saving.get_registered_object)
        return scheme.load(path, safe_mode=safe_mode)
    except (ValueError, MemoryError, ImportError):
        raise
    except Exception as error:  # Keras raises what it happens upon in a damaged file
        raise ValueError(
            "load_model requires a .keras or .h5 file or a SavedModel folder. Received: "
            f"'{path}', which Keras cannot read: {type(error).__name__}: {error}"
        ) from error


def _is_of_keras_3(path: str) -> bool:
    """By the version that is written in the file."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        if "metadata.json" not in archive.namelist():
            return False
        metadata = json.loads(archive.read("metadata.json"))
    return not str(metadata.get("keras_version", "2")).startswith("2.")
