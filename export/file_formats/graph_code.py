"""A whole graph as one adaptive stream: what is usual costs nothing, numbers cost their digits.

Versions 4 and 5 of the download file. Beside version 3 (`graph_code_3`), which is read as before:
slower averages, biases and scales told by what goes with them (`formats.layer_numbers`), shapes and
numbers of scales by what is usual for a tensor of its place. Version 5 says of a layer's scales and
biases how many last digits are zero, see `rounding`. A format: what is here once does not change.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from ..formats import layer_numbers
from ..formats.number_coder import Reader, Writer
from ..formats.range_coder import QUICK, STEADY
from ..graph import Graph, Operator, Tensor
from ..graph.ternary import channels_of
from .graph_code_3 import BIAS, WORDS, GraphCoder, NotCoded, Pen, code_graph, float_bits
from .layers import DEPTHWISE_CONV_2D, KINDS, find_dense_layers, find_layers

__all__ = ["NotCoded", "from_stream", "plain_elements", "to_stream", "version_of"]

# What a byte of a stream may hold, so that work follows from its length: elements that are no
# ternary weights, and ternary weights.
_MOST_PLAIN, _MOST_TERNARY = 32, 512
_INT8_KERNELS = tuple(f"int8 {kind} 1" for kind in KINDS)  # fields of `_whole_numbers`
_INT32_BIASES = tuple(f"int32 {kind} {BIAS}" for kind in KINDS)


def plain_elements(graph: Graph) -> int:
    """How many constant elements are no ternary weights: each takes time to code."""
    ternary = {layer.operator.inputs[1] for layer in find_layers(graph)[0]}
    return sum(
        tensor.data.size
        for index, tensor in enumerate(graph.tensors)
        if tensor.data is not None and index not in ternary
    )


def version_of(graph: Graph) -> int:
    """Which version suits a graph: 5 where the scales or biases of a layer end in zeros."""
    ternary, dense = find_layers(graph)[0], find_dense_layers(graph)
    for layer in (*ternary, *dense):
        biases = [] if layer.bias is None else np.asarray(layer.bias.data).reshape(-1).tolist()
        if layer_numbers.are_rounded(float_bits(layer.weights.scale).tolist(), biases):
            return 5
    return 4


def to_stream(graph: Graph, *, version: int = 4) -> bytes:
    """The stream of a graph.

    Args:
      version: of the download file, 4 or 5.

    Raises:
      NotCoded: the graph has a sparse tensor, or an option of a kind that is not known here.
    """
    pen = Writer(WORDS, rates=STEADY)
    code_graph(pen, graph, _CODERS[version])
    return pen.finish()


def from_stream(stream: bytes, *, version: int = 4) -> Graph:
    """The graph of a stream; `check` has not seen it.

    Args:
      version: of the download file, 3 to 5.

    Raises:
      ValueError: the stream is damaged.
    """
    most = 1024 + _MOST_PLAIN * len(stream)
    pen = Reader(stream, WORDS, most=most, rates=QUICK if version == 3 else STEADY)
    weights = (1 << 16) + _MOST_TERNARY * len(stream)
    graph = code_graph(pen, Graph(), _CODERS[version], weights=weights)
    if not pen.ended():
        raise NotCoded("the stream goes on behind its last tensor")
    return graph


class _GraphCoder(GraphCoder):
    """As in version 4."""

    rounded = False

    def __init__(self, pen: Pen, graph: Graph, weights: int) -> None:
        super().__init__(pen, graph, weights)
        self.shapes: dict[int, tuple[int, ...]] = {}  # the last one of each place

    def _shape(
        self, given: tuple[int, ...], before: tuple[int, ...], place: int
    ) -> tuple[int, ...]:
        pen = self.pen
        usual = self.shapes.get(place, ())
        if place == BIAS and before:  # its weights stand before it
            usual = (before[-1 if len(before) == 4 and before[0] == 1 else 0],)
        shape = usual
        if not pen.flag(f"usual shape {place}", given == usual):
            rank = pen.length(f"rank {place}", len(given))
            sizes = []
            for at in range(rank):
                size, likely = given[at] if at < len(given) else 0, (*usual, *(0,) * rank)[at]
                if not pen.flag(f"usual size {place} {min(at, 4)}", size == likely):
                    likely = pen.number(f"size {place}", size)
                sizes.append(likely)
            shape = tuple(sizes)
        self.shapes[place] = shape
        return shape

    def _scales_of(
        self, tensor: Tensor, given: npt.NDArray[np.float32], role: str, place: int
    ) -> npt.NDArray[np.float32]:
        pen = self.pen
        channels = tensor.shape[tensor.axis] if tensor.axis < len(tensor.shape) else 1
        usual = channels if place else 1
        if pen.flag(f"usual number of scales {role}", len(given) == usual):
            pen.take("scales", usual)
            count = usual
        else:
            count = pen.length(f"scales {role}", len(given))
        if place != 1 or count < (1 if self.rounded else 2):
            return self._floats(f"scale {role}", None if place == BIAS else given, count)
        bits = float_bits(given).tolist() if not pen.reads else []
        bits = layer_numbers.code_scales(pen, bits, count, rounded=self.rounded)
        return np.array(bits, "<u4").view("<f4").astype(np.float32)

    def _whole_numbers(
        self, field: str, dtype: np.dtype, data: npt.NDArray[Any] | None, shape: tuple[int, ...]
    ) -> npt.NDArray[Any]:
        if field in _INT8_KERNELS:
            flat = np.zeros(0, np.int8) if data is None else data.reshape(-1)
            return layer_numbers.code_int8(self.pen, flat, math.prod(shape)).reshape(shape)
        if field in _INT32_BIASES:
            return np.zeros(shape, dtype)  # `_finish_bias` brings them
        return super()._whole_numbers(field, dtype, data, shape)

    def _finish_bias(self, bias: Tensor, op: Operator, given: Tensor) -> None:
        if bias.data is None or bias.dtype != "int32" or not bias.data.size:
            return
        weights = self.graph.tensors[op.inputs[1]].data if op.inputs[1] >= 0 else None
        sums = [0] * bias.data.size
        axis = 3 if op.kind == DEPTHWISE_CONV_2D else 0
        if weights is not None and weights.dtype == np.int8 and weights.ndim > axis:
            rows = channels_of(weights, axis).astype(np.int64).sum(1)
            sums = rows.tolist() if len(rows) == len(sums) else sums
        values = np.asarray(given.data).reshape(-1).tolist() if not self.pen.reads else []
        values = layer_numbers.code_biases(self.pen, values, sums, rounded=self.rounded)
        bias.data = np.array(values, np.int32).reshape(bias.shape)


class _RoundedGraphCoder(_GraphCoder):
    """As in version 5."""

    rounded = True


_CODERS = {3: GraphCoder, 4: _GraphCoder, 5: _RoundedGraphCoder}
