"""What a free batch leaves behind, computed: shapes that are known once the batch is fixed.

Converters write SHAPE, STRIDED_SLICE and PACK in front of a RESHAPE to carry a batch of any size.
With the batch of the file (1) those are constants.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from .edit import prune
from .errors import FileError
from .graph import Graph, Operator
from .shapes import ShapeError, output_shapes, strided_slices

_MOST = 64  # elements of what is computed here: sizes and positions, never values of the net
_Array = npt.NDArray[Any]


def fold(graph: Graph) -> Graph:
    """`graph` with its computed sizes as constants, and the shapes that follow from them.

    Args:
      graph: one that `check_structure` has let through.

    Raises:
      FileError: the sizes do not fit each other.
    """
    graph = dataclasses.replace(graph, tensors=list(graph.tensors), operators=list(graph.operators))
    kept = []
    for number, operator in enumerate(graph.operators):
        try:
            values = _value(graph, operator)
            shapes = None if values is not None else output_shapes(graph, operator)
        except (ArithmeticError, IndexError, KeyError, TypeError, ValueError) as error:
            raise FileError(
                f"operator {number} {operator.kind}: {error}. Convert the model with a fixed batch."
            ) from error
        if values is not None:
            (output,) = operator.outputs
            tensor = graph.tensors[output]
            values = np.asarray(values, tensor.dtype)
            graph.tensors[output] = dataclasses.replace(tensor, data=values, shape=values.shape)
            continue
        kept.append(operator)
        for output, shape in zip(operator.outputs, shapes or (), strict=False):
            if graph.tensors[output].shape != shape:
                graph.tensors[output] = dataclasses.replace(graph.tensors[output], shape=shape)
    graph.operators = kept
    return prune(graph)


def _value(graph: Graph, operator: Operator) -> _Array | None:
    """What an operator on sizes computes; None for any other operator."""
    rule = _RULES.get(operator.kind)
    outputs = [graph.tensors[index] for index in operator.outputs]
    if len(outputs) != 1 or outputs[0].dtype not in ("int32", "int64"):
        return None
    inputs = [graph.tensors[index] for index in operator.inputs if index >= 0]
    if operator.kind == "SHAPE":
        return np.array(inputs[0].shape)
    if rule is None or any(tensor.data is None for tensor in inputs):
        return None
    if sum(math.prod(tensor.shape) for tensor in inputs) > _MOST:
        return None
    with np.errstate(all="ignore"):
        return np.asarray(rule(operator.options, *(_wide(tensor.data) for tensor in inputs)))


def _wide(values: _Array | None) -> _Array:
    return np.asarray(values, np.int64)


def _strided_slice(
    options: dict[str, Any], values: _Array, begin: _Array, end: _Array, step: _Array
) -> _Array:
    first, last, stride = (one.reshape(-1).tolist() for one in (begin, end, step))
    places: Any = strided_slices(first, last, stride, options["masks"])
    return np.asarray(values[places])


def _filled(options: dict[str, Any], values: _Array, shape: _Array) -> _Array:
    if math.prod(shape.reshape(-1).tolist()) > _MOST:
        raise ShapeError(f"a shape of at most {_MOST} elements is required")
    return values.reshape(shape.reshape(-1).tolist())


_RULES: dict[str, Callable[..., Any]] = {
    "STRIDED_SLICE": _strided_slice,
    "PACK": lambda options, *values: np.stack(values, axis=options["axis"]),
    "CONCATENATION": lambda options, *values: np.concatenate(values, axis=options["axis"]),
    "GATHER": lambda options, values, at: np.take(values, at, axis=options.get("axis", 0)),
    "CAST": lambda options, values: values,
    "RESHAPE": _filled,
    "SQUEEZE": lambda options, values: np.squeeze(values),
    "EXPAND_DIMS": lambda options, values, axis: np.expand_dims(values, int(axis.reshape(-1)[0])),
    "REDUCE_PROD": lambda options, values, axis: np.prod(
        values, axis=tuple(axis.reshape(-1).tolist()), keepdims=bool(options.get("keep_dims"))
    ),
    "ADD": lambda options, one, other: one + other,
    "SUB": lambda options, one, other: one - other,
    "MUL": lambda options, one, other: one * other,
    "MAXIMUM": lambda options, one, other: np.maximum(one, other),
    "MINIMUM": lambda options, one, other: np.minimum(one, other),
}
