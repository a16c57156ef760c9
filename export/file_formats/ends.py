"""A net with int8 inputs and outputs: without what quantises and dequantises them."""

from __future__ import annotations

import dataclasses

from ..graph import FileError, Graph, prune
from .layers import copied


def int8_ends(graph: Graph) -> Graph:
    """`graph` without the QUANTIZE behind its inputs and the DEQUANTIZE before its outputs.

    The int8 tensors get the names of the float32 ones; whoever runs the net quantises what goes in
    and dequantises what comes out, by their scales and zero points.

    Raises:
      FileError: no input is quantised and no output dequantised in the net.
    """
    result = copied(graph)
    new: dict[int, int] = {}  # a float32 end -> the int8 tensor in its place
    gone = set()
    for number, operator in enumerate(result.operators):
        if operator.custom is not None or operator.kind not in ("QUANTIZE", "DEQUANTIZE"):
            continue
        ends, own, inner = (
            (graph.inputs, operator.inputs[0], operator.outputs[0])
            if operator.kind == "QUANTIZE"
            else (graph.outputs, operator.outputs[0], operator.inputs[0])
        )
        users = sum(own in one.inputs for one in graph.operators)
        both = (*graph.inputs, *graph.outputs)
        alone = users == (operator.kind == "QUANTIZE") and own in ends and both.count(own) == 1
        if not alone or {graph.tensors[own].dtype, graph.tensors[inner].dtype} != {
            "float32",
            "int8",
        }:
            continue
        if inner in (*both, *new.values()):
            continue
        new[own] = inner
        result.tensors[inner].name = result.tensors[own].name
        gone.add(number)
    if not gone:
        raise FileError(
            'io_dtype="int8" takes float32 inputs that are quantised, and outputs that are '
            "dequantised, out of a net. Received: a net without any."
        )
    result.operators = [one for at, one in enumerate(result.operators) if at not in gone]
    result.inputs = tuple(new.get(index, index) for index in result.inputs)
    result.outputs = tuple(new.get(index, index) for index in result.outputs)
    result.signatures = [
        dataclasses.replace(
            signature,
            inputs=_moved(signature.inputs, new),
            outputs=_moved(signature.outputs, new),
        )
        for signature in result.signatures
    ]
    return prune(result)


def _moved(ends: dict[str, int], new: dict[int, int]) -> dict[str, int]:
    return {name: new.get(index, index) for name, index in ends.items()}
