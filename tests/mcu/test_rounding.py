"""Fully connected layers round once, as LiteRT's reference does, where convolutions round twice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from ec2t_tf.export.mcu import ModelError, to_c
from ec2t_tf.export.mcu.arithmetic import exact_multiplier
from tests import c_runner, nets
from tests.dense_cases import DENSE


@pytest.mark.parametrize("name", DENSE)
def test_equals_the_reference(tmp_path: Path, name: str) -> None:
    case = DENSE[name]
    model = case.model()
    values = nets.inputs(model, 64)
    want = nets.reference(model, values)
    assert len(np.unique(want)) > 100
    other = case.rounded_twice(values)
    assert np.abs(other.astype(int) - want).max() <= 1
    assert (other != want).any()
    to_c(model, tmp_path)
    program = c_runner.build_host(tmp_path)
    np.testing.assert_array_equal(c_runner.run_host(program, values, want.shape[1:]), want)


@pytest.mark.parametrize(
    "seed", [7, 8, *(pytest.param(s, marks=pytest.mark.slow) for s in range(9, 30))]
)
def test_lenet5_with_other_weights(tmp_path: Path, seed: int) -> None:
    model = nets.lenet5(seed=seed)
    values = nets.inputs(model, 16, seed=seed)
    want = nets.reference(model, values)
    to_c(model, tmp_path)
    program = c_runner.build_host(tmp_path)
    np.testing.assert_array_equal(c_runner.run_host(program, values, want.shape[1:]), want)


def test_more_than_31_bits(tmp_path: Path) -> None:
    """Rows with large sums: some multipliers need more bits; biases put sums next to halves."""
    random = np.random.default_rng(3)
    rows = random.integers(-127, 128, (300, 8)).astype(np.int8)
    scales = np.exp2(random.uniform(-21, -18, 300)).astype(np.float32)
    scale_in, scale_out = (float(np.float32(v)) for v in (0.7, 1.3))
    real = scale_in * scales.astype(np.float64) / scale_out
    bias = np.floor((random.integers(-120, 120, 300) + 0.5) / real).astype(np.int32)
    net = nets.NetBuilder((1, 8), seed=0)
    net.graph.tensors[net.input].quantization.scale = [scale_in]
    net.graph.tensors[net.input].quantization.zeroPoint = [0]
    filters = net.tensor(rows.shape, scales, 0, rows)
    constants = net.tensor((300,), scales * np.float32(scale_in), 0, bias)
    out = net.tensor((1, 300), scale_out, 0)
    options = schema.FullyConnectedOptionsT()
    inputs = [net.input, filters, constants]
    model = net.finish(net.operator("FULLY_CONNECTED", inputs, out, options))
    values = np.zeros((3, 8), np.int8)
    values[1, 0], values[2, 1] = 1, -1
    want = nets.reference(model, values)
    found = [exact_multiplier(r, -128, 127, 1 << 28) for r in real.tolist()]
    assert any(m is not None and m.low for m in found)
    to_c(model, tmp_path)
    program = c_runner.build_host(tmp_path)
    np.testing.assert_array_equal(c_runner.run_host(program, values, want.shape[1:]), want)


def test_scales_that_cannot_be_exact(tmp_path: Path) -> None:
    """7 / 10: double precision rounds some of its exact halves up and some down."""
    net = nets.NetBuilder((1, 16), seed=0)
    rows = net.weights(4, 16, 0.5)
    net.graph.tensors[net.input].quantization.scale = [1.0]
    filters = net.tensor(rows.shape, 7.0, 0, rows)
    out = net.tensor((1, 4), 10.0, 0)
    options = schema.FullyConnectedOptionsT()
    model = net.finish(net.operator("FULLY_CONNECTED", [net.input, filters, -1], out, options))
    with pytest.raises(ModelError, match="no 39-bit multiplier"):
        to_c(model, tmp_path)
