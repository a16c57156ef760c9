"""Equal spread of all output channels before a net becomes ternary; it computes what it did.

A layer whose only reader is a batch normalisation may have each output channel scaled freely: the
normalisation takes the scale back. One centroid pair a layer serves channels of equal spread best;
a channel ten times as wide as the others otherwise decides for all of them.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import keras
import numpy as np

from ec2t_tf.quantisation.graph import Call, read
from ec2t_tf.quantisation.kinds import DEPTHWISE, KERNELS, activation_name, kind_of

# Channels narrower than this share of the layer's spread are dead: they stay as they are.
SMALLEST_SHARE = 0.05


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
    return in_kernels and activation_name(call.operation) == "linear"


def _scale(layer: Any, normalisation: Any) -> bool:
    last = len(normalisation.moving_mean.shape) and layer.kernel.shape[-1]
    axis = -2 if "Transpose" in type(layer).__name__ else -1
    if axis == -1 and last != normalisation.moving_mean.shape[0]:
        return False
    kernel = np.moveaxis(keras.ops.convert_to_numpy(layer.kernel), axis, -1)
    variance = keras.ops.convert_to_numpy(normalisation.moving_variance)
    scale = channel_scales(kernel, variance, normalisation.epsilon)
    layer.kernel.assign(np.moveaxis(kernel / scale, -1, axis))
    if layer.use_bias:
        layer.bias.assign(keras.ops.convert_to_numpy(layer.bias) / scale)
    mean = keras.ops.convert_to_numpy(normalisation.moving_mean)
    normalisation.moving_mean.assign(mean / scale)
    scaled = (variance + normalisation.epsilon) / scale**2 - normalisation.epsilon
    normalisation.moving_variance.assign(np.maximum(scaled, 0.0))
    return True


def channel_scales(kernel: np.ndarray, variance: np.ndarray, epsilon: float) -> np.ndarray:
    """By what to divide each channel, float32 (channels,); 1 for a dead one.

    Args:
      kernel: float32 (..., channels).
      variance: moving variance of the normalisation after it, (channels,): what is divided by the
        squared scale stays above `epsilon`, below which the normalisation could not take it back.
    """
    spread = np.sqrt(np.square(kernel.reshape(-1, kernel.shape[-1])).mean(axis=0))
    alive = spread > SMALLEST_SHARE * np.sqrt(np.square(spread).mean())
    if not alive.any():
        return np.ones_like(spread)
    scale = np.where(alive, spread / np.median(spread[alive]), 1.0)
    return np.minimum(scale, np.sqrt((variance + epsilon) / epsilon)).astype(np.float32)
