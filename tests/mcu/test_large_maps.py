"""Int8 convolutions over more than 64 KiB of input: a few rows at a time."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import nets
from tests.bench import qemu
from tests.mcu import many_nets

needs_tools = pytest.mark.skipif(bool(qemu.missing_tools()), reason=qemu.missing_tools() or "-")


def _models() -> list[bytes]:
    net = nets.NetBuilder((1, 70, 33, 40), seed=1)
    x = net.conv(net.input, 3, (3, 3), zeros=None)
    models = [net.finish(net.conv(x, 4, (3, 3), zeros=None))]
    net = nets.NetBuilder((1, 61, 47, 30), seed=2)
    x = net.conv(net.input, 3, (5, 2), (3, 2), zeros=None)
    models.append(net.finish(net.conv(x, 2, (3, 3))))
    net = nets.NetBuilder((1, 60, 50, 24), seed=3)
    x = net.conv(net.input, 2, (3, 3), (2, 1), zeros=None, same=False)
    models.append(net.finish(net.conv(x, 3, (1, 1))))
    net = nets.NetBuilder((1, 50, 45, 32), seed=4)
    models.append(net.finish(net.conv(net.input, 3, (3, 3), zeros=None, dilation=4)))
    net = nets.NetBuilder((1, 60, 50, 30), seed=5)
    models.append(net.finish(net.conv(net.input, 2, (3, 3), zeros=0.9999)))
    return models


def _compare(folder: Path, core: str, runs: int) -> None:
    models = _models()
    values = [many_nets.inputs(m, runs, seed=i) for i, m in enumerate(models)]
    want = [many_nets.reference(m, v) for m, v in zip(models, values, strict=True)]
    if core == "host":
        got = many_nets.on_host(models, values, folder, sanitize=True)
    else:
        got = many_nets.on_core(core, models, values, folder)
    text = "".join(p.read_text() for p in folder.glob("g*.c"))
    assert core == "m55" or "ec2t_mcu_band_in(" in text
    assert not many_nets.differences(range(len(models)), got, want)


def test_equal_the_reference(tmp_path: Path) -> None:
    _compare(tmp_path, "host", 2)


@pytest.mark.slow
@needs_tools
@pytest.mark.parametrize("core", ["m0", "m4", "m55"])
def test_equal_the_reference_on_cores(tmp_path: Path, core: str) -> None:
    _compare(tmp_path, core, 1)
