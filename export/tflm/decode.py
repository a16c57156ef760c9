"""`format="tflm"`: an int8 .tflite whose weights TFLM's own DECODE operators decode.

Runs on the unmodified library: no operator of ours, only MicroMutableOpResolver::AddDecode().
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from ec2t_tf import files

from ..graph import Graph, Operator, Tensor
from ..graph.ternary import kernel_of
from ..tflite.reader import read
from ..tflite.writer import write
from .signs import negate_mirrored
from .streams import Stream, StreamError, huffman, look_up

_TARGETS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
# Decoding a Huffman code costs about ten times a look-up, at every call. A convolution with fewer
# output pixels than this uses its weights too seldom for that.
HUFFMAN_PIXELS = 16


@dataclasses.dataclass(frozen=True)
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


@dataclasses.dataclass(frozen=True)
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
        FileError: The file is damaged.
        ValueError: `streams` is none of the three.
    """
    if streams not in ("auto", "huffman", "lut"):
        raise ValueError(f"streams must be auto, huffman or lut. Received: {streams!r}.")
    content = model if isinstance(model, bytes) else Path(model).read_bytes()
    graph = read(content)
    negated: dict[int, int] = {}
    if negative_scales and streams != "lut":
        graph, negated = negate_mirrored(graph)
    graph = dataclasses.replace(graph, tensors=list(graph.tensors))
    chosen: dict[int, Stream | None] = {}
    tables: dict[int, int] = {}  # weight tensor -> ancillary tensor
    reports: dict[int, LayerStream] = {}
    operators: list[Operator] = []
    weights: dict[int, Tensor] = {}
    for operator in graph.operators:
        kernel = kernel_of(graph, operator) if operator.kind in _TARGETS else None
        index = kernel[0] if kernel is not None else -1
        if kernel is not None and kernel[1].dtype == "int8" and kernel[1].storage == "dense":
            if index not in chosen:
                output = graph.tensors[operator.outputs[0]].shape
                chosen[index], report = _choose(kernel[1], operator.kind, output, streams)
                reports[index] = dataclasses.replace(report, negated=negated.get(index, 0))
                weights[index] = kernel[1]
            stream = chosen[index]
            if stream is not None:
                if index not in tables:
                    tables[index] = _ancillary(graph, weights[index], stream)
                decoded = _decoded(graph, weights[index])
                operators.append(
                    Operator("TFLM_DECODE", (index, tables[index]), (decoded,), custom=b"")
                )
                inputs = (operator.inputs[0], decoded, *operator.inputs[2:])
                operator = dataclasses.replace(operator, inputs=inputs)
        operators.append(operator)
    for index in tables:
        stream = chosen[index]
        assert stream is not None
        graph.tensors[index] = _bytes(weights[index].name or "weights", stream.encoded)
    result = write(dataclasses.replace(graph, operators=operators))
    if path is not None:
        files.write_bytes(path, result)
    return result, TflmReport(len(content), len(result), tuple(reports.values()))


def _choose(
    tensor: Tensor, kind: str, output: tuple[int, ...], streams: str
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


def _bytes(name: str, content: bytes) -> Tensor:
    """A constant of bytes, without scales."""
    data = np.frombuffer(content, np.uint8)
    return Tensor(
        name, data.shape, "uint8", np.zeros(0, np.float32), np.zeros(0, np.int64), data=data
    )


def _ancillary(graph: Graph, weights: Tensor, stream: Stream) -> int:
    graph.tensors.append(_bytes((weights.name or "weights") + "_table", stream.ancillary))
    return len(graph.tensors) - 1


def _decoded(graph: Graph, weights: Tensor) -> int:
    """What a DECODE operator writes: the weights, as a tensor that is computed."""
    graph.tensors.append(dataclasses.replace(weights, name=weights.name + "_decoded", data=None))
    return len(graph.tensors) - 1
