"""The kernels of a file, however it stores them: plain, sparse, 4 bits each, packed, in streams."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

from .file_formats.packed import CUSTOM_CODES, OPERATORS, is_packed, layer_of
from .file_formats.plain import DECODE, decoded
from .graph import Graph, Operator, Tensor
from .graph.macs import macs
from .graph.ternary import KERNELS, RECURRENT, channels_of

_NAMES = {OPERATORS[kind]: code for kind, code in CUSTOM_CODES.items()}
_GATES = "ifgo"  # input, forget, cell and output gate: UNIDIRECTIONAL_SEQUENCE_LSTM's order


@dataclasses.dataclass
class StoredKernel:
    """One kernel.

    Attributes:
      tensor: names the kernel: the stored one; where an operator has several, or where the file has
        dropped that name, the output of the operator.
      number: of the first operator that uses it.
      part: which of an operator's kernels, "" where it has one.
      operator: TensorFlow Lite's name of the first that uses it, or a packed layer's.
      weights: codes or floats [output channels, weights of one channel].
      shape: of the tensor that the operator reads.
      storage: "dense", "sparse", "int4", "packed" or "decode".
      stored: indices of all tensors that hold its codes; below 0 where it is in an operator.
      read: index of the tensor that the operator reads, which has the scales.
      bias: index of its bias, or -1.
      macs: of one inference, over all operators that use it.
      blob_bytes: of an operator that holds it.
    """

    tensor: Tensor
    part: str
    number: int
    operator: str
    weights: npt.NDArray[Any]
    shape: tuple[int, ...]
    storage: str
    stored: tuple[int, ...]
    read: int
    bias: int
    macs: int
    blob_bytes: int = 0


def stored_kernels(graph: Graph) -> list[StoredKernel]:
    """One for each kernel, in the order in which they are first used.

    Raises:
      ec2t_tf.export.FileError: a stream or a blob is damaged.
    """
    makers = {index: n for n, one in enumerate(graph.operators) for index in one.outputs}
    found: dict[tuple[int, ...], StoredKernel] = {}
    for number, operator in enumerate(graph.operators):
        for kernel in _kernels_of(graph, operator, makers):
            kernel.number = number
            output = graph.tensors[operator.outputs[0]]
            if not kernel.tensor.name and output.name:
                kernel.tensor = output
            known = found.setdefault(kernel.stored, kernel)
            if known is not kernel:  # the steps of an unrolled GRU share theirs
                known.macs += kernel.macs
    return list(found.values())


def _kernels_of(graph: Graph, operator: Operator, makers: dict[int, int]) -> Iterator[StoredKernel]:
    inputs = operator.inputs
    if operator.custom is not None:
        if is_packed(operator):
            yield from _packed(graph, operator)
        return
    whole = macs(graph, operator)
    if operator.kind in RECURRENT:
        places = [p for p in RECURRENT[operator.kind] if inputs[p] >= 0]
        sizes = [math.prod(graph.tensors[inputs[place]].shape) for place in places]
        for place, size in zip(places, sizes, strict=True):
            part, bias = _part(operator, place)
            share = whole * size // max(sum(sizes), 1)
            yield from _stored(graph, operator, makers, place, 0, part, bias, share)
        return
    place, axis = KERNELS.get(operator.kind, (0, 0))
    if operator.kind == "BATCH_MATMUL":
        place, axis = 1, -2 if operator.options.get("adj_y", False) else -1
    elif operator.kind == "GATHER" and _is_table(graph, operator):
        yield from _stored(graph, operator, makers, 0, -1, "", -1, whole)
    if 0 < place < len(inputs):
        bias = inputs[2] if operator.kind in KERNELS and len(inputs) > 2 else -1
        if operator.kind == "TRANSPOSE_CONV":  # its third input is the map
            bias = inputs[3] if len(inputs) > 3 else -1
        yield from _stored(graph, operator, makers, place, axis, "", bias, whole)


def _part(operator: Operator, place: int) -> tuple[str, int]:
    """What a recurrent operator does with a kernel, and the index of the bias that goes with it."""
    if operator.kind == "SVDF":
        return ("features", "time")[place - 1], operator.inputs[3] if place == 1 else -1
    gate = (place - 1) % 4
    if place > 4:
        return f"recurrent {_GATES[gate]}", -1
    bias = operator.inputs[12 + gate] if len(operator.inputs) > 12 + gate else -1
    return f"kernel {_GATES[gate]}", bias


def _is_table(graph: Graph, operator: Operator) -> bool:
    """Whether a GATHER looks up rows of weights (Embedding), not codes of an activation."""
    table = graph.tensors[operator.inputs[0]]
    return len(table.shape) == 2 and table.dtype in ("int8", "float32")


def _stored(
    graph: Graph,
    operator: Operator,
    makers: dict[int, int],
    place: int,
    axis: int,
    part: str,
    bias: int,
    count: int,
) -> Iterator[StoredKernel]:
    """The constant that input `place` is, or is made of."""
    index = operator.inputs[place]
    if index < 0:
        return
    tensor = graph.tensors[index]
    if not -len(tensor.shape) <= axis < len(tensor.shape):
        return
    data, storage = tensor.data, tensor.storage
    stored: tuple[int, ...] = (index,)
    source = graph.operators[makers[index]] if data is None and index in makers else None
    if source is not None and source.kind == "DENSIFY":
        stored = (source.inputs[0],)
        data, storage = graph.tensors[stored[0]].data, "sparse"
    elif source is not None and source.kind == DECODE and source.custom is not None:
        stored = source.inputs
        data, storage = decoded(graph, makers[index], source), "decode"
    if data is None:
        return
    rows = channels_of(np.asarray(data).reshape(tensor.shape), axis)
    named = graph.tensors[operator.outputs[0] if part else stored[0]]
    yield StoredKernel(
        tensor=named,
        part=part,
        number=-1,  # `stored_kernels` says it
        operator=operator.kind,
        weights=rows,
        shape=tensor.shape,
        storage=storage,
        stored=stored,
        read=index,
        bias=bias,
        macs=count,
    )


def _packed(graph: Graph, operator: Operator) -> Iterator[StoredKernel]:
    layer = layer_of(graph, operator)
    weights = layer.weights
    blob_bytes = len(operator.custom or b"")
    if blob_bytes:  # a compact one, which lies in no tensor: below 0, the first that has it
        index = -1 - [one.custom for one in graph.operators].index(operator.custom)
        tensor = Tensor("", (), "int8", np.zeros(0, np.float32), np.zeros(0, np.int64))
    else:
        index = operator.inputs[1]
        tensor = graph.tensors[index]
    rows = weights.reshape(len(weights), -1)
    count = math.prod(graph.tensors[operator.outputs[0]].shape) * rows.shape[1]
    bias = operator.inputs[2] if len(operator.inputs) > 2 else -1
    yield StoredKernel(
        tensor=tensor,
        part="",
        number=-1,
        operator=_NAMES[layer.operator],
        weights=rows,
        shape=weights.shape,
        storage="packed",
        stored=(index,),
        read=index,
        bias=bias,
        macs=count,
        blob_bytes=blob_bytes,
    )
