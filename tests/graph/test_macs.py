"""Multiply-accumulates against a count of every product of a naive loop."""

from __future__ import annotations

import numpy as np
import pytest

from ec2t_tf.export.graph import Graph
from ec2t_tf.export.graph.macs import macs


@pytest.mark.parametrize(
    ("kind", "given", "kernel", "output", "expected"),
    [
        ("CONV_2D", (1, 5, 4, 3), (2, 3, 3, 3), (1, 5, 4, 2), 5 * 4 * 2 * 27),
        ("CONV_2D", (1, 5, 4, 4), (2, 3, 3, 2), (1, 3, 2, 2), 3 * 2 * 2 * 18),  # two groups
        ("DEPTHWISE_CONV_2D", (1, 5, 4, 3), (1, 3, 3, 6), (1, 5, 4, 6), 5 * 4 * 6 * 9),
        ("FULLY_CONNECTED", (1, 12), (5, 12), (1, 5), 60),
        ("FULLY_CONNECTED", (1, 7, 12), (5, 12), (1, 7, 5), 7 * 60),
        ("MEAN", (1, 5, 4, 3), (2,), (1, 3), 0),
    ],
)
def test_macs(
    kind: str,
    given: tuple[int, ...],
    kernel: tuple[int, ...],
    output: tuple[int, ...],
    expected: int,
) -> None:
    graph = Graph()
    x = graph.add("x", given, "int8", scale=1.0, zero_point=0)
    w = graph.add("w", kernel, "int8", data=np.zeros(kernel, np.int8))
    graph.call(kind, (x, w), graph.add("y", output, "int8", scale=1.0, zero_point=0))
    assert macs(graph, graph.operators[0]) == expected


def test_transposed() -> None:
    """Each place of the input meets every weight, also where the output is cropped."""
    graph = Graph()
    shape = graph.add("shape", (4,), "int32", data=np.array([1, 8, 6, 2], np.int32))
    w = graph.add("w", (2, 3, 3, 5), "int8", data=np.zeros((2, 3, 3, 5), np.int8))
    x = graph.add("x", (1, 4, 3, 5), "int8")
    graph.call("TRANSPOSE_CONV", (shape, w, x), graph.add("y", (1, 8, 6, 2), "int8"))
    assert macs(graph, graph.operators[0]) == 4 * 3 * 2 * 9 * 5
