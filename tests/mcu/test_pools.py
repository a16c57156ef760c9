"""Pools of every kind of window against LiteRT's reference, many in one program."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from tests.bench import qemu
from tests.mcu import many_nets
from tests.net_builder import NetBuilder

COUNT = 36
SLOW_CORES = ("m0", "m33", "m55", "rv32")
ACTIVATIONS = ("NONE", "NONE", "RELU", "RELU_N1_TO_1")


def draw(seed: int) -> bytes:
    """One pool: windows within the input or beyond it, of 1 to about 400 values, 1 to 3 apart."""
    random = np.random.default_rng(seed)

    def number(low: int, high: int) -> int:
        return int(random.integers(low, high + 1))

    high, wide, channels = number(1, 22), number(1, 22), number(1, 5)
    net = NetBuilder((1, high, wide, channels), seed=seed)
    size = [(2, 2), (3, 3), (2, 1), (1, number(1, 7)), (number(1, 5), number(1, 5)), (high, wide)]
    window = tuple(min(k, n) for k, n in zip(size[seed % 6], (high, wide), strict=True))
    stride = (number(1, 3), number(1, 3))
    out = net.pool(
        net.input, window, stride, maximum=bool(seed // 6 % 2), same=bool(random.random() < 0.2)
    )
    options = net.graph.operators[-1].builtinOptions
    name = ACTIVATIONS[number(0, 3)]
    options.fusedActivationFunction = getattr(schema.ActivationFunctionType, name)
    return net.finish(out)


@pytest.mark.parametrize(
    "core", ["host", "m4", *(pytest.param(c, marks=pytest.mark.slow) for c in SLOW_CORES)]
)
def test_equal_the_reference(tmp_path: Path, core: str) -> None:
    if core != "host" and qemu.missing_tools(core):
        pytest.skip(qemu.missing_tools(core))
    models = [draw(seed) for seed in range(COUNT)]
    values = [many_nets.inputs(m, 2, seed=seed) for seed, m in enumerate(models)]
    want = [many_nets.reference(m, v) for m, v in zip(models, values, strict=True)]
    if core == "host":
        got = many_nets.on_host(models, values, tmp_path, sanitize=True)
    else:
        got = many_nets.on_core(core, models, values, tmp_path)
    assert not many_nets.differences(range(COUNT), got, want)
    text = "".join(path.read_text() for path in tmp_path.glob("g*.c"))
    for name in ("pool", "pool_inside", *(["pool_maxima", "pool_means"] if core == "m4" else [])):
        assert f"ec2t_mcu_{name}_run(" in text, f"no net has {name}"
