"""Networks by name. Each builder takes (input_shape, classes), most also (depth, width), and
returns a tf_keras model whose output is logits (no softmax: an int8 softmax would hide differences
below 1/256)."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import tf_keras

from ec2t_tf.train.zoo.ds_cnn import ds_cnn
from ec2t_tf.train.zoo.efficientnet_b1 import efficientnet_b1
from ec2t_tf.train.zoo.lenet5 import lenet5
from ec2t_tf.train.zoo.micronet import micronet
from ec2t_tf.train.zoo.mobilenet import mobilenet
from ec2t_tf.train.zoo.resnet8 import resnet8
from ec2t_tf.train.zoo.resnet18 import resnet18
from ec2t_tf.train.zoo.resnet20 import resnet20
from ec2t_tf.train.zoo.sensor_cnn import sensor_cnn

Builder = Callable[..., tf_keras.Model]

MODELS: dict[str, Builder] = {
    "ds_cnn": ds_cnn,
    "efficientnet_b1": efficientnet_b1,
    "lenet5": lenet5,
    "micronet": micronet,
    "mobilenet": mobilenet,
    "resnet8": resnet8,
    "resnet18": resnet18,
    "resnet20": resnet20,
    "sensor_cnn": sensor_cnn,
}

# Axes of one input, where it is no image (height, width, channels).
INPUT_RANKS = {"sensor_cnn": (2,)}


def build(
    name: str,
    *,
    input_shape: tuple[int, ...],
    classes: int,
    depth: float = 1.0,
    width: float = 1.0,
) -> tf_keras.Model:
    """Build a network of the zoo with freshly initialised weights.

    Args:
      name: one of `MODELS`.
      input_shape: of one input without the batch, such as (height, width, channels).
      classes: number of logits.
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
    scalable = {n: inspect.signature(make).parameters for n, make in MODELS.items()}
    if any(axis not in scalable[name] for axis in scale):
        able = sorted(n for n, known in scalable.items() if all(axis in known for axis in scale))
        raise ValueError(
            f"A network that can be scaled is required. Received: '{name}' with depth={depth}, "
            f"width={width}. Use one of {able}, or leave depth and width at 1."
        )
    return MODELS[name](input_shape=input_shape, classes=classes, **scale)
