"""Element-wise int8 operators as tables of 256 values, computed by TensorFlow Lite itself."""

from __future__ import annotations

import copy
from functools import lru_cache

import flatbuffers
import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema


@lru_cache(maxsize=4)
def _parsed(model: bytes) -> schema.ModelT:
    return schema.ModelT.InitFromObj(schema.Model.GetRootAs(model, 0))


def lookup_table(model: bytes, operator: int) -> npt.NDArray[np.int8]:
    """Output of operator number `operator` for the inputs -128 to 127: int8 [256].

    Runs a one-operator model in LiteRT's reference kernels, so the table is theirs.
    """
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    source = _parsed(model)
    graph = source.subgraphs[0]
    op = copy.copy(graph.operators[operator])
    tensors = []
    for index in (int(op.inputs[0]), int(op.outputs[0])):
        tensor = copy.copy(graph.tensors[index])
        tensor.shape, tensor.shapeSignature, tensor.buffer = [1, 256], None, 0
        tensors.append(tensor)
    one = schema.ModelT()
    one.version = source.version
    one.operatorCodes = [source.operatorCodes[op.opcodeIndex]]
    one.buffers = [schema.BufferT()]
    op.opcodeIndex, op.inputs, op.outputs, op.intermediates = 0, [0], [1], None
    sub = schema.SubGraphT()
    sub.tensors, sub.operators, sub.inputs, sub.outputs = tensors, [op], [0], [1]
    one.subgraphs = [sub]
    builder = flatbuffers.Builder(1024)
    builder.Finish(one.Pack(builder), b"TFL3")
    interpreter = Interpreter(
        model_content=bytes(builder.Output()),
        experimental_op_resolver_type=OpResolverType.BUILTIN_REF,
    )
    interpreter.allocate_tensors()
    index = interpreter.get_input_details()[0]["index"]
    interpreter.set_tensor(index, np.arange(-128, 128, dtype=np.int8)[None])
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0].copy()
