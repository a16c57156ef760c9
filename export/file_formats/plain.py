"""Back to plain int8: what any of the formats stores, as builtin operators on dense weights.

The readers of the formats. What they give can be run by every runtime, compiled to C, reported on,
and stored in another format.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import formats
from ..graph import FileError, Graph, Operator, Tensor, check, prune
from ..graph.activations import BOUNDS, activation_range
from ..graph.ternary import KERNELS
from ..tflm.streams import Stream, StreamError, decode_huffman, decode_look_up
from .layers import CONV_2D, DEPTHWISE_CONV_2D, FULLY_CONNECTED, copied
from .packed import OPERATORS, is_packed, layer_of

_KINDS = {one: kind for kind, one in OPERATORS.items()}
DECODE = "TFLM_DECODE"
_PER_CHANNEL = 12  # the version of FULLY_CONNECTED that has a scale a channel
_Int8 = npt.NDArray[np.int8]


def to_plain(graph: Graph) -> Graph:
    """A net of any of our formats as plain int8; others come back as they are.

    Args:
      graph: a graph that `check` lets through.

    Raises:
      FileError: a blob or a stream is damaged, or a blob holds what no builtin operator does.
    """
    result = copied(graph)
    operators: list[Operator] = []
    for number, operator in enumerate(result.operators):
        if is_packed(operator):
            operators.append(_unpacked(result, number, operator))
        elif operator.custom is not None and operator.kind == DECODE:
            _become_constant(result, operator.outputs[0], decoded(result, number, operator))
        elif operator.kind == "DENSIFY" and result.tensors[operator.inputs[0]].is_constant:
            source = result.tensors[operator.inputs[0]]
            _become_constant(result, operator.outputs[0], source.data)
        else:
            operators.append(operator)
    result.operators = operators
    for tensor in result.tensors:
        tensor.storage, tensor.sparsity = "dense", None
    _with_positive_scales(result)
    result = prune(result)
    check(result)
    return result


def _become_constant(graph: Graph, index: int, data: Any) -> None:
    tensor = graph.tensors[index]
    graph.tensors[index] = dataclasses.replace(tensor, data=np.asarray(data).reshape(tensor.shape))


def _unpacked(graph: Graph, number: int, operator: Operator) -> Operator:
    """The builtin operator that a packed layer is."""
    try:
        layer = layer_of(graph, operator)
    except ValueError as error:
        raise FileError(f"the blob of operator {number} is damaged: {error}") from error
    scales = layer.requantisation
    if not isinstance(scales, formats.Scales) or not isinstance(layer.padding, str):
        raise FileError(
            f"the blob of operator {number} must have scales and a padding of SAME or VALID. "
            "Received: fixed-point factors or other borders, which no builtin operator has."
        )
    kind = _KINDS[layer.operator]
    channels = len(layer.weights)
    weight_scales = scales.weights
    if len(set(weight_scales.tolist())) == 1:
        weight_scales = weight_scales[:1]
    per_channel = len(weight_scales) > 1
    axis = 3 if kind == DEPTHWISE_CONV_2D else 0
    weights = _kernel(layer.weights, kind)
    inputs = [operator.inputs[0], _added(graph, weights, weight_scales, axis, "int8")]
    if layer.bias is not None:
        unit = (np.float32(scales.input) * weight_scales).astype(np.float32)
        inputs.append(_added(graph, layer.bias.reshape(channels), unit, 0, "int32"))
    elif kind == FULLY_CONNECTED:
        inputs.append(-1)
    options: dict[str, Any] = {"activation": _activation(graph, number, operator, layer)}
    if kind != FULLY_CONNECTED:
        options |= {"padding": layer.padding.lower(), "stride": tuple(layer.strides)}
        options["dilation"] = tuple(layer.dilations)
    if kind == DEPTHWISE_CONV_2D:
        options["depth_multiplier"] = channels // layer.groups
    version = _PER_CHANNEL if kind == FULLY_CONNECTED and per_channel else None
    return Operator(kind, tuple(inputs), operator.outputs, options, version=version)


def _kernel(weights: _Int8, kind: str) -> _Int8:
    """Weights [outputs, height, width, inputs] as the kernel of an operator."""
    if kind == FULLY_CONNECTED:
        return weights.reshape(len(weights), -1)
    if kind == DEPTHWISE_CONV_2D:
        return np.ascontiguousarray(np.moveaxis(weights[..., 0], 0, -1)[None])
    return weights


def _added(graph: Graph, data: Any, scale: Any, axis: int, dtype: str) -> int:
    zeros = np.zeros(len(scale), np.int64)
    return graph.add("", data.shape, dtype, scale=scale, zero_point=zeros, axis=axis, data=data)


def _activation(graph: Graph, number: int, operator: Operator, layer: formats.Layer) -> str:
    """The fused activation that clips as the blob says."""
    output = graph.tensors[operator.outputs[0]]
    for name in BOUNDS:
        limits = activation_range(name, output.scale[0], int(output.zero_point[0]))
        if limits == tuple(layer.output_range):
            return name
    raise FileError(
        f"the blob of operator {number} clips to {layer.output_range}, as no fused activation does."
    )


def decoded(graph: Graph, number: int, operator: Operator) -> npt.NDArray[Any]:
    """The values that TensorFlow Lite Micro's DECODE, operator `number` of a graph, computes.

    Raises:
      FileError: its stream is damaged.
    """
    sources = [graph.tensors[index].data for index in operator.inputs]
    if len(sources) != 2 or len(operator.outputs) != 1 or any(one is None for one in sources):
        raise FileError(f"operator {number} {DECODE} must have two constants and one output.")
    encoded, ancillary = (np.asarray(one).tobytes() for one in sources)
    shape = graph.tensors[operator.outputs[0]].shape
    count = math.prod(shape)
    if len(ancillary) < 16 or count > 8 * len(encoded):
        raise FileError(
            f"operator {number} {DECODE} must have a stream of a bit or more for each of "
            f"{count:,} weights. Received: {len(encoded)} bytes, and {len(ancillary)} of its table."
        )
    stream = Stream("", encoded, ancillary, 0)
    try:
        huffman = ancillary[0] == 1
        values = decode_huffman(stream, count) if huffman else decode_look_up(stream, shape)
        return np.asarray(values).reshape(shape)
    except (StreamError, ArithmeticError, LookupError, ValueError) as error:
        raise FileError(f"the stream of operator {number} {DECODE} is damaged: {error}") from error


def _with_positive_scales(graph: Graph) -> None:
    """Undoes mirrored channels: weights, bias and scale of each are negated once more."""
    for operator in graph.operators:
        if operator.kind not in (CONV_2D, DEPTHWISE_CONV_2D) or operator.custom is not None:
            continue
        kernel = graph.tensors[operator.inputs[1]]
        if kernel.data is None or not (kernel.scale < 0).any():
            continue
        sign = np.where(kernel.scale < 0, -1, 1)
        shape = [1] * kernel.data.ndim
        shape[KERNELS[operator.kind][1]] = len(sign)
        _negated(kernel, sign, shape)
        if len(operator.inputs) > 2 and operator.inputs[2] >= 0:
            bias = graph.tensors[operator.inputs[2]]
            if bias.data is not None and (bias.scale < 0).any():
                _negated(bias, sign, [-1] if bias.data.ndim == 1 else list(bias.shape))


def _negated(tensor: Tensor, sign: npt.NDArray[Any], shape: list[int]) -> None:
    data: Any = tensor.data
    tensor.data = (data * sign.reshape(shape)).astype(data.dtype)
    if len(tensor.scale) == len(sign):
        tensor.scale = (tensor.scale * sign).astype(np.float32)
