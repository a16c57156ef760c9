"""Pooling over windows and over everything; means and maxima over axes."""

from __future__ import annotations

import math
from typing import Any

from ..calls import Call
from ..net import Net
from ..pending import NoRuleError, Pending, Value, rule


def _windowed(net: Net, call: Call, given: Value, kind: str) -> Value:
    layer, index = call.operation, net.settled(given)
    if layer.data_format != "channels_last":
        raise NoRuleError(f"'{call.name}': data_format must be channels_last.")
    shape = net.tensor(index).shape
    if len(shape) not in (3, 4):
        raise NoRuleError(f"'{call.name}' must pool maps or sequences.")
    flat = len(shape) == 3
    stride, size = layer.strides or layer.pool_size, layer.pool_size
    if flat:
        index = net.reshaped(index, (shape[0], 1, *shape[1:]))
        stride, size = (1, *_tuple(stride)), (1, *_tuple(size))
    image = (shape[0], 1, *call.shape[1:]) if flat else call.shape
    made = net.graph.call(
        kind,
        (index,),
        net.like(index, call.key, image),
        padding=layer.padding,
        activation="none",
        stride=_pair(stride),
        size=_pair(size),
    )
    return net.reshaped(made, call.shape)


def _tuple(value: Any) -> tuple[int, ...]:
    return (value,) if isinstance(value, int) else tuple(value)


def _pair(value: Any) -> tuple[int, ...]:
    return (value, value) if isinstance(value, int) else tuple(value)


@rule("MaxPooling1D", "MaxPooling2D", "MaxPool")
def _max_pooling(net: Net, call: Call, given: Value, *_: Any) -> Value:
    return _windowed(net, call, given, "MAX_POOL_2D")


@rule("AveragePooling1D", "AveragePooling2D", "AveragePool")
def _average_pooling(net: Net, call: Call, given: Value, *_: Any) -> Value:
    return _windowed(net, call, given, "AVERAGE_POOL_2D")


def _inner_axes(call: Call, net: Net, given: Value) -> list[int]:
    if call.operation.data_format != "channels_last":
        raise NoRuleError(f"'{call.name}': data_format must be channels_last.")
    return list(range(1, len(net.shape(given)) - 1))


@rule("GlobalAveragePooling1D", "GlobalAveragePooling2D", "GlobalAveragePooling3D")
def _global_average(net: Net, call: Call, given: Value, *_: Any) -> Value:
    return mean(net, call.key, given, _inner_axes(call, net, given), call.operation.keepdims)


@rule("GlobalMaxPooling1D", "GlobalMaxPooling2D", "GlobalMaxPooling3D")
def _global_max(net: Net, call: Call, given: Value, *_: Any) -> Value:
    axes = _inner_axes(call, net, given)
    return _of_same_scale(net, call, given, "REDUCE_MAX", axes, call.operation.keepdims)


def mean(net: Net, name: str, given: Value, axes: list[int], keep: bool) -> Pending:
    index = net.settled(given)
    shape = _reduced(net.tensor(index).shape, axes, keep)
    inputs = (index, net.constant("axes", axes))
    return Pending(name, "MEAN", inputs, shape, {"keep_dims": bool(keep)})


def _reduced(shape: tuple[int, ...], axes: list[int], keep: bool) -> tuple[int, ...]:
    if keep:
        return tuple(1 if i in axes else n for i, n in enumerate(shape))
    return tuple(n for i, n in enumerate(shape) if i not in axes)


def _of_same_scale(
    net: Net, call: Call, given: Value, kind: str, axes: list[int], keep: bool
) -> int:
    index = net.settled(given)
    made = net.like(index, call.key, call.shape)
    inputs = (index, net.constant("axes", axes))
    return net.graph.call(kind, inputs, made, keep_dims=bool(keep))


def _axes(net: Net, call: Call, given: Value) -> list[int]:
    axes, rank = call.operation.axis, len(net.shape(given))
    if axes is None:
        axes = range(rank)
    axes = (axes,) if isinstance(axes, int) else axes
    axes = sorted(a % rank for a in axes)
    if 0 in axes and call.given[0].shape[0] is None:  # a stack along the first axis has its size
        raise NoRuleError(f"'{call.name}' must not reduce the batch.")
    return axes


@rule("Mean")
def _mean(net: Net, call: Call, given: Value, *_: Any) -> Value:
    return mean(net, call.key, given, _axes(net, call, given), call.operation.keepdims)


@rule("Sum")
def _sum(net: Net, call: Call, given: Value, *_: Any) -> Value:
    """A mean, its codes read on a larger scale."""
    from .arithmetic import relabelled

    axes = _axes(net, call, given)
    average = mean(net, f"{call.key}/mean", given, axes, call.operation.keepdims)
    count = math.prod(net.shape(given)[a] for a in axes)

    def in_int8(scale: float, zero: int) -> int:
        made = net.with_range(average, scale / count, zero, average.name)
        return relabelled(net, made, scale, call.key)

    def in_float() -> int:
        made = net.graph.add(call.key, call.shape, "float32")
        inputs = (net.real(average.inputs[0]), average.inputs[1])
        return net.graph.call("SUM", inputs, made, **average.options)

    return Pending(call.key, "", (), call.shape, in_int8=in_int8, in_float=in_float)


@rule("Max")
def _max(net: Net, call: Call, given: Value, *_: Any) -> Value:
    axes = _axes(net, call, given)
    return _of_same_scale(net, call, given, "REDUCE_MAX", axes, call.operation.keepdims)


@rule("Min")
def _min(net: Net, call: Call, given: Value, *_: Any) -> Value:
    axes = _axes(net, call, given)
    return _of_same_scale(net, call, given, "REDUCE_MIN", axes, call.operation.keepdims)
