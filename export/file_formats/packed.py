"""`format="packed"`: ternary layers as `EC2T.*` custom operators with self-describing blobs.

Each ternary layer's weights, bias, scales and geometry become one blob (formats/FORMAT.md). For the
goals "size" and "download" it is a compact one and the options of an `EC2T.Layer`, whose scales are
those of its input and output; small layers that are not ternary, a net's first and last, are stored
so too. For "speed", and where a layer is large, it is one that is read in place: a constant uint8
tensor, the second and last input of an operator without options. The tensors
that the blob makes redundant go, and so do the names of inner tensors. The runtime in
`export/litert` executes these operators; a stock interpreter reports an unresolved custom op.

A net without ternary layers has no blob; its names and notes go all the same.
"""

from __future__ import annotations

import contextlib
from typing import Literal, get_args

import numpy as np

from .. import formats
from ..formats.choose import Goal
from ..graph import Graph, Operator, prune
from ..graph.activations import BOUNDS, activation_range
from ..graph.multipliers import are_normal
from ..graph.ternary import channels_of, is_ternary
from .layers import (
    CONV_2D,
    DEPTHWISE_CONV_2D,
    FULLY_CONNECTED,
    OtherLayer,
    TernaryLayer,
    copied,
    find_dense_layers,
    find_layers,
    nameless,
)

CUSTOM_CODES = {
    CONV_2D: "EC2T.Conv2D",
    DEPTHWISE_CONV_2D: "EC2T.DepthwiseConv2D",
    FULLY_CONNECTED: "EC2T.FullyConnected",
}
COMPACT_CODE = "EC2T.Layer"
OPERATORS = {
    CONV_2D: formats.Operator.CONV_2D,
    DEPTHWISE_CONV_2D: formats.Operator.DEPTHWISE_CONV_2D,
    FULLY_CONNECTED: formats.Operator.FULLY_CONNECTED,
}
# Weights of a compact layer: what decoding costs before the first inference (100 instructions each
# on a phone), and restoring a dense one, which a plain file has ready to be mapped.
_MOST_TERNARY, _MOST_DENSE = 1 << 18, 1 << 12
CONVERSION_METADATA = "CONVERSION_METADATA"  # says which converter made the int8 file


class NotRepresentable(ValueError):
    """A ternary layer that a blob cannot hold."""


def blob_layer(layer: TernaryLayer) -> formats.Layer:
    """`layer` in the terms of the blob.

    Raises:
        NotRepresentable: the blob has no field for something the layer uses.
    """
    options, source, target, bias = (
        layer.operator.options,
        layer.input,
        layer.output,
        layer.bias,
    )
    strides = dilations = (1, 1)
    padding: Literal["VALID", "SAME"] = "VALID"
    groups = 1
    channels = layer.codes.shape[layer.channel_axis]
    if (layer.codes == -128).any():
        raise NotRepresentable("it has the code -128, which has no negative")
    if (layer.weights.scale < 0).any():
        raise NotRepresentable("its weights have scales below 0")
    if not are_normal(layer.weights.scale) or not (bias is None or are_normal(bias.scale)):
        raise NotRepresentable("a scale of its weights or bias is 0 or subnormal")
    if layer.kind == FULLY_CONNECTED:
        if options.get("weights_format"):
            raise NotRepresentable("its weights are shuffled")
        if len(target.shape) != 2:
            raise NotRepresentable("its output has more than two axes")
        weights = layer.codes.reshape(channels, 1, 1, -1)
    else:
        strides, dilations = options["stride"], options.get("dilation", (1, 1))
        padding = "SAME" if options["padding"] == "same" else "VALID"
        inputs = source.shape[3]
        if layer.kind == DEPTHWISE_CONV_2D:
            weights = channels_of(layer.codes, 3).reshape(channels, *layer.codes.shape[1:3], 1)
            groups = inputs
        else:
            weights = layer.codes
            groups = inputs // weights.shape[3]
    activation = options.get("activation", "none")
    if activation not in BOUNDS:
        raise NotRepresentable(f"its fused activation ({activation}) is no clipping")
    return formats.Layer(
        operator=OPERATORS[layer.kind],
        weights=np.ascontiguousarray(weights),
        requantisation=formats.Scales(
            float(source.scale[0]),
            float(target.scale[0]),
            layer.weights.scale,
        ),
        bias=None if bias is None or bias.data is None else bias.data.reshape(-1).astype(np.int32),
        strides=strides,
        dilations=dilations,
        padding=padding,
        groups=groups,
        input_zero_point=int(source.zero_point[0]),
        output_zero_point=int(target.zero_point[0]),
        output_range=activation_range(activation, target.scale[0], int(target.zero_point[0])),
    )


