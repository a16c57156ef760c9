"""Element-wise int8 operators as tables of 256 values, computed by TensorFlow Lite itself."""

from __future__ import annotations

import dataclasses
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from ..graph import Graph
from ..graph.edit import single_operator
from ..tflite import read, write
from .graph import ModelError


@lru_cache(maxsize=4)
def _parsed(model: bytes) -> Graph:
    return read(model)


def lookup_table(model: bytes, operator: int, position: int = 0) -> npt.NDArray[np.int8]:
    """Output of operator number `operator` for all codes of input `position`, its other inputs
    being constants of one element: int8 [256], from code -128 (uint8: 0) on.

    Runs a one-operator model in LiteRT's reference kernels, so the table is theirs; in its default
    kernels where there is no reference (ELU).

    Raises:
        ModelError: LiteRT has no such operator on int8.
    """
    graph = single_operator(_parsed(model), operator)
    (alone,) = graph.operators
    (output,) = alone.outputs
    shape = (1, 1, 1, 256)
    tensors = [
        dataclasses.replace(tensor, shape=shape)
        if index in (alone.inputs[position], output)
        else dataclasses.replace(
            tensor, shape=(1,), data=None if tensor.data is None else tensor.data.reshape(1)
        )
        for index, tensor in enumerate(graph.tensors)
    ]
    inputs = (alone.inputs[position],)
    return _run(write(dataclasses.replace(graph, tensors=tensors, inputs=inputs)))


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
