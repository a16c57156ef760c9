"""Layers with a kernel: dense, convolutions of all kinds, embeddings."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ..calls import Call, kind_of
from ..net import Net
from ..pending import Kernel, NoRuleError, Pending, Value, rule
from .activations import activated
from .movement import later, padded, sliced
from .ranges import array

Writer = Callable[[Net, Call, Any, Any, Value], Value]
KERNELS: dict[str, Writer] = {}
CONVOLUTION: dict[str, Any] = {
    "activation": "none",
    "padding": "valid",
    "stride": (1, 1),
    "dilation": (1, 1),
}


def kernel_layer(*kinds: str) -> Callable[[Writer], Writer]:
    """A rule for a layer with one kernel, whether a `Quantised` holds it or it stays float.

    It takes the net, the call, the layer, the layer's `Weights` and the input.
    """

    def register(function: Writer) -> Writer:
        for kind in kinds:
            KERNELS[kind] = function

        def plain(net: Net, call: Call, given: Value, *_: Any) -> Value:
            layer = call.operation
            kernel = layer.embeddings if kind_of(layer) == "Embedding" else layer.kernel
            values = Weights(array(kernel).astype(np.float32), np.ones(1))
            return _activated(net, call, layer, function(net, call, layer, values, given))

        rule(*kinds)(plain)
        return function

    return register


@rule("Quantised", "TrainedKernel")
def _quantised(net: Net, call: Call, given: Value, *_: Any) -> Value:
    wrapper = call.operation
    layer = wrapper.layer
    writer = KERNELS.get(kind_of(layer))
    if writer is None:
        raise NoRuleError(f"'{call.name}' ({kind_of(layer)}) has no rule for its kernel.")
    if net.dry:
        codes, scale = np.zeros(wrapper.latent.shape, np.int8), np.ones(())
    else:
        codes, scale = (np.asarray(part) for part in wrapper.codes_and_scale())
    if kind_of(layer).startswith("Depthwise") and scale.ndim:  # of (inputs, multiplier)
        scale = scale.reshape(codes.shape[-2:])
    elif wrapper.scale_axis == -2 and scale.ndim:
        scale = scale[:, None]
    weights = Weights(codes.astype(np.int8), scale.astype(np.float64))
    return _activated(net, call, layer, writer(net, call, layer, weights, given))


def _activated(net: Net, call: Call, layer: Any, value: Value) -> Value:
    return activated(net, call, value, getattr(layer, "activation", None), layer)


@dataclasses.dataclass(frozen=True)
class Weights:
    """Codes (int8, or float32 of a float layer) as Keras lays them out; a scale that broadcasts."""

    codes: np.ndarray
    scale: np.ndarray

    def arranged(
        self, move: Callable[[np.ndarray], np.ndarray], bias: Any, axis: int = 0
    ) -> Kernel:
        """The kernel of an operator: codes and scales moved alike, a scale for each channel."""
        codes = np.ascontiguousarray(move(self.codes))
        scale = move(np.broadcast_to(self.scale, self.codes.shape))
        scale = np.moveaxis(scale, axis, 0).reshape(codes.shape[axis], -1)
        if np.any(scale != scale[:, :1]):
            raise NoRuleError("A kernel has one scale for each output channel.")
        zeros = np.zeros(len(scale), np.float32)
        bias = zeros if bias is None else array(bias).astype(np.float32).reshape(-1)
        return Kernel(codes, scale[:, 0].astype(np.float64), bias, axis)


def dense(net: Net, name: str, given: int, kernel: Kernel, final: tuple[int, ...]) -> Pending:
    """A matrix (units, inputs) with the last axis: FULLY_CONNECTED, or a convolution of 1x1 where
    units have scales of their own, which few runtimes have for the former."""
    units, inputs = kernel.codes.shape
    rows = math.prod(net.tensor(given).shape) // inputs
    given = net.reshaped(given, (rows, inputs))
    made = Pending(
        name, "FULLY_CONNECTED", (given,), (rows, units), {"activation": "none"}, final, kernel
    )
    uniform = kernel.is_float or np.all(kernel.scale == kernel.scale[0])
    return made if uniform else as_convolution(net, made)


def as_convolution(net: Net, p: Pending) -> Pending:
    """A fully connected operator as a convolution of 1x1."""
    assert p.kernel is not None
    rows, units = p.shape
    kernel = dataclasses.replace(p.kernel, codes=p.kernel.codes[:, None, None, :])
    given = net.reshaped(net.settled(p.inputs[0]), (1, 1, rows, kernel.codes.shape[-1]))
    return dataclasses.replace(
        p,
        kind="CONV_2D",
        inputs=(given,),
        shape=(1, 1, rows, units),
        options=dict(CONVOLUTION),
        final=p.final or p.shape,
        kernel=kernel,
    )


@kernel_layer("Dense")
def _dense(net: Net, call: Call, layer: Any, weights: Weights, given: Value) -> Value:
    kernel = weights.arranged(np.transpose, layer.bias)
    return dense(net, call.key, net.settled(given), kernel, call.shape)


@kernel_layer("EinsumDense")
def _einsum_dense(net: Net, call: Call, layer: Any, weights: Weights, given: Value) -> Value:
    """`abc,cde->abde` and its like: the kernel as a matrix, axes moved before and after."""
    left, _, result = layer.equation.replace(" ", "").partition("->")
    entry, inner = left.split(",")
    index = net.settled(given)
    if "..." in entry:
        free = len(net.tensor(index).shape) - len(entry.replace("...", ""))
        spare = "".join(c for c in "ABCDEFGH"[:free])
        entry, result = entry.replace("...", spare), result.replace("...", spare)
    contracted = [c for c in entry if c in inner]
    kept = [c for c in entry if c not in inner]
    units = [c for c in inner if c not in contracted]
    if any(c in result for c in contracted) or {*kept, *units} != {*result}:
        raise NoRuleError(f"'{call.name}': equation '{layer.equation}' is not a matrix product.")
    order = [entry.index(c) for c in (*kept, *contracted)]
    moved = net.transposed(index, order, f"{call.key}/moved")
    sizes = dict(zip(inner, weights.codes.shape, strict=True))

    def as_matrix(values: np.ndarray) -> np.ndarray:
        values = values.transpose([inner.index(c) for c in (*units, *contracted)])
        return values.reshape(math.prod(sizes[c] for c in units), -1)

    bias = None
    if layer.bias is not None:
        bias = array(layer.bias)
        axes = [c for c in result if c in (layer.bias_axes or "")]
        if any(c in kept for c in axes):
            raise NoRuleError(f"'{call.name}': a bias along axes of the input.")
        whole = [c for c in result if c in units]
        bias = bias.reshape([sizes[c] if c in axes else 1 for c in whole])
        bias = np.broadcast_to(bias, [sizes[c] for c in whole])
        bias = bias.transpose([whole.index(c) for c in units])
    shape = tuple(net.tensor(moved).shape[i] for i in range(len(kept)))
    shape = (*shape, *(sizes[c] for c in units))
    made = dense(net, call.key, moved, weights.arranged(as_matrix, bias), shape)
    order = [[*kept, *units].index(c) for c in result]
    return made if order == sorted(order) else _transposed_later(net, made, order)


def _transposed_later(net: Net, p: Pending, order: list[int]) -> Pending:
    shape = net.shape(p)

    def in_int8(scale: float, zero: int) -> int:
        made = net.with_range(p, scale, zero, p.name)
        return net.transposed(made, order, f"{p.name}/moved_back")

    def in_float() -> int:
        return net.transposed(net.settled(p), order, f"{p.name}/moved_back")

    final = tuple(shape[i] for i in order)
    return Pending(p.name, "", (), final, in_int8=in_int8, in_float=in_float)


@kernel_layer("Conv1D", "Conv2D")
def _convolution(net: Net, call: Call, layer: Any, weights: Weights, given: Value) -> Value:
    flat = _is_flat(layer)
    index, options = _image(net, call, layer, net.settled(given))
    groups, channels = layer.groups, net.tensor(index).shape[-1]

    def moved(values: np.ndarray) -> np.ndarray:
        values = values[None] if flat else values
        return values.transpose(3, 0, 1, 2)

    kernel = weights.arranged(moved, layer.bias)
    if groups == channels and groups > 1:  # depthwise, which all runtimes have
        codes = np.ascontiguousarray(kernel.codes.transpose(3, 1, 2, 0))
        multiplier = codes.shape[-1] // channels
        kernel = dataclasses.replace(kernel, codes=codes, axis=3)
        options["depth_multiplier"] = multiplier
        return _pending(call, "DEPTHWISE_CONV_2D", index, options, kernel, flat)
    return _pending(call, "CONV_2D", index, options, kernel, flat)


@kernel_layer("DepthwiseConv1D", "DepthwiseConv2D")
def _depthwise(net: Net, call: Call, layer: Any, weights: Weights, given: Value) -> Value:
    flat = _is_flat(layer)
    index, options = _image(net, call, layer, net.settled(given))
    options["depth_multiplier"] = layer.depth_multiplier

    def moved(values: np.ndarray) -> np.ndarray:
        values = values[None] if flat else values
        return values.reshape(1, *values.shape[:2], -1)

    kernel = weights.arranged(moved, layer.bias, axis=3)
    return _pending(call, "DEPTHWISE_CONV_2D", index, options, kernel, flat)


@rule("SeparableConv1D", "SeparableConv2D")
def _separable(net: Net, call: Call, given: Value, *_: Any) -> Value:
    """Only one that stays float: `apply` opens all others into two layers."""
    layer = call.operation
    flat = _is_flat(layer)
    index, options = _image(net, call, layer, net.settled(given))
    options["depth_multiplier"] = layer.depth_multiplier
    depthwise, pointwise = (
        array(v).astype(np.float32) for v in (layer.depthwise_kernel, layer.pointwise_kernel)
    )
    if flat:
        depthwise, pointwise = depthwise[None], pointwise[None]
    first = Weights(depthwise, np.ones(1)).arranged(
        lambda values: values.reshape(1, *values.shape[:2], -1), None, axis=3
    )
    shape = (1, *((1,) if flat else ()), *call.shape[1:-1], first.codes.shape[-1])
    middle = Pending(
        f"{call.key}/depthwise", "DEPTHWISE_CONV_2D", (index,), shape, options, None, first
    )
    second = Weights(pointwise, np.ones(1)).arranged(
        lambda values: values.transpose(3, 0, 1, 2), layer.bias
    )
    made = _pending(call, "CONV_2D", net.settled(middle), dict(CONVOLUTION), second, flat)
    return _activated(net, call, layer, made)


@kernel_layer("Conv1DTranspose", "Conv2DTranspose")
def _transposed_convolution(
    net: Net, call: Call, layer: Any, weights: Weights, given: Value
) -> Value:
    _needs_channels_last(call, layer)
    flat = _is_flat(layer)
    index = _as_image(net, net.settled(given), flat)

    def moved(values: np.ndarray) -> np.ndarray:  # (h, w, out, in)
        values = values[None] if flat else values
        return values.transpose(2, 0, 1, 3)

    kernel = weights.arranged(moved, layer.bias)
    stride, dilation = _pair(layer.strides), _pair(layer.dilation_rate)
    final = (1, 1, *call.shape[1:]) if flat else call.shape
    size = kernel.codes.shape[1:3]
    if dilation != (1, 1):
        return _dilated(net, call, layer, index, kernel, dilation, flat)
    options = {"activation": "none", "padding": layer.padding, "stride": stride}
    extra = layer.output_padding
    if extra is None:
        made = Pending(call.key, "TRANSPOSE_CONV", (index,), final, options, None, kernel)
        return dataclasses.replace(made, final=call.shape)
    # The whole output, of which a part is wanted.
    before = [0, 0]
    if layer.padding == "same":
        extras = _pair(extra) if flat or not isinstance(extra, int) else (extra, extra)
        for i, (k, more) in enumerate(zip(size, extras, strict=True)):
            pads = k + k % 2 - 2 + more
            before[i] = max(k - 1 - (pads // 2 + pads % 2), 0) if k > 1 else 0
    whole = [
        max((n - 1) * s + k, b + out)
        for n, s, k, b, out in zip(
            net.tensor(index).shape[1:3], stride, size, before, final[1:3], strict=True
        )
    ]
    options["padding"] = "valid"
    shape = (1, *whole, final[-1])
    made = Pending(call.key, "TRANSPOSE_CONV", (index,), shape, options, None, kernel)

    def cut(value: int) -> int:
        ends = [b + out for b, out in zip(before, final[1:3], strict=True)]
        value = sliced(net, value, [0, *before, 0], [1, *ends, final[-1]], f"{call.key}/cut")
        return net.reshaped(value, call.shape)

    return later(net, made, call.shape, cut, keeps_channels=True)


def _dilated(
    net: Net, call: Call, layer: Any, index: int, kernel: Kernel, dilation: Any, flat: bool
) -> Pending:
    """A transposed convolution of stride 1 is a convolution with the turned kernel."""
    pads = []
    for size, rate in zip(kernel.codes.shape[1:3], dilation, strict=True):
        whole = (size - 1) * rate
        cut = whole // 2 if layer.padding == "same" else 0
        pads.append((whole - cut, cut if layer.padding == "same" else whole))
    index = padded(net, index, [(0, 0), *pads, (0, 0)], f"{call.key}/padded")
    turned = dataclasses.replace(kernel, codes=np.ascontiguousarray(kernel.codes[:, ::-1, ::-1, :]))
    options = {**CONVOLUTION, "dilation": dilation}
    return _pending(call, "CONV_2D", index, options, turned, flat)


@kernel_layer("Embedding")
def _embedding(net: Net, call: Call, layer: Any, weights: Weights, given: Value) -> Value:
    index = net.settled(given)
    if net.tensor(index).dtype != "int32":
        whole = net.graph.add(f"{call.key}/places", net.tensor(index).shape, "int32")
        index = net.real(index) if net.is_int8(index) else index
        index = net.graph.call("CAST", (index,), whole)
    codes, scale = weights.codes, np.unique(weights.scale)
    if codes.dtype != np.int8:
        table = net.constant(f"{call.key}/table", codes, "float32")
        made = net.graph.add(call.key, call.shape, "float32")
    else:
        if len(scale) != 1:
            raise NoRuleError(f"'{call.name}': an embedding has one scale.")
        table = net.graph.add(
            f"{call.key}/table", codes.shape, "int8", scale=scale, zero_point=0, data=codes
        )
        made = net.int8(call.key, call.shape, float(scale[0]), 0)
    return net.graph.call("GATHER", (table, index), made, axis=0, batch_dims=0)


# -- what convolutions share -------------------------------------------------------------------


def _needs_channels_last(call: Call, layer: Any) -> None:
    if layer.data_format != "channels_last":
        raise NoRuleError(f"'{call.name}': data_format must be channels_last.")


def _is_flat(layer: Any) -> bool:
    return "1D" in kind_of(layer)


def _pair(value: Any) -> tuple[int, int]:
    value = (value,) if isinstance(value, int) else tuple(value)
    return (1, value[0]) if len(value) == 1 else (value[0], value[1])


def _as_image(net: Net, index: int, flat: bool) -> int:
    """(1, T, C) seen as (1, 1, T, C)."""
    shape = net.tensor(index).shape
    return net.reshaped(index, (shape[0], 1, *shape[1:])) if flat else index


def _image(net: Net, call: Call, layer: Any, index: int) -> tuple[int, dict[str, Any]]:
    _needs_channels_last(call, layer)
    index = _as_image(net, index, _is_flat(layer))
    padding, dilation = layer.padding, _pair(layer.dilation_rate)
    if padding == "causal":
        before = (_pair(layer.kernel_size)[1] - 1) * dilation[1]
        pads = [(0, 0), (0, 0), (before, 0), (0, 0)]
        index, padding = padded(net, index, pads, f"{call.key}/padded"), "valid"
    options = {"activation": "none", "padding": padding, "stride": _pair(layer.strides)}
    return index, {**options, "dilation": dilation}


def _pending(
    call: Call, kind: str, index: int, options: dict[str, Any], kernel: Kernel, flat: bool
) -> Pending:
    shape = (call.shape[0], *((1,) if flat else ()), *call.shape[1:])
    return Pending(call.key, kind, (index,), shape, options, call.shape, kernel)
