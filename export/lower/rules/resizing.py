"""Images and sequences made larger or smaller."""

from __future__ import annotations

from typing import Any

from ..calls import Call
from ..net import Net
from ..pending import NoRuleError, Value, rule
from .movement import repeated


def _resized(net: Net, call: Call, index: int, interpolation: str) -> int:
    kinds = {"nearest": "RESIZE_NEAREST_NEIGHBOR", "bilinear": "RESIZE_BILINEAR"}
    if interpolation not in kinds:
        raise NoRuleError(f"'{call.name}': interpolation '{interpolation}' has no rule.")
    size = net.constant(f"{call.key}/size", call.shape[1:3])
    made = net.like(index, call.key, call.shape)
    return net.graph.call(
        kinds[interpolation], (index, size), made, align_corners=False, half_pixel_centers=True
    )


@rule("UpSampling2D")
def _up_sampling(net: Net, call: Call, given: Value, *_: Any) -> Value:
    layer, index = call.operation, net.settled(given)
    if layer.data_format != "channels_last":
        raise NoRuleError(f"'{call.name}': data_format must be channels_last.")
    return _resized(net, call, index, layer.interpolation)


@rule("UpSampling1D")
def _up_sampling_1d(net: Net, call: Call, given: Value, *_: Any) -> Value:
    return repeated(net, net.settled(given), call.operation.size, 1, call.key)


@rule("Resizing", "Resize")
def _resizing(net: Net, call: Call, given: Value, *_: Any) -> Value:
    layer, index = call.operation, net.settled(given)
    if layer.crop_to_aspect_ratio or layer.pad_to_aspect_ratio or layer.antialias:
        raise NoRuleError(f"'{call.name}': only a plain resizing has a rule.")
    if layer.data_format not in (None, "channels_last"):
        raise NoRuleError(f"'{call.name}': data_format must be channels_last.")
    return _resized(net, call, index, layer.interpolation)
