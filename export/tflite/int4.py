"""`format="int4"`: the same ternary weights as builtin INT4, half a byte each, no custom code.

INT4 has codes -7 to 7, so the smaller of a layer's two centroids must be k/7 of the larger one;
`EC2T(level_grid=7)` trains such centroids. Any TensorFlow Lite since 2.14 runs the convolutions,
and ai-edge-litert since 1.2 the fully connected layers.

An int8 file from the converter has 127 for the larger centroid and 127 k/7, rounded, for the
smaller one, and a bias in a unit 127/7 times finer than INT4's; over a deep net the two small
roundings add up. `align_to_int4` moves both into the int8 file: its codes become 18 k, its biases
multiples of 18, and the int4 file made from it gives the same results (up to ties in the last bit
of the requantisation's float).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from . import flatbuffer
from .layers import DEPTHWISE_CONV_2D, TernaryLayer, require_layers

LEVELS = 7
STEP = 18  # int8 codes in one INT4 step of an aligned file: 7 * 18 = 126


def grid_codes(rows: np.ndarray, scales: int) -> tuple[np.ndarray, np.ndarray] | None:
    """int8 codes on the grid of seven levels.

    Args:
        rows: int8 [channels, weights of one channel].
        scales: the number of scales: 1 (per tensor), or one a channel.

    Returns:
        int8 [channels, weights] in -7..7 and float64 [scales], the int8 steps in one INT4 step;
        `None` if a code is more than half an int8 step away from k/7 of the largest one.
    """
    magnitude = np.abs(rows.astype(np.int64)).reshape(scales, -1)
    largest = magnitude.max(axis=1, keepdims=True, initial=0)
    step = np.where(largest == 0, LEVELS, largest) / LEVELS  # a channel of zeros keeps its scale
    levels = np.round(magnitude / step)
    if np.any(np.abs(levels * step - magnitude) > 0.5):
        return None
    codes = levels.reshape(rows.shape) * np.sign(rows)
    return codes.astype(np.int8), step[:, 0]


def packed_nibbles(codes: np.ndarray) -> np.ndarray:
    """uint8: two's complement INT4, two a byte, the first in the low half."""
    nibbles = np.append(codes.reshape(-1), np.zeros(codes.size % 2, np.int8)) & 0xF
    return (nibbles[0::2] | nibbles[1::2] << 4).astype(np.uint8)


def _grid_layers(model: Any, what: str) -> Iterator[tuple[TernaryLayer, np.ndarray, np.ndarray]]:
    """Each ternary layer with its codes on the grid and its int8 steps a level.

    Raises:
        ValueError: there is no ternary layer, or one is off the grid.
    """
    layers = require_layers(model, what)
    grids = [grid_codes(layer.rows, len(layer.weights.quantization.scale)) for layer in layers]
    off_grid = [
        f"{layer.name} ({_ratio(layer.rows)})"
        for layer, grid in zip(layers, grids, strict=True)
        if grid is None
    ]
    if off_grid:
        raise ValueError(
            f"{what} needs centroids whose ratio is k/7 with a whole k from 1 to 7: train with "
            "EC2T(level_grid=7), or choose another format. Received other ratios in "
            f"{len(off_grid)} of {len(layers)} ternary layers: {', '.join(off_grid)}"
        )
    for layer, grid in zip(layers, grids, strict=True):
        assert grid is not None
        yield layer, *grid


def int4(int8_file: bytes) -> bytes:
    """An int8 .tflite file with its ternary layers re-stored as builtin INT4.

    Args:
        int8_file: an int8 .tflite file with ternary layers whose centroids' ratio is k/7.

    Returns:
        The bytes of the .tflite file. Its outputs equal those of `align_to_int4(int8_file)` to
        at most one step, nearly always exactly.

    Raises:
        ValueError: the file is damaged or has no ternary layer, or the ratio of a layer's
            centroids is not k/7.
    """
    model = flatbuffer.load(int8_file)
    stored: set[int] = set()
    for layer, codes, step in _grid_layers(model, 'format="int4"'):
        if id(layer.weights) not in stored:
            stored.add(id(layer.weights))
            layer.weights.type = schema.TensorType.INT4
            packed = packed_nibbles(_in_memory_order(layer, codes))
            layer.weights.buffer = flatbuffer.add_buffer(model, packed.tobytes())
            layer.weights.quantization = _rescaled(layer.weights.quantization, step)
        _rescale_bias(model, layer, step, multiple=1)
    flatbuffer.prune(model)
    return flatbuffer.save(model)


def align_to_int4(int8_file: bytes) -> bytes:
    """An int8 .tflite file moved onto the levels of INT4, so that `int4` of it changes nothing.

    Args and errors as for `int4`.

    Returns:
        The bytes of an int8 .tflite file with codes 18 k; the smaller centroid is then exactly
        k/7 of the larger one, as it was trained, and each bias is rounded to 18 of its steps.
    """
    model = flatbuffer.load(int8_file)
    stored: set[int] = set()
    for layer, codes, step in _grid_layers(model, "align_to_int4"):
        if id(layer.weights) not in stored:
            stored.add(id(layer.weights))
            aligned = _in_memory_order(layer, codes) * np.int8(STEP)
            layer.weights.buffer = flatbuffer.add_buffer(model, aligned.tobytes())
            layer.weights.quantization = _rescaled(layer.weights.quantization, step / STEP)
        _rescale_bias(model, layer, step / STEP, multiple=STEP)
    flatbuffer.prune(model)
    return flatbuffer.save(model)


def _ratio(rows: np.ndarray) -> str:
    positive, negative = int(rows.max(initial=0)), -int(rows.min(initial=0))
    magnitudes = sorted({int(code) for code in np.unique(np.abs(rows.astype(int))) if code})
    if len(magnitudes) > 2:
        return f"codes {magnitudes}"
    low, high = sorted((positive, negative)) if len(magnitudes) == 1 else magnitudes
    return f"{low}/{high} = {low / high * LEVELS:.2f}/7"


def _in_memory_order(layer: TernaryLayer, rows: np.ndarray) -> np.ndarray:
    """[channels, weights] in the shape of the layer's weight tensor."""
    shape = layer.codes.shape
    if layer.kind == DEPTHWISE_CONV_2D:
        return np.moveaxis(rows.reshape(shape[-1], *shape[:-1]), 0, -1)
    return rows.reshape(shape)


def _rescaled(quantization: Any, step: np.ndarray) -> Any:
    """A copy of a tensor's quantisation with every scale multiplied by `step`."""
    rescaled = copy.copy(quantization)
    scale = np.asarray(quantization.scale, np.float32)
    rescaled.scale = (scale * step).astype(np.float32)
    return rescaled


def _rescale_bias(model: Any, layer: TernaryLayer, step: np.ndarray, *, multiple: int) -> None:
    """Give `layer` a bias in a unit `step` times as large, rounded to multiples of `multiple`.

    The layer gets its own tensor: the converter lets equal biases share one.
    """
    bias = layer.bias
    if bias is None:
        return
    data = flatbuffer.constant(model, bias)
    assert data is not None
    limit = np.iinfo(np.int32).max // multiple
    values = np.clip(np.round(data.view("<i4") / (step * multiple)), -limit, limit) * multiple
    replaced = copy.copy(bias)
    replaced.buffer = flatbuffer.add_buffer(model, values.astype("<i4").tobytes())
    if bias.quantization is not None and bias.quantization.scale is not None:
        replaced.quantization = _rescaled(bias.quantization, step)
    layer.graph.tensors.append(replaced)
    layer.operator.inputs[2] = len(layer.graph.tensors) - 1
