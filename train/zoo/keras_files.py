"""Published Keras files of whole models (.h5) into the zoo's networks.

    python -m ec2t_tf.train.zoo.keras_files mlperf_tiny_resnet8.h5 start.weights.h5 \\
        --model=resnet8 --statistics=cifar10

writes weights for `--float_weights`. Layers are taken by kind and order: their names and the order
of branches may differ, which Keras' own `load_weights` refuses; a bias for which the network has no
place moves into the normalisation behind it.
"""

from __future__ import annotations

import argparse
import collections
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ec2t_tf import files
from ec2t_tf.export.commands.parser import say_error

MEAN = 2  # index of a normalisation's moving mean: gamma, beta, mean, variance


def is_whole_model(path: str | Path) -> bool:
    """Whether a file is an .h5 that Keras' `model.save` wrote, not weights alone."""
    try:
        with h5py.File(path) as file:
            return "model_config" in file.attrs and "model_weights" in file
    except OSError:
        return False


def load(
    model: Any,
    path: str | Path,
    *,
    mean: np.ndarray | None = None,
    std: np.ndarray | None = None,
    white: float = 255.0,
) -> None:
    """Load the weights of a whole model's .h5 file.

    Args:
      model: a network of the zoo; its layers of each kind must have the file's shapes, in order.
      mean, std: per channel on the [0, 1] scale, by which the network's inputs are normalised where
        the file's net takes pixels themselves; its first convolution is scaled for that. Zeros that
        pad the image are the mean then, no longer black.
      white: the largest pixel of the file's net, 255 or 1.

    Raises:
      ValueError: the file is damaged, or its layers are of another network.
    """
    path = Path(path)
    arrays = _arrays(path)
    previous: list[np.ndarray] | None = None
    bias: np.ndarray | None = None  # of the layer before, which has no place for it
    fresh = []
    for layer in model.layers:
        if not layer.weights:
            continue
        kind = type(layer).__name__
        if not arrays[kind]:
            raise ValueError(
                f"'{path.name}' must hold as many {kind} layers as model '{model.name}'. "
                f"Received: none for '{layer.name}'. Is it the file of another network?"
            )
        values = arrays[kind].pop(0)
        if bias is not None:
            if kind != "BatchNormalization":
                raise ValueError(
                    f"'{path.name}' has a bias in front of '{layer.name}', for which model "
                    f"'{model.name}' has no place. Is it the file of another network?"
                )
            values[MEAN] = values[MEAN] - bias
            bias = None
        if previous is None and mean is not None and std is not None:
            values = _for_normalised(values, white * mean, white * std)
        if len(values) == 2 and len(layer.weights) == 1:
            *values, bias = values
        shapes = [tuple(weight.shape) for weight in layer.weights]
        if shapes != [value.shape for value in values]:
            raise ValueError(
                f"'{path.name}' must hold arrays of shapes {shapes} for layer '{layer.name}'. "
                f"Received: {[value.shape for value in values]}."
            )
        fresh.append((layer, values))
        previous = values
    left = sorted(kind for kind, values in arrays.items() if values)
    if left or bias is not None:
        raise ValueError(
            f"'{path.name}' holds more layers than model '{model.name}' has places for: {left}. "
            "Is it the file of another network?"
        )
    for layer, values in fresh:
        layer.set_weights(values)


def _for_normalised(
    values: list[np.ndarray], mean: np.ndarray, std: np.ndarray
) -> list[np.ndarray]:
    """Kernel and bias of a convolution of pixels, for (pixels - mean) / std."""
    kernel, *bias = values
    shift = np.einsum("hwio,i->o", kernel, mean)
    kernel = kernel * std[:, None]
    return [kernel, (bias[0] if bias else 0) + shift]


def _arrays(path: Path) -> dict[str, list[list[np.ndarray]]]:
    """The arrays of each layer that has any, by the layer's class, in the file's order."""
    found: dict[str, list[list[np.ndarray]]] = collections.defaultdict(list)
    try:
        with h5py.File(path) as file:
            config = json.loads(file.attrs["model_config"])
            kinds = {
                layer["config"]["name"]: layer["class_name"] for layer in config["config"]["layers"]
            }
            group = file["model_weights"]
            for name in map(_text, group.attrs["layer_names"]):
                names = group[name].attrs["weight_names"]
                arrays = [np.asarray(group[name][_text(weight)], np.float32) for weight in names]
                if arrays:
                    found[kinds[name]].append(arrays)
    except (OSError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(
            f"A whole model that Keras wrote as .h5 is required. Received: '{path}' ({error})."
        ) from error
    return found


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def command(argv: Sequence[str]) -> int:
    """Writes the network's weights; `argv` has the program's name first. Returns the exit code."""
    from ec2t_tf.train import zoo
    from ec2t_tf.train.tasks.images import KNOWN_STATISTICS

    parser = argparse.ArgumentParser(
        prog=argv[0], description="A published .h5 model as weights for --float_weights."
    )
    parser.add_argument("file", help="the .h5 file of a whole model")
    parser.add_argument("output", help="the weights to write, *.weights.h5")
    parser.add_argument("--model", required=True, choices=list(zoo.MODELS))
    parser.add_argument("--input_shape", default="32,32,3", help="default: %(default)s")
    parser.add_argument("--classes", type=int, default=10, help="default: %(default)s")
    parser.add_argument(
        "--statistics",
        choices=list(KNOWN_STATISTICS),
        help="data set by which inputs are normalised where the file's net takes pixels",
    )
    parser.add_argument("--white", type=float, default=255.0, help="its largest pixel, 255 or 1")
    given = parser.parse_args(argv[1:])
    mean = std = None
    if given.statistics:
        mean, std = map(np.array, KNOWN_STATISTICS[given.statistics])
    try:
        if not given.output.endswith(".weights.h5"):
            raise ValueError(f"OUTPUT must end in .weights.h5. Received: '{given.output}'.")
        shape = tuple(int(size) for size in given.input_shape.split(","))
        model = zoo.build(given.model, input_shape=shape, classes=given.classes)
        load(model, given.file, mean=mean, std=std, white=given.white)
        with files.replacing(given.output) as fresh:
            model.save_weights(fresh)
    except (OSError, ValueError) as error:
        return say_error(str(error))
    print(f"{given.output}: {model.count_params():,} parameters of {model.name}")
    return 0


if __name__ == "__main__":
    sys.exit(command(["python -m ec2t_tf.train.zoo.keras_files", *sys.argv[1:]]))
