"""`format="packed"`: ternary layers as `EC2T.*` custom operators with self-describing blobs.

Each ternary layer's weights, bias, scales and geometry become one blob (formats/FORMAT.md) in a
constant uint8 tensor, the operator's second and last input; the operator has no options. The
tensors that the blob makes redundant go, and so do the names of inner tensors. The runtime in
`export/litert` executes these operators; a stock interpreter reports an unresolved custom op.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from .. import formats
from ..formats.choose import Goal
from . import flatbuffer
from .layers import (
    CONV_2D,
    DEPTHWISE_CONV_2D,
    FULLY_CONNECTED,
    OtherLayer,
    TernaryLayer,
    channel_rows,
    find_layers,
    require_layers,
)

CUSTOM_CODES = {
    CONV_2D: "EC2T.Conv2D",
    DEPTHWISE_CONV_2D: "EC2T.DepthwiseConv2D",
    FULLY_CONNECTED: "EC2T.FullyConnected",
}
OPERATORS = {
    CONV_2D: formats.Operator.CONV_2D,
    DEPTHWISE_CONV_2D: formats.Operator.DEPTHWISE_CONV_2D,
    FULLY_CONNECTED: formats.Operator.FULLY_CONNECTED,
}
CONVERSION_METADATA = b"CONVERSION_METADATA"  # says which converter made the int8 file


class NotRepresentable(ValueError):
    """A ternary layer that a blob cannot hold."""


def output_range(activation: int, scale: float, zero_point: int) -> tuple[int, int]:
    """Smallest and largest int8 output of a fused activation, as TensorFlow Lite computes them.

    Raises:
        NotRepresentable: an activation that is no clipping.
    """
    functions = schema.ActivationFunctionType
    bounds = {
        functions.NONE: (-np.inf, np.inf),
        functions.RELU: (0.0, np.inf),
        functions.RELU_N1_TO_1: (-1.0, 1.0),
        functions.RELU6: (0.0, 6.0),
    }.get(activation)
    if bounds is None:
        raise NotRepresentable(f"its fused activation (number {activation}) is no clipping")

    def quantised(value: float, otherwise: int) -> int:
        if np.isinf(value):
            return otherwise
        steps = float(np.float32(value) / np.float32(scale))
        rounded = int(np.copysign(np.floor(abs(steps) + 0.5), steps))
        return min(max(zero_point + rounded, -128), 127)

    return quantised(bounds[0], -128), quantised(bounds[1], 127)


def blob_layer(model: Any, layer: TernaryLayer) -> formats.Layer:
    """`layer` in the terms of the blob.

    Raises:
        NotRepresentable: the blob has no field for something the layer uses.
    """
    options = layer.operator.builtinOptions
    source, target = (tensor.quantization for tensor in (layer.input, layer.output))
    bias = layer.bias
    bias_data = None if bias is None else flatbuffer.constant(model, bias)
    zero_points = [int(np.asarray(q.zeroPoint).reshape(-1)[0]) for q in (source, target)]
    strides = dilations = (1, 1)
    padding: Literal["VALID", "SAME"] = "VALID"
    groups = 1
    channels = layer.codes.shape[layer.channel_axis]
    if layer.kind == FULLY_CONNECTED:
        if options.weightsFormat != schema.FullyConnectedOptionsWeightsFormat.DEFAULT:
            raise NotRepresentable("its weights are shuffled")
        if len(layer.output.shape) != 2:
            raise NotRepresentable("its output has more than two axes")
        weights = layer.codes.reshape(channels, 1, 1, -1)
    else:
        strides = (options.strideH, options.strideW)
        dilations = (options.dilationHFactor, options.dilationWFactor)
        padding = "SAME" if options.padding == schema.Padding.SAME else "VALID"
        if len(layer.input.shape) != 4:
            raise NotRepresentable(f"its input has the shape {layer.input.shape}")
        inputs = layer.input.shape[3]
        if layer.kind == DEPTHWISE_CONV_2D:
            weights = channel_rows(layer.codes, 3).reshape(channels, *layer.codes.shape[1:3], 1)
            groups = inputs
        else:
            weights = layer.codes
            groups = inputs // weights.shape[3]
        if groups < 1 or inputs != groups * weights.shape[3] or channels % groups:
            raise NotRepresentable(
                f"{inputs} input channels do not fit weights of shape {layer.codes.shape}"
            )
    output_scale = float(np.float32(target.scale[0]))
    scales = np.asarray(layer.weights.quantization.scale, np.float32)
    scales = np.where(scales < np.finfo(np.float32).tiny, np.float32(0), scales)
    return formats.Layer(
        operator=OPERATORS[layer.kind],
        weights=np.ascontiguousarray(weights),
        requantisation=formats.Scales(float(np.float32(source.scale[0])), output_scale, scales),
        bias=None if bias_data is None else bias_data.view("<i4").astype(np.int32),
        strides=strides,
        dilations=dilations,
        padding=padding,
        groups=groups,
        input_zero_point=zero_points[0],
        output_zero_point=zero_points[1],
        output_range=output_range(options.fusedActivationFunction, output_scale, zero_points[1]),
    )


def packable_layers(
    model: Any,
) -> tuple[list[tuple[TernaryLayer, formats.Layer]], list[OtherLayer]]:
    """The layers of `model` that `packed` turns into custom operators, and the others, with why."""
    ternary, others = find_layers(model)
    packable = []
    for layer in ternary:
        try:
            packable.append((layer, blob_layer(model, layer)))
        except NotRepresentable as error:
            others.append(OtherLayer(layer.name, layer.kind, str(error)))
    return packable, others


def packed(int8_file: bytes, *, optimize: Goal = "size") -> bytes:
    """An int8 .tflite file with its ternary layers as `EC2T.*` operators.

    Args:
        int8_file: an int8 .tflite file with ternary layers.
        optimize: what the encoding of each layer's weights is chosen for: the smallest file
            ("size"), the fastest start ("speed") or the smallest download ("download").

    Returns:
        The bytes of the .tflite file; its buffers start at multiples of 16 bytes.

    Raises:
        ValueError: the file is damaged, or has no ternary layer that a blob can hold.
    """
    model = flatbuffer.load(int8_file)
    require_layers(model, 'format="packed"')
    packable, others = packable_layers(model)
    if not packable:
        reasons = "; ".join(f"{layer.name}: {layer.reason}" for layer in others)
        raise ValueError(f'format="packed" found no layer that a blob can hold. {reasons}')
    blobs: dict[bytes, int] = {}
    for layer, contents in packable:
        choice = formats.choose_encoding(contents.weights, optimize=optimize)
        _store_blob(model, layer, formats.pack(contents, encoding=choice.encoding), blobs)
    _drop_redundant(model)
    flatbuffer.prune(model)
    return flatbuffer.save(model, aligned=True)


def encoding_choices(
    int8_file: bytes, *, optimize: Goal = "size"
) -> list[tuple[TernaryLayer, formats.Choice]]:
    """The encoding that `packed` chooses for each layer, its size, and the reason.

    Args and errors as for `packed`.
    """
    model = flatbuffer.load(int8_file)
    require_layers(model, 'format="packed"')
    packable, _ = packable_layers(model)
    return [
        (layer, formats.choose_encoding(contents.weights, optimize=optimize))
        for layer, contents in packable
    ]


def _store_blob(model: Any, layer: TernaryLayer, blob: bytes, blobs: dict[bytes, int]) -> None:
    """Make `layer`'s operator a custom one that reads `blob`; equal blobs share a buffer."""
    if blob not in blobs:
        blobs[blob] = flatbuffer.add_buffer(model, blob)
    tensor = schema.TensorT()
    tensor.shape = [len(blob)]
    tensor.type = schema.TensorType.UINT8
    tensor.buffer = blobs[blob]
    layer.graph.tensors.append(tensor)
    operator = layer.operator
    operator.inputs = [operator.inputs[0], len(layer.graph.tensors) - 1]
    operator.opcodeIndex = flatbuffer.opcode_index(
        model, schema.BuiltinOperator.CUSTOM, custom=CUSTOM_CODES[layer.kind]
    )
    operator.builtinOptionsType = schema.BuiltinOptions.NONE
    operator.builtinOptions = None


def _drop_redundant(model: Any) -> None:
    """Names of inner tensors, empty buffers of activations, notes of the converter."""
    for graph in model.subgraphs:
        outer = {int(i) for io in (graph.inputs, graph.outputs) for i in io}
        for index, tensor in enumerate(graph.tensors):
            if index not in outer:
                tensor.name = None
            if flatbuffer.constant(model, tensor) is None and not tensor.isVariable:
                tensor.buffer = 0
            if tensor.quantization is not None:
                tensor.quantization.min = tensor.quantization.max = None
    model.description = None
    model.metadata = [entry for entry in model.metadata or () if entry.name != CONVERSION_METADATA]
