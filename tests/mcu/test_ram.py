"""RAM: outputs that lie over their inputs."""

from __future__ import annotations

from pathlib import Path

import pytest

from ec2t_tf.export.mcu import to_c
from ec2t_tf.export.mcu.plan import Block, Part, place
from tests import nets
from tests.bench import qemu
from tests.mcu import many_nets, random_maps

needs_tools = pytest.mark.skipif(bool(qemu.missing_tools()), reason=qemu.missing_tools() or "-")


def _differences(seeds: range, folder: Path, core: str) -> list[str]:
    print(f"seeds {seeds}", flush=True)
    models = [random_maps.draw(seed) for seed in seeds]
    values = [many_nets.inputs(m, 2, seed=s) for m, s in zip(models, seeds, strict=True)]
    want = [many_nets.reference(m, v) for m, v in zip(models, values, strict=True)]
    assert sum(w.std() > 5 for w in want) > len(seeds) / 3
    if core == "host":
        got = many_nets.on_host(models, values, folder, sanitize=True)
    else:
        got = many_nets.on_core(core, models, values, folder)
    return many_nets.differences(list(seeds), got, want)


def test_equal_the_reference(tmp_path: Path) -> None:
    assert not _differences(range(60), tmp_path, "host")


@pytest.mark.slow
@needs_tools
@pytest.mark.parametrize("core", ["m0", "m3", "m4", "m55", "rv32"])
def test_equal_the_reference_on_cores(tmp_path: Path, core: str) -> None:
    for first in range(0, 200, 50):
        assert not _differences(range(first, first + 50), tmp_path / str(first), core)


@pytest.mark.parametrize(("core", "arena"), [("m4", 6656), ("m0", 7008), ("m55", 7124)])
def test_depthwise_over_its_input(tmp_path: Path, core: str, arena: int) -> None:
    """9,748, 9,436 and 9,748 bytes with room for input and output of the largest one."""
    assert to_c(nets.mobilenet(), tmp_path, core=core).arena == arena


def test_parts_of_a_block() -> None:
    """A block gives room back when one of its parts is needed no more."""
    low, high = Part(0, 100, 0, 1), Part(100, 60, 0, 5)
    blocks = [Block("two", [low, high]), Block("later", [Part(0, 100, 2, 3)])]
    assert place(blocks) == 160
    assert blocks[1].offset == 0
    blocks = [Block("two", [low, high]), Block("now", [Part(0, 100, 1, 3)])]
    assert place(blocks) == 260
