"""Normalisations: folded into the kernel before, or operators of their own."""

from __future__ import annotations

import dataclasses
import math
from typing import Any, TypeGuard

import numpy as np

from ..calls import Call
from ..net import Net
from ..pending import Kernel, NoRuleError, Pending, Value, rule
from .kernels import CONVOLUTION, as_convolution
from .movement import later
from .ranges import array


def scaled(
    net: Net,
    call: Call,
    given: Value,
    factor: Any,
    offset: Any,
    axis: int = -1,
) -> Value:
    """factor * x + offset along an axis, folded into the kernel that makes x if there is one."""
    shape = net.shape(given)
    axis %= len(shape)
    is_last = axis == len(shape) - 1
    factor, offset = (
        np.broadcast_to(np.asarray(v, np.float32), (shape[axis],)) for v in (factor, offset)
    )
    if is_last and _takes_factors(given, shape[-1]):
        return _folded(net, given, factor, offset)
    index = net.settled(given)
    order = [i for i in range(len(shape)) if i != axis] + [axis]
    moved = net.transposed(index, order, f"{call.key}/moved")
    made = _alone(net, call.key, moved, factor, offset)
    if is_last:
        return made
    back = [order.index(i) for i in range(len(shape))]
    return later(
        net, made, shape, lambda value: net.transposed(value, back, f"{call.key}/moved_back")
    )


def _takes_factors(given: Value, channels: int) -> TypeGuard[Pending]:
    """Whether a kernel makes it, of which each channel can be scaled."""
    if not isinstance(given, Pending) or given.is_limited:
        return False
    kernel = (given.inside or given).kernel
    return kernel is not None and len(kernel.bias) == channels


def _folded(net: Net, p: Pending, factor: np.ndarray, offset: np.ndarray) -> Pending:
    if p.inside is not None and p.move is not None:
        inside = _folded(net, p.inside, factor, offset)
        return later(net, inside, p.shape, p.move, keeps_channels=True)
    assert p.kernel is not None
    kernel = p.kernel.times(factor, p.kernel.bias * factor + offset)
    p = dataclasses.replace(p, kernel=kernel)
    one_scale = kernel.is_float or np.all(kernel.scale == kernel.scale[0])
    return p if p.kind != "FULLY_CONNECTED" or one_scale else as_convolution(net, p)


def _alone(net: Net, name: str, index: int, factor: np.ndarray, offset: np.ndarray) -> Pending:
    """A depthwise convolution of 1x1."""
    shape, channels = net.tensor(index).shape, len(factor)
    image = shape if len(shape) == 4 else (1, 1, math.prod(shape[:-1]), channels)
    options = {**CONVOLUTION, "depth_multiplier": 1}
    ones = np.ones((1, 1, 1, channels), np.float32)  # behind a layer that stays float
    kernel = Kernel(ones, np.ones(channels), np.zeros(channels, np.float32), 3)
    if not net.is_float(index):
        codes = np.full((1, 1, 1, channels), 127, np.int8)
        kernel = dataclasses.replace(kernel, codes=codes, scale=np.full(channels, 1 / 127))
    return Pending(
        name,
        "DEPTHWISE_CONV_2D",
        (net.reshaped(index, image),),
        image,
        options,
        shape,
        kernel.times(factor, offset),
    )


@rule("BatchNormalization")
def _batch_normalisation(net: Net, call: Call, given: Value, *_: Any) -> Value:
    layer = call.operation
    variance = array(layer.moving_variance).astype(np.float32) + np.float32(layer.epsilon)
    factor = (1 / np.sqrt(variance.astype(np.float64))).astype(np.float32)
    if layer.scale:
        factor = factor * array(layer.gamma).astype(np.float32)
    offset = -array(layer.moving_mean).astype(np.float32) * factor
    if layer.center:
        offset = offset + array(layer.beta).astype(np.float32)
    return scaled(net, call, given, factor, offset, layer.axis)


@rule("Rescaling")
def _rescaling(net: Net, call: Call, given: Value, *_: Any) -> Value:
    layer = call.operation
    return scaled(net, call, given, np.float32(layer.scale), np.float32(layer.offset))


@rule("Normalization")
def _normalization(net: Net, call: Call, given: Value, *_: Any) -> Value:
    layer = call.operation
    mean, variance = (array(v).astype(np.float32) for v in (layer.mean, layer.variance))
    if mean.size != mean.shape[-1] if mean.ndim else False:
        raise NoRuleError(f"'{call.name}' must normalise along the last axis or none.")
    deviation = np.maximum(np.sqrt(variance.reshape(-1)), np.float32(1e-7))
    mean = mean.reshape(-1)
    if layer.invert:
        return scaled(net, call, given, deviation, mean)
    return scaled(net, call, given, 1 / deviation, -mean / deviation)
