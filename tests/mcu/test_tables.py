"""Activations that a file has as CAST, ADD and GATHER are one table in C."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from ec2t_tf.export.c_verification import verify_c
from ec2t_tf.export.graph import FileError, Graph
from ec2t_tf.export.mcu import to_c
from ec2t_tf.export.tflite import write
from tests.mcu import many_nets
from tests.net_builder import NetBuilder


def spelled(shape: tuple[int, ...], *, offset: int = 128, seed: int = 0) -> Graph:
    """A table of any 256 codes, twice, with a ReLU between."""
    random, graph = np.random.default_rng(seed), Graph()
    x = graph.add("x", shape, "int8", scale=0.05, zero_point=3)
    graph.inputs = (x,)
    for number in range(2):
        data = random.integers(-128, 128, 256).astype(np.int8)
        scale, zero = 0.04, -7
        table = graph.add(f"t{number}", (256,), "int8", scale=scale, zero_point=zero, data=data)
        wide = graph.call("CAST", (x,), graph.add(f"w{number}", shape, "int32"))
        place = graph.add(f"p{number}", shape, "int32")
        constant = graph.add(f"o{number}", (1,), "int32", data=np.array([offset], np.int32))
        graph.call("ADD", (wide, constant), place, activation="none")
        x = graph.add(f"g{number}", shape, "int8", scale=scale, zero_point=zero)
        graph.call("GATHER", (table, place), x, axis=0, batch_dims=0)
        made = graph.add(f"r{number}", shape, "int8", scale=scale, zero_point=zero)
        x = graph.call("RELU", (x,), made)
    graph.outputs = (x,)
    return graph


@pytest.mark.parametrize("shape", [(1, 5, 4, 3), (1, 9), (1, 6, 5)])
def test_equals_the_reference(tmp_path: Path, shape: tuple[int, ...]) -> None:
    model = write(spelled(shape))
    values = many_nets.inputs(model, 6, seed=1)
    want = many_nets.reference(model, values)
    (got,) = many_nets.on_host([model], [values], tmp_path, sanitize=True)
    assert not many_nets.differences(["table"], [got], [want])


def test_before_the_floats_of_a_file() -> None:
    """`to_tflite` ends a net in a DEQUANTIZE, which C has not."""
    graph = spelled((1, 9))
    graph.operators.pop()  # its ReLU
    (codes,) = graph.operators[-1].outputs
    graph.outputs = (graph.call("DEQUANTIZE", (codes,), graph.add("y", (1, 9), "float32")),)
    assert verify_c(write(graph), calls=4).passes()


def test_another_offset_is_no_table(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="CAST"):
        to_c(write(spelled((1, 9), offset=127)), tmp_path)


@pytest.mark.parametrize("kind", ["QUANTIZE", "TANH", "RELU"])
def test_of_a_constant(tmp_path: Path, kind: str) -> None:
    """A FILL, and a constant that the file holds, copied to where activations are."""
    net = NetBuilder((1, 4), seed=1)
    numbers = 0.05, 28
    value = net.tensor((), *numbers, np.array(-24, np.int8))
    filled = net.tensor((1, 4), *numbers)
    options = schema.FillOptionsT()
    net.operator("FILL", [net.constant([1, 4]), value], filled, options)
    held = net.tensor((1, 4), *numbers, np.array([[-128, 3, 40, 127]], np.int8))
    scale, zero_point = (1 / 128, 0) if kind == "TANH" else (0.048, 78)
    outs = [net.elementwise(kind, x, scale, zero_point) for x in (filled, held)]
    model = net.finish(net.elementwise("RELU", net.input, *net.quantisation(net.input)), *outs)
    values = many_nets.inputs(model, 3, seed=1)
    want = many_nets.reference(model, values)
    (got,) = many_nets.on_host([model], [values], tmp_path, sanitize=True)
    assert not many_nets.differences([kind], [got], [want])
