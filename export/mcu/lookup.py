"""Element-wise int8 operators as tables of 256 values, computed by TensorFlow Lite itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from ec2t_tf.export.graph import FileError, Graph, Operator, Tensor
from ec2t_tf.export.tflite import write

_SHAPE = (1, 1, 1, 256)
_LEAST = {"SQRT": 0, "RSQRT": 1}  # code above the zero point from which there is a result


def lookup_table(graph: Graph, op: Operator, position: int) -> npt.NDArray[np.int8]:
    """Output of an operator for all codes of input `position`, its other inputs being constants of
    one element: int8 [256], from code -128 (uint8: 0) on; uint8 codes less 128.

    Runs a one-operator model in LiteRT's reference kernels, so the table is theirs; in its default
    kernels where there is no reference (ELU).

    Raises:
        FileError: LiteRT has no such operator on int8.
    """
    tensors = []
    for place, index in enumerate((*op.inputs, op.outputs[0])):
        if place in (position, len(op.inputs)):
            tensors.append(replace(graph.tensors[index], shape=_SHAPE, data=None))
        else:
            data = graph.tensors[index].data
            assert data is not None
            tensors.append(replace(graph.tensors[index], shape=(1,), data=data.reshape(1)))
    last = len(op.inputs)
    one = replace(op, inputs=tuple(range(last)), outputs=(last,), intermediates=())
    least = _LEAST.get(op.kind)
    if least is not None:  # LiteRT fails on what has no result: the nearest that has stands for it
        least += int(tensors[position].zero_point[0])
    return _run(op.kind, write(Graph(tensors, [one], (position,), (last,))), least)


def chain_table(
    graph: Graph, operators: Sequence[Operator], source: int, target: int
) -> npt.NDArray[np.int8]:
    """The same of a chain of operators from `source` to `target`.

    Raises:
        FileError: LiteRT cannot run the chain, or fails on some code.
    """
    tensors: list[Tensor] = []
    places: dict[int, int] = {}
    for index in (source, *(i for op in operators for i in (*op.inputs, *op.outputs))):
        if index not in places:
            tensor = graph.tensors[index]
            places[index] = len(tensors)
            shape = _SHAPE if tensor.data is None else tensor.shape
            tensors.append(replace(tensor, shape=shape))
    moved = [
        replace(
            op,
            inputs=tuple(places[i] for i in op.inputs),
            outputs=tuple(places[i] for i in op.outputs),
            intermediates=(),
        )
        for op in operators
    ]
    chain = Graph(tensors, moved, (places[source],), (places[target],))
    return _run(" and ".join(op.kind for op in operators), write(chain), None)


def _run(kind: str, model: bytes, least: int | None) -> npt.NDArray[np.int8]:
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    errors = []
    for kernels in (OpResolverType.BUILTIN_REF, OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES):
        try:
            interpreter = Interpreter(model_content=model, experimental_op_resolver_type=kernels)
            interpreter.allocate_tensors()
            detail = interpreter.get_input_details()[0]
            codes = np.arange(256) - (128 if detail["dtype"] == np.int8 else 0)
            if least is not None:
                codes = np.maximum(codes, least)
            interpreter.set_tensor(detail["index"], codes.astype(detail["dtype"]).reshape(_SHAPE))
            interpreter.invoke()
            out = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
            unsigned = 128 if out.dtype == np.uint8 else 0
            return (out.astype(np.int64) - unsigned).reshape(-1).astype(np.int8)
        except (ValueError, RuntimeError) as error:
            errors.append(str(error).splitlines()[0])
    raise FileError(f"{kind}: LiteRT cannot compute it on int8 ({errors[-1]}).")
