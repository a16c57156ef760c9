"""Dilated convolutions as TensorFlow's converter leaves them where the batch is free: rows and
columns dealt out to the batch, a convolution, and dealt back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from ec2t_tf.export.graph import Graph, Operator

_CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D")
_SHAPES = ("RESHAPE", "EXPAND_DIMS", "SQUEEZE")
_PLAIN = {"stride": (1, 1), "dilation": (1, 1), "padding": "valid"}


def with_dilation(graph: Graph) -> Graph:
    """The net with one dilated convolution, perhaps behind a PAD, for each of these."""
    users: dict[int, list[int]] = {}
    for number, op in enumerate(graph.operators):
        for index in op.inputs:
            users.setdefault(index, []).append(number)
    graph = replace(graph, tensors=list(graph.tensors))
    instead: dict[int, list[Operator]] = {}
    for number, op in enumerate(graph.operators):
        chain = _chain(graph, users, number) if op.kind == "SPACE_TO_BATCH_ND" else []
        found = _dilated(graph, [graph.operators[i] for i in chain]) if chain else None
        if found is not None:
            instead |= {i: [] for i in chain}
            instead[number] = found
    operators = [one for i, op in enumerate(graph.operators) for one in instead.get(i, [op])]
    return replace(graph, operators=operators)


def _chain(graph: Graph, users: dict[int, list[int]], number: int) -> list[int]:
    """From SPACE_TO_BATCH_ND to BATCH_TO_SPACE_ND, each read by the next alone; [] if there is
    anything else."""
    chain = [number]
    while graph.operators[chain[-1]].kind != "BATCH_TO_SPACE_ND":
        (out,) = graph.operators[chain[-1]].outputs
        after = users.get(out, [])
        if len(after) != 1 or out in graph.outputs:
            return []
        if graph.operators[after[0]].kind not in (*_CONVOLUTIONS, *_SHAPES, "BATCH_TO_SPACE_ND"):
            return []
        chain.append(after[0])
    return chain


def _dilated(graph: Graph, chain: Sequence[Operator]) -> list[Operator] | None:
    tensors = graph.tensors
    convolutions = [op for op in chain if op.kind in _CONVOLUTIONS]
    constants = [tensors[i].data for op in (chain[0], chain[-1]) for i in op.inputs[1:]]
    if len(convolutions) != 1 or len(constants) != 4 or any(data is None for data in constants):
        return None
    (conv,) = convolutions
    block, pads, same_block, crops = (np.asarray(d, np.int64).tolist() for d in constants)
    source, out = tensors[chain[0].inputs[0]], tensors[chain[-1].outputs[0]]
    # What is padded and cropped again makes no difference.
    border = [[p - c for p, c in zip(*pair, strict=True)] for pair in zip(pads, crops, strict=True)]
    if (
        any(conv.options[name] != value for name, value in _PLAIN.items())
        or block != same_block
        or not 1 <= len(block) <= 2
        or source.shape[0] != 1
        or len(source.shape) != 2 + len(block)
        or min(map(min, border)) < 0
    ):
        return None
    # One axis alone is the rows or the columns of the map that the convolution sees.
    along = conv.inputs[0], tensors[conv.inputs[1]].shape[1:3]
    sizes, dilation, amounts = list(source.shape), block, [[0, 0], *border, [0, 0]]
    if len(block) == 1:
        at = 1 if tensors[along[0]].shape[1] == 1 else 2
        if along[1][at - 1] != 1:
            return None
        sizes.insert(at, 1)
        amounts.insert(at, [0, 0])
        dilation = [1, *block] if at == 1 else [*block, 1]
    padded = [n + sum(pair) for n, pair in zip(sizes, amounts, strict=True)]
    rows, columns = (
        n - (k - 1) * d for n, k, d in zip(padded[1:3], along[1], dilation, strict=True)
    )
    made = (1, rows, columns, out.shape[-1])
    if min(rows, columns) < 1 or np.prod(made) != np.prod(out.shape):
        return None
    found: list[Operator] = []
    here, target = chain[0].inputs[0], chain[-1].outputs[0]

    def new(like: int, shape: Sequence[int]) -> int:
        tensors.append(replace(tensors[like], shape=tuple(shape)))
        return len(tensors) - 1

    if tuple(sizes) != source.shape:
        found.append(Operator("RESHAPE", (here,), (new(here, sizes),)))
        here = found[-1].outputs[0]
    if padded != sizes:
        given = graph.add("border", (4, 2), "int32", data=np.array(amounts, np.int32))
        found.append(Operator("PAD", (here, given), (new(here, padded),)))
        here = found[-1].outputs[0]
    wide = target if made == out.shape else new(target, made)
    options = conv.options | {"dilation": (dilation[0], dilation[1])}
    found.append(replace(conv, inputs=(here, *conv.inputs[1:]), outputs=(wide,), options=options))
    if wide != target:
        found.append(Operator("RESHAPE", (wide,), (target,)))
    return found
