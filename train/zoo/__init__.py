"""Networks by name. Each builder takes (input_shape, classes), most also (depth, width), and
returns a Keras 3 model whose output is logits (no softmax: an int8 softmax would hide differences
below 1/256)."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras

    Builder = Callable[..., keras.Model]


class _Models(Mapping[str, "Builder"]):
    """Builders by name, each in the module of that name, which is loaded when it is asked for."""

    def __init__(self, *names: str) -> None:
        self._names = names

    def __getitem__(self, name: str) -> Builder:
        if name not in self._names:
            raise KeyError(name)
        builder: Builder = getattr(importlib.import_module(f"{__name__}.{name}"), name)
        return builder

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)


MODELS = _Models(
    "autoencoder",
    "ds_cnn",
    "efficientnet_b1",
    "lenet5",
    "micronet",
    "mobilenet",
    "resnet8",
    "resnet18",
    "resnet20",
    "sensor_cnn",
)

# Below full width they have strided 1x1 convolutions that oneDNN would train wrongly (onednn.py).
NARROW_SHORTCUTS = ("micronet", "resnet8")
# Axes of one input, where it is no image (height, width, channels).
INPUT_RANKS = {"autoencoder": (1, 2, 3), "sensor_cnn": (2,)}


def build(
    name: str,
    *,
    input_shape: tuple[int, ...],
    classes: int,
    depth: float = 1.0,
    width: float = 1.0,
) -> keras.Model:
    """Build a network of the zoo with freshly initialised weights.

    Args:
      name: one of `MODELS`.
      input_shape: of one input without the batch, such as (height, width, channels).
      classes: number of logits; of the autoencoder, number of values of an input.
      depth, width: multiply its blocks and channels.

    Raises:
      ValueError: the name is unknown, the images are too small, or the network cannot be scaled.
    """
    if name not in MODELS:
        raise ValueError(f"model must be one of {sorted(MODELS)}. Received: model='{name}'.")
    if len(input_shape) not in INPUT_RANKS.get(name, (3,)):
        raise ValueError(
            f"{name} requires inputs of {INPUT_RANKS.get(name, (3,))[0]} axes. "
            f"Received: input_shape={input_shape}. Choose another --model for this --dataset."
        )
    scale = {k: v for k, v in (("depth", depth), ("width", width)) if v != 1.0}
    require_scalable(name, *scale)
    return MODELS[name](input_shape=input_shape, classes=classes, **scale)


def require_scalable(name: str, *axes: str) -> None:
    """Raises a ValueError for a network without one of these: "depth", "width"."""
    scalable = {n: inspect.signature(make).parameters for n, make in MODELS.items()}
    if name in MODELS and any(axis not in scalable[name] for axis in axes):
        able = sorted(n for n, known in scalable.items() if all(axis in known for axis in axes))
        raise ValueError(
            f"A network that can be scaled in {' and '.join(axes)} is required. Received: "
            f"'{name}'. Use one of {able}, or leave depth and width at 1."
        )
