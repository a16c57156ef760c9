"""Equal spread of the output channels of a Keras 3 net before it becomes ternary."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import keras
import numpy as np

from ec2t_tf.equal_channels import Channels, equalised
from ec2t_tf.quantisation.computed import OfComputed
from ec2t_tf.quantisation.graph import Call, read
from ec2t_tf.quantisation.kinds import DEPTHWISE, KERNELS, activation_name, kind_of


def equalise(model: keras.Model, names: Collection[str]) -> list[str]:
    """Scale the kernels of these layers in place; the names of those that could be scaled.

    Args:
      model: functional, each layer one operator (`split`).
    """
    graph = read(model)
    users = graph.consumers()
    uses: dict[str, int] = {}
    for call in graph.calls:
        uses[call.name] = uses.get(call.name, 0) + 1
    done = []
    for call in graph.calls:
        if call.name not in names or uses[call.name] != 1 or not _can_be_scaled(call):
            continue
        readers = users.get(call.results[0], [])
        reader = readers[0] if len(readers) == 1 else None
        if reader is None or kind_of(reader.operation) != "BatchNormalization":
            continue
        if uses[reader.name] == 1 and _scale(call.operation, reader.operation):
            done.append(call.name)
    return done


def _can_be_scaled(call: Call) -> bool:
    kind = kind_of(call.operation)
    in_kernels = kind in KERNELS and kind not in DEPTHWISE and kind != "EinsumDense"
    is_variable = not isinstance(call.operation, OfComputed)
    return in_kernels and is_variable and activation_name(call.operation) == "linear"


def _scale(layer: Any, normalisation: Any) -> bool:
    axis = -2 if "Transpose" in type(layer).__name__ else -1
    kernel = np.moveaxis(_numpy(layer.kernel), axis, -1)
    if kernel.shape[-1] != normalisation.moving_mean.shape[0]:
        return False  # it normalises along another axis
    given = Channels(
        kernel,
        _numpy(layer.bias) if layer.use_bias else None,
        _numpy(normalisation.moving_mean),
        _numpy(normalisation.moving_variance),
    )
    found = equalised(given, normalisation.epsilon)
    layer.kernel.assign(np.moveaxis(found.kernel, -1, axis))
    if layer.use_bias:
        layer.bias.assign(found.bias)
    normalisation.moving_mean.assign(found.mean)
    normalisation.moving_variance.assign(found.variance)
    return True


def _numpy(variable: Any) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(variable))
