"""One layer of a .tflite file as a file of its own, to measure or to examine it alone."""

from __future__ import annotations

import copy
from typing import Any

from ai_edge_litert import schema_py_generated as schema

from . import flatbuffer


def single_operator(model: Any, graph: Any, operator: Any) -> bytes:
    """A .tflite file with one operator of `model`, its constants, inputs and outputs.

    Args:
        model: from `flatbuffer.load`; not changed.
        graph: the subgraph of `model` that `operator` is in.
        operator: the operator.
    """
    used = sorted({int(i) for i in (*operator.inputs, *operator.outputs) if i >= 0})
    place = {old: new for new, old in enumerate(used)} | {-1: -1}
    alone = schema.ModelT()
    alone.version = model.version
    code = copy.copy(model.operatorCodes[operator.opcodeIndex])
    alone.operatorCodes = [code]
    alone.buffers = [schema.BufferT()]
    result = schema.SubGraphT()
    result.tensors = []
    for old in used:
        tensor = copy.copy(graph.tensors[old])
        data = flatbuffer.constant(model, tensor)
        tensor.buffer = 0 if data is None else flatbuffer.add_buffer(alone, data.tobytes())
        result.tensors.append(tensor)
    moved = copy.copy(operator)
    moved.opcodeIndex = 0
    moved.inputs = [place[int(i)] for i in operator.inputs]
    moved.outputs = [place[int(i)] for i in operator.outputs]
    result.operators = [moved]
    result.inputs = [i for i in moved.inputs if i >= 0 and result.tensors[i].buffer == 0]
    result.outputs = moved.outputs
    alone.subgraphs = [result]
    return flatbuffer.save(alone)
