"""What is ternary, and what ternary weights need at least."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from .graph import Graph, Operator, Tensor

# Operators with a kernel: the input that holds it, and its axis of output channels.
KERNELS = {
    "CONV_2D": (1, 0),
    "DEPTHWISE_CONV_2D": (1, 3),
    "FULLY_CONNECTED": (1, 0),
    "TRANSPOSE_CONV": (1, 0),
}


# Operators with several kernels: the inputs that hold them, each (output channels, weights).
RECURRENT = {"UNIDIRECTIONAL_SEQUENCE_LSTM": tuple(range(1, 9)), "SVDF": (1, 2)}


def is_ternary(channels: npt.NDArray[Any]) -> bool:
    """Whether every output channel has at most one positive and one negative code.

    Four cases that could be decided otherwise:

    - no zero: ternary. All formats store it, with two symbols instead of three.
    - all zero: ternary, for the same reason. So is a kernel without weights.
    - code -128: ternary as far as this function goes; it counts as a code like any other. What
      negates weights or holds them in symmetric int8 (the layer blob, C) must refuse it.
    - other codes in each channel: ternary. The scales of channels differ, and a normalisation of
      negative gain mirrors a channel, so the two codes of a layer may be any in a channel.

    Args:
      channels: whole numbers [output channels, weights of one channel].
    """
    lowest = channels.min(axis=1, keepdims=True, initial=0)
    highest = channels.max(axis=1, keepdims=True, initial=0)
    return bool(((channels == 0) | (channels == lowest) | (channels == highest)).all())


def entropy(symbols: npt.NDArray[Any]) -> float:
    """First-order entropy of an array's values in bits a value, 0 for an empty one.

    The least that a code without memory needs (Shannon 1948).
    """
    _, counts = np.unique(symbols, return_counts=True)
    shares = counts / max(counts.sum(), 1)
    return float(max(0.0, -(shares * np.log2(shares)).sum()))


def channels_of(kernel: npt.NDArray[Any], axis: int) -> npt.NDArray[Any]:
    """A kernel as [output channels, weights of one channel], in the order of memory."""
    return np.moveaxis(kernel, axis, 0).reshape(kernel.shape[axis], -1)


def kernel_of(graph: Graph, operator: Operator) -> tuple[int, Tensor, npt.NDArray[Any]] | None:
    """The constant kernel of a convolution or a fully connected layer.

    Returns:
      The index of its tensor, the tensor, and its values as [output channels, weights of one
      channel]; None for other operators and for a kernel that is computed.
    """
    position, axis = KERNELS.get(operator.kind, (0, 0))
    if operator.custom is not None or not 0 < position < len(operator.inputs):
        return None
    index = operator.inputs[position]
    tensor = graph.tensors[index]
    if index < 0 or tensor.data is None or axis >= len(tensor.shape):
        return None
    return index, tensor, channels_of(tensor.data, axis)
