"""`format="tflm"`: an int8 .tflite whose weights TFLM's own DECODE operators decode.

Runs on the unmodified library: no operator of ours, only MicroMutableOpResolver::AddDecode().
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from pathlib import Path

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema

from ec2t_tf import files

from ..c import graph as graph_module
from .signs import negate_mirrored
from .streams import Stream, StreamError, huffman, look_up

_TARGETS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
# Decoding a Huffman code costs about ten times a look-up, at every call. A convolution with fewer
# output pixels than this uses its weights too seldom for that.
HUFFMAN_PIXELS = 16


@dataclass(frozen=True)
class LayerStream:
    """One weight tensor: `kind` "huffman", "lut" or "int8" with `reason`; bytes in the file."""

    name: str
    kind: str
    weights: int
    bytes_before: int
    bytes_after: int
    bits_per_weight: float
    reason: str
    negated: int = 0  # channels that became like the others, see signs.py


@dataclass(frozen=True)
class TflmReport:
    """What `to_tflm` did; sizes in bytes."""

    size_before: int
    size_after: int
    layers: tuple[LayerStream, ...]

    def __str__(self) -> str:
        lines = [f"{'weights':40}{'before':>9}{'after':>9}  bits  kind"]
        for x in self.layers:
            lines.append(
                f"{x.name[-38:]:40}{x.bytes_before:9}{x.bytes_after:9}  {x.bits_per_weight:4.2f}  "
                f"{x.kind} {x.reason}".rstrip()
                + (f", {x.negated} channels negated" if x.negated else "")
            )
        lines.append(f"{'file':40}{self.size_before:9}{self.size_after:9}")
        return "\n".join(lines)


def to_tflm(
    model: bytes | str | Path,
    path: str | Path | None = None,
    *,
    streams: str = "auto",
    negative_scales: bool = True,
) -> tuple[bytes, TflmReport]:
    """Puts weights of few values behind DECODE operators.

    Args:
        model: Bytes or path of an int8 .tflite file.
        path: Where to write the new file; nowhere if None.
        streams: "huffman" (smallest), "lut" (fastest to decode) or "auto": Huffman for convolutions
            with at least 16 output pixels, LUT for others. What would not shrink stays int8.
        negative_scales: Whether mirrored channels may become like the others by a negative weight
            scale: 2 - p0 bits a weight then, p0 being the share of zeros, instead of 3 - 2 * p0.
            TFLM's reference kernels compute the same bits; False is for kernels of a vendor that
            insist on positive multipliers.

    Returns:
        The new file's bytes and what was done to each weight tensor. It computes bit for bit what
        the int8 file computes.

    Raises:
        ModelError: The file is damaged.
        ValueError: `streams` is none of the three.
    """
    if streams not in ("auto", "huffman", "lut"):
        raise ValueError(f"streams must be auto, huffman or lut. Received: {streams!r}.")
    if isinstance(model, (str, Path)):
        model = Path(model).read_bytes()
    size_before = len(model)
    negated: dict[str, int] = {}
    if negative_scales and streams != "lut":
        model, negated = negate_mirrored(model)
    checked = graph_module.read(model, negative_scales=True)
    try:
        parsed = schema.ModelT.InitFromObj(schema.Model.GetRootAs(model, 0))
    except (struct.error, IndexError, ValueError, TypeError, OverflowError, MemoryError) as error:
        raise graph_module.ModelError(f"the .tflite file is damaged ({error}).") from error
    graph = parsed.subgraphs[0]
    if len(parsed.subgraphs) != 1:
        raise graph_module.ModelError(
            f"one subgraph is required. Received: {len(parsed.subgraphs)}."
        )
    chosen: dict[int, tuple[Stream, int]] = {}  # weight tensor -> stream, ancillary tensor
    reports: dict[int, LayerStream] = {}
    operators = []
    code: int | None = None
    for number, op in enumerate(graph.operators):
        op.inputs = [int(i) for i in op.inputs]
        kind = checked.operators[number].kind
        index = op.inputs[1] if kind in _TARGETS and len(op.inputs) > 1 else -1
        tensor = checked.tensors[index] if index >= 0 else None
        if tensor is not None and tensor.data is not None and tensor.dtype == np.int8:
            if index not in reports:
                output = checked.tensors[checked.operators[number].outputs[0]].shape
                stream, reports[index] = _choose(tensor, kind, output, streams)
                reports[index] = replace(reports[index], negated=negated.get(tensor.name, 0))
                if stream is not None:
                    chosen[index] = (stream, _replace(parsed, index, stream))
            if index in chosen:
                if code is None:
                    code = _operator_code(parsed)
                decoded = _decoded(graph, index, tensor)
                decode = schema.OperatorT()
                decode.opcodeIndex = code
                decode.inputs, decode.outputs = [index, chosen[index][1]], [decoded]
                operators.append(decode)
                op.inputs[1] = decoded
        operators.append(op)
    graph.operators = operators
    builder = flatbuffers.Builder(len(model))
    builder.Finish(parsed.Pack(builder), b"TFL3")
    result = bytes(builder.Output())
    if path is not None:
        files.write_bytes(path, result)
    return result, TflmReport(size_before, len(result), tuple(reports.values()))


def _choose(
    tensor: graph_module.Tensor, kind: str, output: tuple[int, ...], streams: str
) -> tuple[Stream | None, LayerStream]:
    weights = tensor.data
    assert weights is not None
    pixels = int(np.prod(output[1:-1])) if len(output) == 4 else 1
    depthwise = kind == "DEPTHWISE_CONV_2D"
    use_huffman = streams == "huffman" or (
        streams == "auto" and (pixels >= HUFFMAN_PIXELS or depthwise)
    )
    try:
        if use_huffman:
            stream = huffman(weights)
        elif depthwise and len(tensor.scale) > 1:
            # TFLM takes the number of tables from the scales, and along axis 0.
            raise StreamError("a LUT of depthwise weights with a scale a channel decodes wrongly")
        else:
            per_channel = len(tensor.scale) > 1
            stream = look_up(weights, per_channel=per_channel)
    except StreamError as error:
        return None, _unchanged(tensor.name, weights.size, str(error))
    # A DECODE operator with its tensors costs about this much besides the two buffers.
    after = len(stream.encoded) + len(stream.ancillary) + 200
    if after >= weights.size:
        return None, _unchanged(tensor.name, weights.size, f"{stream.kind} would not be smaller")
    return stream, LayerStream(
        tensor.name,
        stream.kind,
        weights.size,
        weights.size,
        len(stream.encoded) + len(stream.ancillary),
        stream.bits / weights.size,
        "",
    )


def _unchanged(name: str, size: int, reason: str) -> LayerStream:
    return LayerStream(name, "int8", size, size, size, 8.0, f"({reason})")


def _replace(model: schema.ModelT, index: int, stream: Stream) -> int:
    """Puts the stream in the weight tensor's place; returns the new ancillary tensor."""
    graph = model.subgraphs[0]
    tensor = graph.tensors[index]
    name = tensor.name or b"weights"
    for data in (stream.encoded, stream.ancillary):
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(data, np.uint8)
        model.buffers.append(buffer)
    used = [t.buffer for t in graph.tensors]
    if used.count(tensor.buffer) == 1:
        model.buffers[tensor.buffer].data = None
    quantisation, shape = tensor.quantization, list(tensor.shape)
    graph.tensors.append(_tensor([len(stream.ancillary)], len(model.buffers) - 1, name + b"_table"))
    graph.tensors[index] = _tensor([len(stream.encoded)], len(model.buffers) - 2, name)
    graph.tensors[index].decoded = (quantisation, shape)
    return len(graph.tensors) - 1


def _decoded(graph: schema.SubGraphT, index: int, tensor: graph_module.Tensor) -> int:
    quantisation, shape = graph.tensors[index].decoded
    decoded = _tensor(shape, 0, (graph.tensors[index].name or b"") + b"_decoded")
    decoded.type = schema.TensorType.INT8
    decoded.quantization = quantisation
    graph.tensors.append(decoded)
    return len(graph.tensors) - 1


def _tensor(shape: list[int], buffer: int, name: bytes) -> schema.TensorT:
    tensor = schema.TensorT()
    tensor.shape, tensor.buffer, tensor.name = shape, buffer, name
    tensor.type = schema.TensorType.UINT8
    return tensor


def _operator_code(model: schema.ModelT) -> int:
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
    code.customCode, code.version = b"TFLM_DECODE", 1
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1
