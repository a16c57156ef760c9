"""Networks by name. Each builder takes (input_shape, classes), most also (depth, width), and
returns a tf_keras model whose output is logits (no softmax: an int8 softmax would hide differences
below 1/256)."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import tf_keras

from ec2t_tf.train.zoo.efficientnet_b1 import efficientnet_b1
from ec2t_tf.train.zoo.lenet5 import lenet5
from ec2t_tf.train.zoo.micronet import micronet
from ec2t_tf.train.zoo.resnet8 import resnet8
from ec2t_tf.train.zoo.resnet18 import resnet18
from ec2t_tf.train.zoo.resnet20 import resnet20

Builder = Callable[..., tf_keras.Model]

MODELS: dict[str, Builder] = {
    "efficientnet_b1": efficientnet_b1,
    "lenet5": lenet5,
    "micronet": micronet,
    "resnet8": resnet8,
    "resnet18": resnet18,
    "resnet20": resnet20,
}


def build(
    name: str,
    *,
    input_shape: tuple[int, int, int],
    classes: int,
    depth: float = 1.0,
    width: float = 1.0,
) -> tf_keras.Model:
    """Build a network of the zoo with freshly initialised weights.

    Args:
      name: one of `MODELS`.
      input_shape: (height, width, channels) of the images.
      classes: number of logits.
      depth, width: multiply its blocks and channels.

    Raises:
      ValueError: the name is unknown, the images are too small, or the network cannot be scaled.
    """
    if name not in MODELS:
        raise ValueError(f"model must be one of {sorted(MODELS)}. Received: model='{name}'.")
    if (depth, width) == (1.0, 1.0):
        return MODELS[name](input_shape=input_shape, classes=classes)
    scalable = sorted(n for n in MODELS if "depth" in inspect.signature(MODELS[n]).parameters)
    if name not in scalable:
        raise ValueError(
            f"A network that can be scaled is required. Received: '{name}' with depth={depth}, "
            f"width={width}. Use one of {scalable}, or leave depth and width at 1."
        )
    return MODELS[name](input_shape=input_shape, classes=classes, depth=depth, width=width)
