"""Loading what `model.save` wrote."""

from __future__ import annotations

import os

import tf_keras

from ec2t_tf import scheme


def load_model(path: str | os.PathLike) -> tf_keras.Model:
    """Load a model that `apply` made, from `.keras`, `.h5` or a SavedModel folder.

    No scope and no custom objects are needed; a network's own custom layers must be registered with
    Keras (`tf_keras.saving.register_keras_serializable`).

    Raises:
      FileNotFoundError: nothing is there.
      ValueError: it is no saved model.
    """
    path = os.fspath(path)
    if not os.path.exists(path):
        raise FileNotFoundError(
            f"load_model requires a .keras or .h5 file or a SavedModel folder. Received: '{path}', "
            "which does not exist."
        )
    try:
        return scheme.load(path)
    except OSError as error:
        raise ValueError(
            "load_model requires a .keras or .h5 file or a SavedModel folder. "
            f"Received: '{path}', which Keras cannot read: {error}"
        ) from error
