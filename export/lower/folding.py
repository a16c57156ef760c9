"""What operators make of constants alone, as constants."""

from __future__ import annotations

import numpy as np

from ec2t_tf.export.graph import Graph, Operator

_MOVES = ("RESHAPE", "TRANSPOSE", "STRIDED_SLICE", "GATHER", "CONCATENATION", "PAD")


def folded(graph: Graph) -> None:
    """Gives the outputs of operators that only move constants their values; takes those away."""
    graph.operators[:] = [one for one in graph.operators if not _fold(graph, one)]


def _fold(graph: Graph, operator: Operator) -> bool:
    tensors = [graph.tensors[i] for i in operator.inputs]
    if operator.kind not in _MOVES or any(t.data is None for t in tensors):
        return False
    made = graph.tensors[operator.outputs[0]]
    values, *rest = (np.asarray(t.data) for t in tensors)
    if operator.kind == "RESHAPE":
        made.data = values.reshape(made.shape)
    elif operator.kind == "TRANSPOSE":
        made.data = np.ascontiguousarray(values.transpose(rest[0].tolist()))
    elif operator.kind == "STRIDED_SLICE":
        key = tuple(slice(*ends) for ends in zip(*(x.tolist() for x in rest), strict=True))
        made.data = np.ascontiguousarray(values[key])
    elif operator.kind == "GATHER":
        made.data = np.take(values, rest[0], axis=operator.options["axis"])
    elif operator.kind == "CONCATENATION":
        made.data = np.concatenate([values, *rest], axis=operator.options["axis"])
    else:
        zero = int(made.zero_point[0]) if made.zero_point.size else 0
        made.data = np.pad(values, rest[0], constant_values=zero)
    return True
