"""Published PyTorch weights (.npz of a state dict) into the zoo's networks."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np

from ec2t_tf import files
from ec2t_tf.train.zoo import keras_files


def load_weights(model: Any, path: str | Path) -> None:
    """Load float weights: a `.npz` PyTorch state dict, a whole model's `.h5` (see `keras_files`),
    or any weights file that Keras reads.

    The net may be one of Keras 3 or its twin in tf_keras. Convolutions OIHW become HWIO; a fully
    connected layer behind a Flatten gets its rows from channel-major to (height, width, channel)
    order.

    Raises:
      FileNotFoundError: no such file.
      ValueError: the file is damaged, or an array is missing, left over, or has another shape.
    """
    path = Path(path)
    if path.suffix != ".npz":
        if not path.exists():
            raise FileNotFoundError(f"float weights not found. Received: '{path}'.")
        if keras_files.is_whole_model(path):
            keras_files.load(model, path)
            return
        try:
            model.load_weights(str(path))
        except (OSError, KeyError) as error:  # of h5py, for a file that is damaged or another's
            raise ValueError(
                f"A weights file that Keras wrote is required. Received: '{path}' ({error})."
            ) from error
        return
    state = files.read_arrays(path)
    unused = {key for key in state if not key.endswith("num_batches_tracked")}

    def take(key: str) -> np.ndarray:
        if key not in state:
            raise ValueError(
                f"'{path.name}' must hold '{key}' for model '{model.name}'. Received: keys like "
                f"{sorted(state)[:3]}. Is it the file of another network?"
            )
        unused.discard(key)
        return state[key]

    for layer, before in zip(model.layers, [None, *model.layers], strict=False):
        if not layer.weights:
            continue
        kind = type(layer).__name__
        # layer1_0_conv1 -> layer1.0.conv1
        prefix = re.sub(r"_(?=\d|conv|bn)", ".", layer.name)
        if kind == "Conv2D":
            values = [take(f"{prefix}.weight").transpose(2, 3, 1, 0)]
        elif kind == "Dense":
            values = [_rows_in_hwc(take(f"{prefix}.weight").T, before)]
        elif kind == "BatchNormalization":
            names = ("weight", "bias", "running_mean", "running_var")
            values = [take(f"{prefix}.{name}") for name in names]
        else:
            raise ValueError(f"No rule to load a {kind} layer ('{layer.name}').")
        if getattr(layer, "bias", None) is not None:
            values.append(take(f"{prefix}.bias"))
        shapes = [tuple(weight.shape) for weight in layer.weights]
        if shapes != [value.shape for value in values]:
            raise ValueError(
                f"'{path.name}' must hold arrays of shapes {shapes} for layer '{layer.name}'. "
                f"Received: {[value.shape for value in values]}."
            )
        layer.set_weights(values)
    if unused:
        raise ValueError(
            f"'{path.name}' holds arrays that model '{model.name}' has no place for: "
            f"{sorted(unused)[:5]}. Is it the file of another network?"
        )


def _rows_in_hwc(kernel: np.ndarray, before: Any) -> np.ndarray:
    """The kernel of a fully connected layer for what the layer `before` it gives."""
    if type(before).__name__ != "Flatten":
        return kernel
    height, width, channels = before.input.shape[1:]
    planes = kernel.reshape(channels, height, width, -1)
    return planes.transpose(1, 2, 0, 3).reshape(kernel.shape)