def packable_layers(
    graph: Graph,
) -> tuple[list[tuple[TernaryLayer, formats.Layer]], list[OtherLayer]]:
    """The layers of `graph` that become custom operators, and the others, with why."""
    ternary, others = find_layers(graph)
    packable = []
    for layer in ternary:
        try:
            packable.append((layer, blob_layer(layer)))
        except NotRepresentable as error:
            others.append(OtherLayer(layer.name, layer.kind, str(error)))
    return packable, others


def to_packed(graph: Graph, *, optimize: Goal = "size", names: bool = True) -> Graph:
    """An int8 net with its ternary layers as `EC2T.*` operators.

    Args:
      graph: the net.
      optimize: what each layer's blob is chosen for: the smallest file ("size"), the fastest start
        ("speed") or the smallest download ("download"), where large layers are compact too.
      names: keep the names of the net's inputs and outputs, and its signatures.

    Raises:
      ValueError: `optimize` is another word.
    """
    result = copied(graph) if names else nameless(graph)
    blobs: dict[tuple[int, bytes], int] = {}
    packable, _ = packable_layers(graph)
    ternary = {layer.number for layer, _ in packable}
    for layer, contents in [*packable, *(_dense_layers(graph) if packable else ())]:
        compact = compact_blob(contents, optimize=optimize)
        if compact is not None:
            result.operators[layer.number] = Operator(
                COMPACT_CODE, layer.operator.inputs[:1], layer.operator.outputs, custom=compact
            )
            continue
        if layer.number not in ternary:
            continue
        choice = formats.choose_encoding(contents.weights, optimize=optimize)
        blob = formats.pack(contents, encoding=choice.encoding)
        key = len(blob), blob
        if key not in blobs:
            data = np.frombuffer(blob, np.uint8)
            blobs[key] = result.add("", data.shape, "uint8", data=data)
        result.operators[layer.number] = Operator(
            CUSTOM_CODES[layer.kind],
            (layer.operator.inputs[0], blobs[key]),
            layer.operator.outputs,
            custom=b"",
        )
    return prune(_without_notes(result))


def compact_blob(layer: formats.Layer, *, optimize: Goal) -> bytes | None:
    """The compact blob of a layer, or None where the goal, or the layer, wants another."""
    if optimize not in get_args(Goal):
        raise ValueError(f"optimize must be one of {get_args(Goal)}. Received: {optimize!r}.")
    ternary = is_ternary(channels_of(layer.weights, 0))
    most = _MOST_TERNARY if ternary else _MOST_DENSE
    if optimize == "download" and ternary:
        most = layer.weights.size
    if optimize == "speed" or layer.weights.size > most or not formats.fits_compact(layer):
        return None
    try:
        return formats.pack_compact(layer)
    except ValueError:  # more weights than so short a blob may have, or a bias far from all others
        return None


def _dense_layers(graph: Graph) -> list[tuple[TernaryLayer, formats.Layer]]:
    """The small layers that are not ternary and that a blob can hold."""
    found = []
    for layer in find_dense_layers(graph):
        if layer.codes.size <= _MOST_DENSE:
            with contextlib.suppress(NotRepresentable):
                found.append((layer, blob_layer(layer)))
    return found


def is_packed(operator: Operator) -> bool:
    """Whether an operator is one of ours."""
    return operator.custom is not None and operator.kind in (*CUSTOM_CODES.values(), COMPACT_CODE)


def layer_of(graph: Graph, operator: Operator) -> formats.Layer:
    """What a packed operator computes.

    Raises:
      formats.BlobError: its blob is damaged.
    """
    if operator.kind != COMPACT_CODE:
        data = graph.tensors[operator.inputs[1]].data if len(operator.inputs) > 1 else None
        return formats.unpack(b"" if data is None else data.tobytes())
    source, target = (graph.tensors[i] for i in (operator.inputs[0], operator.outputs[0]))
    if not all(len(end.scale) == len(end.zero_point) == 1 for end in (source, target)):
        raise formats.BlobError("a packed layer has an input and an output with one scale each")
    ends = formats.Ends(
        *(float(source.scale[0]), int(source.zero_point[0])),
        *(float(target.scale[0]), int(target.zero_point[0])),
    )
    return formats.unpack_compact(operator.custom or b"", ends)


def _without_notes(graph: Graph) -> Graph:
    """Names of inner tensors and what a converter says about itself go."""
    outer = {*graph.inputs, *graph.outputs}
    for index, tensor in enumerate(graph.tensors):
        if index not in outer:
            tensor.name = ""
    graph.description = ""
    graph.metadata = {
        name: data for name, data in graph.metadata.items() if name != CONVERSION_METADATA
    }
    return graph


def encoding_choices(
    graph: Graph, *, optimize: Goal = "size"
) -> list[tuple[TernaryLayer, formats.Choice]]:
    """The encoding that `to_packed` chooses for each layer, its size, and the reason."""
    return [
        (layer, formats.choose_encoding(contents.weights, optimize=optimize))
        for layer, contents in packable_layers(graph)[0]
    ]
