"""Element-wise int8 operators as tables of 256 values, computed by TensorFlow Lite itself."""

from __future__ import annotations

import copy
from functools import lru_cache

import flatbuffers
import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema

from .graph import ModelError


@lru_cache(maxsize=4)
def _parsed(model: bytes) -> schema.ModelT:
    return schema.ModelT.InitFromObj(schema.Model.GetRootAs(model, 0))


def lookup_table(model: bytes, operator: int, position: int = 0) -> npt.NDArray[np.int8]:
    """Output of operator number `operator` for all codes of input `position`, its other inputs
    being constants of one element: int8 [256], from code -128 (uint8: 0) on.

    Runs a one-operator model in LiteRT's reference kernels, so the table is theirs; in its default
    kernels where there is no reference (ELU).

    Raises:
        ModelError: LiteRT has no such operator on int8.
    """
    source = _parsed(model)
    graph = source.subgraphs[0]
    op = copy.copy(graph.operators[operator])
    tensors, buffers = [], [schema.BufferT()]
    given = [int(i) for i in op.inputs]
    for place, index in enumerate([*given, int(op.outputs[0])]):
        tensor = copy.copy(graph.tensors[index])
        if place in (position, len(given)):
            tensor.shape, tensor.buffer = [1, 1, 1, 256], 0
        else:
            buffers.append(source.buffers[tensor.buffer])
            tensor.shape, tensor.buffer = [1], len(buffers) - 1
        tensor.shapeSignature = None
        tensors.append(tensor)
    one = schema.ModelT()
    one.version = source.version
    one.operatorCodes = [source.operatorCodes[op.opcodeIndex]]
    one.buffers = buffers
    op.opcodeIndex, op.inputs, op.outputs = 0, list(range(len(given))), [len(given)]
    op.intermediates = None
    sub = schema.SubGraphT()
    sub.tensors, sub.operators, sub.inputs, sub.outputs = tensors, [op], [position], [len(given)]
    one.subgraphs = [sub]
    builder = flatbuffers.Builder(1024)
    builder.Finish(one.Pack(builder), b"TFL3")
    return _run(bytes(builder.Output()))


def _run(model: bytes) -> npt.NDArray[np.int8]:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    errors = []
    for kernels in (OpResolverType.BUILTIN_REF, OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES):
        try:
            interpreter = Interpreter(model_content=model, experimental_op_resolver_type=kernels)
            interpreter.allocate_tensors()
            detail = interpreter.get_input_details()[0]
            codes = np.arange(256) - (128 if detail["dtype"] == np.int8 else 0)
            interpreter.set_tensor(
                detail["index"], codes.astype(detail["dtype"]).reshape(1, 1, 1, 256)
            )
            interpreter.invoke()
            out = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
            return (
                (out.astype(np.int64) - (128 if out.dtype == np.uint8 else 0))
                .reshape(-1)
                .astype(np.int8)
            )
        except (ValueError, RuntimeError) as error:
            errors.append(str(error).splitlines()[0])
    raise ModelError(f"LiteRT cannot compute this operator on int8: {errors[-1]}")
