"""Networks by name. Each builder takes (input_shape, classes) and returns a tf_keras model whose
output is logits (no softmax: an int8 softmax would hide differences below 1/256)."""

from __future__ import annotations

from collections.abc import Callable

import tf_keras
from ec2t_tf.train.zoo.lenet5 import lenet5
from ec2t_tf.train.zoo.resnet8 import resnet8
from ec2t_tf.train.zoo.resnet20 import resnet20

Builder = Callable[..., tf_keras.Model]

MODELS: dict[str, Builder] = {"lenet5": lenet5, "resnet8": resnet8, "resnet20": resnet20}


def build(name: str, *, input_shape: tuple[int, int, int], classes: int) -> tf_keras.Model:
    """Build a network of the zoo with freshly initialised weights.

    Raises:
      ValueError: the name is unknown, or the images are too small for the network.
    """
    if name not in MODELS:
        raise ValueError(f"model must be one of {sorted(MODELS)}. Received: model='{name}'.")
    return MODELS[name](input_shape=input_shape, classes=classes)
