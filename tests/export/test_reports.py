"""What a report counts, whatever the format and the operator."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ec2t_tf.export.file_formats import rewrite
from ec2t_tf.export.graph import Graph
from ec2t_tf.export.reports import Report, report
from ec2t_tf.export.tflite import read, write
from tests import nets
from tests.integer.operators import CASES

FIXTURES = Path(__file__).parents[1] / "fixtures" / "v0_1_0"


def report_of(content: bytes, folder: Path) -> Report:
    path = folder / "net.tflite"
    path.write_bytes(content)
    return report(path)


@pytest.mark.parametrize("form", ["sparse", "packed", "tflm"])
@pytest.mark.parametrize("seed", range(4))
def test_a_net_has_the_same_kernels_in_every_format(form: str, seed: int, tmp_path: Path) -> None:
    net = nets.NetBuilder((1, 12, 12, 4), seed=seed)
    zeros = float(np.random.default_rng(seed).uniform(0.75, 0.95))
    x = net.conv(net.input, 16, (3, 3), zeros=0.0)
    x = net.conv(x, 24, (3, 3), zeros=zeros)
    x = net.conv(x, 24, zeros=zeros, depthwise=True)
    content = net.finish(net.dense(net.reshape(x, (1, 24 * 144)), 7, zeros=zeros))
    plain = report_of(content, tmp_path)
    other = report_of(rewrite(content, format=form).content, tmp_path)
    assert len(plain.kernels) == 4
    compare(plain, other, form)


def test_four_bits() -> None:
    plain, other = (report(FIXTURES / f"small_{form}.tflite") for form in ("int8", "int4"))
    compare(plain, other, "int4")


def compare(plain: Report, other: Report, form: str) -> None:
    assert {one.storage for one in other.kernels} >= {"decode" if form == "tflm" else form}
    for one, same in zip(plain.kernels, other.kernels, strict=True):
        assert (one.codes, one.weights, one.zeros, one.macs) == (
            *(same.codes, same.weights, same.zeros, same.macs),
        )
    parts = sum(k.weights_bytes + k.bias_bytes + k.table_bytes for k in other.kernels)
    assert parts + other.other_bytes + other.structure_bytes == other.file_bytes


@pytest.mark.parametrize("seed", range(5))
def test_recurrent_kernels(seed: int, tmp_path: Path) -> None:
    graph = CASES["UNIDIRECTIONAL_SEQUENCE_LSTM"](np.random.default_rng(seed))
    _, steps, width = graph.tensors[graph.operators[0].inputs[0]].shape
    units = graph.tensors[graph.operators[0].outputs[0]].shape[-1]
    found = report_of(write(graph), tmp_path)
    assert [kernel.name.split()[-2:] for kernel in found.kernels] == [
        [kind, gate] for kind in ("kernel", "recurrent") for gate in "ifgo"
    ]
    assert [kernel.macs for kernel in found.kernels] == (
        4 * [steps * width * units] + 4 * [steps * units * units]
    )
    assert [kernel.bias_bytes for kernel in found.kernels] == 4 * [4 * units] + 4 * [0]
    assert sum(kernel.weights_bytes for kernel in found.kernels) == 4 * units * (width + units)


def test_svdf(tmp_path: Path) -> None:
    graph = CASES["SVDF"](np.random.default_rng(3))
    features, times = (graph.tensors[index] for index in graph.operators[0].inputs[1:3])
    found = report_of(write(graph), tmp_path).kernels
    assert [one.macs for one in found] == [np.prod(features.shape), np.prod(times.shape)]


def test_a_kernel_that_several_operators_use_is_one(tmp_path: Path) -> None:
    """As the steps of an unrolled GRU do; an embedding's table multiplies nothing."""
    graph, rng = Graph(), np.random.default_rng(0)
    table = graph.add(
        "table", (50, 8), "int8", scale=0.1, zero_point=0,
        data=rng.integers(-1, 2, (50, 8)).astype(np.int8),
    )  # fmt: skip
    entry = graph.add("entry", (1,), "int32")
    x = graph.add("x", (1, 8), "int8", scale=0.1, zero_point=0)
    graph.call("GATHER", (table, entry), x, axis=0, batch_dims=0)
    kernel = graph.add(
        "net/step/kernel", (8, 8), "int8", scale=0.1, zero_point=0,
        data=rng.integers(-127, 128, (8, 8)).astype(np.int8),
    )  # fmt: skip
    for step in range(3):
        y = graph.add(f"y{step}", (1, 8), "int8", scale=0.1, zero_point=0)
        x = graph.call("FULLY_CONNECTED", (x, kernel, -1), y, activation="none")
    graph.inputs, graph.outputs = (entry,), (x,)
    content = write(graph)
    assert len(read(content).operators) == 4
    first, second = report_of(content, tmp_path).kernels
    assert (first.operator, first.codes, first.macs, first.weights_bytes) == (
        *("GATHER", "ternary", 0, 400),
    )
    assert (second.name, second.macs, second.weights_bytes) == ("step", 3 * 64, 64)
