"""Loading what `model.save` wrote."""

from __future__ import annotations

import os

import tf_keras

from ec2t_tf import scheme, untrusted


def load_model(path: str | os.PathLike, *, safe_mode: bool = True) -> tf_keras.Model:
    """Load a model that `apply` made, from `.keras`, `.h5` or a SavedModel folder.

    No scope and no custom objects are needed; a network's own custom layers must be registered with
    Keras (`tf_keras.saving.register_keras_serializable`).

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
        if safe_mode:
            with scheme.loading():
                untrusted.require_nothing_to_run(path)
        return scheme.load(path, safe_mode=safe_mode)
    except (ValueError, MemoryError):
        raise
    except Exception as error:  # Keras raises what it happens upon in a damaged file
        raise ValueError(
            "load_model requires a .keras or .h5 file or a SavedModel folder. Received: "
            f"'{path}', which Keras cannot read: {type(error).__name__}: {error}"
        ) from error
