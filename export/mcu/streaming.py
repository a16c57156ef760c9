"""The net of one step of a stream, and what its memory holds before the first frame."""

from __future__ import annotations

import dataclasses

import numpy as np

from ec2t_tf.export.graph import Graph
from ec2t_tf.export.graph.streaming import Stream, stream, with_first_values
from ec2t_tf.export.integer import Interpreter


def stream_from_silence(graph: Graph) -> Stream:
    """The streaming net, beginning as if the input had been zero (its zero point) forever: from the
    first step on its outputs are those of the whole net on the window.

    Raises:
        CannotStream: naming the layer that cannot.
        NotExactError: an operator is not known bit for bit.
    """
    found = stream(graph)
    if not found.kept:
        return found
    source = graph.tensors[graph.inputs[0]]
    zero = int(source.zero_point[0]) if len(source.zero_point) else 0
    window = np.full(source.shape, zero, source.dtype)
    inside = dataclasses.replace(graph, outputs=tuple(kept.tensor for kept in found.kept))
    columns = Interpreter(inside)(window)
    values = {}
    for kept, column in zip(found.kept, columns if len(found.kept) > 1 else [columns], strict=True):
        whole = np.asarray(column).reshape(graph.tensors[kept.tensor].shape)
        last = np.take(whole, [-1], axis=kept.axis)
        values[kept.variable] = np.repeat(last, kept.columns, axis=kept.axis)
    return dataclasses.replace(found, graph=with_first_values(found.graph, values))
