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

import dataclasses
from collections.abc import Iterator

import numpy as np

from ..graph import FileError, Graph, prune
from .layers import DEPTHWISE_CONV_2D, TernaryLayer, copied, require_layers

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


def to_int4(graph: Graph) -> Graph:
    """An int8 net with its ternary layers re-stored as builtin INT4.

    Its outputs equal those of `align_to_int4(graph)` to at most one step, nearly always exactly.

    Raises:
      FileError: the net has no ternary layer, or the ratio of a layer's centroids is not k/7.
    """
    return _on_grid(graph, 'format="int4"', multiple=1, storage="int4")


def align_to_int4(graph: Graph) -> Graph:
    """An int8 net moved onto the levels of INT4, so that `to_int4` of it changes nothing.

    Its codes are 18 k; the smaller centroid is then exactly k/7 of the larger one, as it was
    trained, and each bias is rounded to 18 of its steps.

    Raises:
      FileError: as `to_int4`.
    """
    return _on_grid(graph, "align_to_int4", multiple=STEP, storage="dense")


def _on_grid(graph: Graph, what: str, *, multiple: int, storage: str) -> Graph:
    result = copied(graph)
    stored: set[int] = set()
    for layer, codes, steps in _grid_layers(graph, what):
        index = layer.operator.inputs[1]
        step = steps / multiple
        if index not in stored:
            stored.add(index)
            weights = result.tensors[index]
            weights.data = _in_memory_order(layer, codes) * np.int8(multiple)
            weights.storage, weights.scale = storage, _rescaled(weights.scale, step)
        _rescale_bias(result, layer, step, multiple=multiple)
    return prune(result)


def _grid_layers(graph: Graph, what: str) -> Iterator[tuple[TernaryLayer, np.ndarray, np.ndarray]]:
    """Each ternary layer with its codes on the grid and its int8 steps a level.

    Raises:
      FileError: there is no ternary layer, or one is off the grid.
    """
    layers = require_layers(graph, what)
    grids = [grid_codes(layer.rows, len(layer.weights.scale)) for layer in layers]
    off_grid = [
        f"{layer.name[-60:]} ({_ratio(layer.rows)})"
        for layer, grid in zip(layers, grids, strict=True)
        if grid is None
    ]
    if off_grid:
        more = f" and {len(off_grid) - 3} more" if len(off_grid) > 3 else ""
        raise FileError(
            f"{what} needs centroids whose ratio is k/7 with a whole k from 1 to 7: train with "
            "EC2T(level_grid=7), or choose another format. Received other ratios in "
            f"{len(off_grid)} of {len(layers)} ternary layers: {', '.join(off_grid[:3])}{more}."
        )
    for layer, grid in zip(layers, grids, strict=True):
        assert grid is not None
        yield layer, *grid


def _ratio(rows: np.ndarray) -> str:
    positive, negative = int(rows.max(initial=0)), -int(rows.min(initial=0))
    magnitudes = sorted({int(code) for code in np.unique(np.abs(rows.astype(int))) if code})
    if len(magnitudes) > 2:
        return f"codes {magnitudes[:8]}"
    low, high = sorted((positive, negative)) if len(magnitudes) == 1 else magnitudes
    return f"{low}/{high} = {low / high * LEVELS:.2f}/7"


def _in_memory_order(layer: TernaryLayer, rows: np.ndarray) -> np.ndarray:
    """[channels, weights] in the shape of the layer's weight tensor."""
    shape = layer.codes.shape
    if layer.kind == DEPTHWISE_CONV_2D:
        return np.ascontiguousarray(np.moveaxis(rows.reshape(shape[-1], *shape[:-1]), 0, -1))
    return rows.reshape(shape)


def _rescaled(scale: np.ndarray, step: np.ndarray) -> np.ndarray:
    return (scale * step).astype(np.float32)


def _rescale_bias(graph: Graph, layer: TernaryLayer, step: np.ndarray, *, multiple: int) -> None:
    """Give `layer` a bias in a unit `step` times as large, rounded to multiples of `multiple`.

    The layer gets its own tensor: the converter lets equal biases share one.
    """
    bias = layer.bias
    if bias is None or bias.data is None:
        return
    limit = np.iinfo(np.int32).max // multiple
    values = np.clip(np.round(bias.data / (step * multiple)), -limit, limit) * multiple
    scale = _rescaled(bias.scale, step) if bias.scale.size else bias.scale
    graph.tensors.append(dataclasses.replace(bias, data=values.astype(np.int32), scale=scale))
    operator = graph.operators[layer.number]
    operator.inputs = (*operator.inputs[:2], len(graph.tensors) - 1)
