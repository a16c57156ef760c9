"""Layers of one output pixel on Helium, four output channels at a time, against the reference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.bench import qemu
from tests.mcu import many_nets
from tests.nets import NetBuilder

pytestmark = pytest.mark.skipif(bool(qemu.missing_tools("m55")), reason="needs QEMU")
ACTIVATIONS = ("NONE", "RELU", "RELU6", "RELU_N1_TO_1")


def _dense(seed: int) -> bytes:
    """Rounds once."""
    random = np.random.default_rng(seed)
    inputs, outputs = int(random.integers(1, 70)), int(random.integers(1, 14))
    net = NetBuilder((1, inputs), seed=seed)
    return net.finish(net.dense(net.input, outputs, zeros=None, relu=bool(seed % 2)))


def _pointwise(seed: int) -> bytes:
    """Rounds twice."""
    random = np.random.default_rng(seed)
    net = NetBuilder((1, 1, 1, int(random.integers(1, 70))), seed=seed)
    outputs = int(random.integers(1, 14))
    activation = ACTIVATIONS[seed % 4]
    return net.finish(net.conv(net.input, outputs, (1, 1), zeros=None, activation=activation))


def _whole(seed: int) -> bytes:
    """A depthwise kernel that covers the map, of up to 48 bytes a channel."""
    random = np.random.default_rng(seed)
    size = (1, int(random.integers(1, 17))) if seed % 3 else (int(random.integers(2, 5)), 12)
    channels, each = int(random.integers(1, 14)), int(random.integers(1, 4)) if seed % 2 else 1
    net = NetBuilder((1, *size, channels), seed=seed)
    x = net.conv(
        *(net.input, channels * each, size),
        zeros=None if seed % 5 else 0.6,
        same=False,
        depthwise=True,
        activation=ACTIVATIONS[seed % 4],
    )
    return net.finish(x)


@pytest.mark.parametrize("make", [_dense, _pointwise, _whole])
def test_equal_the_reference(tmp_path: Path, make: object) -> None:
    assert callable(make)
    models = [make(seed) for seed in range(60)]
    values = [many_nets.inputs(model, 4, seed=seed) for seed, model in enumerate(models)]
    want = [many_nets.reference(m, v) for m, v in zip(models, values, strict=True)]
    got = many_nets.on_core("m55", models, values, tmp_path)
    kind = "whole" if make is _whole else "dense"
    nets = [(tmp_path / f"g{i}.c").read_text() for i in range(len(models))]
    assert sum(f"ec2t_mcu_{kind}_fours_run(" in text for text in nets) > 50
    assert not many_nets.differences(range(len(models)), got, want)
