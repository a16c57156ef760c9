"""Element-wise int8 operators as tables of 256 values, computed by TensorFlow Lite itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from ec2t_tf.export.graph import FileError, Graph, Operator, Tensor
from ec2t_tf.export.tflite import write

_SHAPE = (1, 1, 1, 256)
_LEAST = {"SQRT": 0, "RSQRT": 1}  # code above the zero point from which there is a result


def lookup_table(graph: Graph, op: Operator, position: int) -> npt.NDArray[np.int8]:
    """Output of an operator for all codes of input `position`, its other inputs being constants of
    one element: int8 [256], from code -128 (uint8: 0) on; uint8 codes less 128.

    Computed by LiteRT's reference kernels, so the table is theirs; by its default kernels where
    there is no reference (ELU).

    Raises:
        FileError: LiteRT has no such operator on int8.
    """
    source = op.inputs[position]
    codes = _all_codes(graph.tensors[source])
    least = _LEAST.get(op.kind)
    if least is not None:  # LiteRT fails on what has no result: the nearest that has stands for it
        codes = np.maximum(codes, least + int(graph.tensors[source].zero_point[0]))
    return _as_int8(_run(graph, op, {source: codes}))


def chain_table(
    graph: Graph, operators: Sequence[Operator], source: int, target: int
) -> npt.NDArray[np.int8]:
    """The same of a chain of operators from `source` to `target`, each by the kernels that
    `lookup_table` would take.

    Raises:
        FileError: LiteRT cannot run the chain, or fails on some code.
    """
    values = {source: _all_codes(graph.tensors[source])}
    for op in operators:
        values[op.outputs[0]] = _run(graph, op, values)
    return _as_int8(values[target])


def _all_codes(tensor: Tensor) -> npt.NDArray[Any]:
    return (np.arange(256) - (128 if tensor.dtype == "int8" else 0)).astype(tensor.dtype)


def _as_int8(values: npt.NDArray[Any]) -> npt.NDArray[np.int8]:
    return (values.astype(np.int64) - (128 if values.dtype == np.uint8 else 0)).astype(np.int8)


def _run(graph: Graph, op: Operator, values: dict[int, npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """Output [256] of one operator from the `values` of those inputs that are no constants."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    tensors: list[Tensor] = []
    places: list[int] = []
    entered: dict[int, int] = {}
    for index in (*op.inputs, op.outputs[0]):
        tensor = graph.tensors[index]
        constant = index not in values and index != op.outputs[0]
        if constant or index not in entered:
            places.append(len(tensors))
            tensors.append(tensor if constant else replace(tensor, shape=_SHAPE, data=None))
        else:
            places.append(entered[index])
        if not constant:
            entered[index] = places[-1]
    inputs, output = tuple(places[:-1]), (places[-1],)
    given = [index for index in entered if index != op.outputs[0]]
    one = replace(op, inputs=inputs, outputs=output, intermediates=())
    model = write(Graph(tensors, [one], tuple(entered[i] for i in given), output))
    errors = []
    for kernels in (OpResolverType.BUILTIN_REF, OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES):
        try:
            interpreter = Interpreter(model_content=model, experimental_op_resolver_type=kernels)
            interpreter.allocate_tensors()
            for detail, index in zip(interpreter.get_input_details(), given, strict=True):
                interpreter.set_tensor(detail["index"], values[index].reshape(_SHAPE))
            interpreter.invoke()
            found: npt.NDArray[Any] = interpreter.get_tensor(
                interpreter.get_output_details()[0]["index"]
            )
            assert found.size == 256, f"a table of {found.size} codes"
            return found.reshape(-1)
        except (ValueError, RuntimeError) as error:
            errors.append(str(error).splitlines()[0])
    raise FileError(f"{op.kind}: LiteRT cannot compute it on int8 ({errors[-1]}).")
