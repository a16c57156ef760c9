"""RAM: outputs that lie over their inputs, nets in strips of a few rows."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from ec2t_tf.export.graph import Graph
from ec2t_tf.export.mcu import emit, ram, to_c
from ec2t_tf.export.mcu.plan import Block, Part, place
from ec2t_tf.export.mcu.strips import Region, in_strips
from tests import nets
from tests.bench import qemu
from tests.mcu import many_nets, random_graphs, random_maps, random_streams

needs_tools = pytest.mark.skipif(bool(qemu.missing_tools()), reason=qemu.missing_tools() or "-")


def _differences(seeds: range, folder: Path, core: str, optimize: str = "") -> list[str]:
    print(f"seeds {seeds}", flush=True)
    models = [random_maps.draw(seed) for seed in seeds]
    values = [many_nets.inputs(m, 2, seed=s) for m, s in zip(models, seeds, strict=True)]
    want = [many_nets.reference(m, v) for m, v in zip(models, values, strict=True)]
    assert sum(w.std() > 5 for w in want) > len(seeds) / 3
    if core == "host":
        got = many_nets.on_host(models, values, folder, sanitize=True, optimize=optimize)
    else:
        got = many_nets.on_core(core, models, values, folder, optimize=optimize)
    return many_nets.differences(list(seeds), got, want)


@pytest.mark.no_cover  # long in Python; other tests run its lines
def test_equal_the_reference(tmp_path: Path) -> None:
    assert not _differences(range(60), tmp_path, "host")


@pytest.mark.slow
@needs_tools
@pytest.mark.parametrize("core", ["m0", "m3", "m4", "m55", "rv32"])
def test_equal_the_reference_on_cores(tmp_path: Path, core: str) -> None:
    for first in range(0, 200, 50):
        assert not _differences(range(first, first + 50), tmp_path / str(first), core)


@needs_tools
def test_eight_weights_of_a_sign_on_helium(tmp_path: Path) -> None:
    """Seed 160 has a channel with a list of eight, behind which the other one began too soon."""
    assert not _differences(range(159, 161), tmp_path, "m55")


@pytest.mark.parametrize(("core", "arena"), [("m4", 6656), ("m0", 7008), ("m55", 7124)])
def test_depthwise_over_its_input(tmp_path: Path, core: str, arena: int) -> None:
    """9,748, 9,436 and 9,748 bytes with room for input and output of the largest one."""
    assert to_c(nets.mobilenet(), tmp_path, core=core).arena == arena


def in_any_strips(graph: Graph, core: str, cost: ram.Cost) -> Graph:
    """One or two parts of the net in strips, drawn."""
    random = np.random.default_rng(len(graph.tensors))
    regions: list[Region] = []
    for _ in range(2):
        found = list(ram.regions(graph, regions))
        if found:
            regions.append(found[random.integers(len(found))])
    return in_strips(graph, regions)


@pytest.fixture
def any_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emit, "with_least_ram", in_any_strips)


@pytest.mark.no_cover  # long in Python; other tests run its lines
@pytest.mark.usefixtures("any_strips")
def test_any_strips_equal_the_reference(tmp_path: Path) -> None:
    assert not _differences(range(200, 240), tmp_path, "host", "ram")
    text = "".join(path.read_text() for path in tmp_path.glob("g*.c"))
    assert text.count("rows kept */") > 100


@pytest.mark.slow
@needs_tools
@pytest.mark.usefixtures("any_strips")
@pytest.mark.parametrize("core", ["host", "m0", "m3", "m4", "m55", "rv32"])
def test_any_strips_equal_the_reference_on_cores(tmp_path: Path, core: str) -> None:
    for first in range(300, 500, 50):
        seeds = range(first, first + 50)
        assert not _differences(seeds, tmp_path / str(first), core, "ram")


@pytest.mark.parametrize(
    "core",
    ["m4", pytest.param("m0", marks=pytest.mark.slow), pytest.param("m55", marks=pytest.mark.slow)],
)
@pytest.mark.parametrize(
    ("name", "most"), [("resnet8", 28_000), ("ds_cnn", 15_232), ("mobilenet", 8_380)]
)
def test_least_ram(tmp_path: Path, core: str, name: str, most: int) -> None:
    """Arena, input and output: of 54,782, 20,310 and 11,174 bytes with whole maps. The bits are
    those of the reference, and the report says what it costs."""
    model = nets.NETS[name]()
    report = to_c(model, tmp_path, core=core, optimize="ram")
    assert report.arena + report.ends_bytes <= most
    assert report.whole_maps is not None
    assert report.arena < report.whole_maps.arena
    whole = report.whole_maps.estimate
    assert report.estimate is not None
    assert whole is not None
    assert report.estimate.instructions < 3.5 * whole.instructions
    assert f"{report.whole_maps.arena:,}" in str(report)
    assert json.loads(report.as_json())["whole maps"]["arena"] == report.whole_maps.arena
    assert report.macs == to_c(model, tmp_path / "whole", core=core).macs  # no row twice


@pytest.mark.parametrize("core", ["m4", "m55"])
def test_strips_share_their_constants(tmp_path: Path, core: str) -> None:
    """Weights stand once in the C, whatever the number of strips."""
    report = to_c(nets.ds_cnn(), tmp_path, core=core, optimize="ram")
    depthwise = [
        x for x in report.layers if x.name.startswith("depthwise") and "distances" in x.note
    ]
    assert len(depthwise) > 10
    assert sum(x.flash > 0 for x in depthwise) <= 6
    text = (tmp_path / "model.c").read_text()
    assert len(re.findall(r"uint16_t weights_\d+\[\]", text)) <= 8


@pytest.mark.parametrize("name", ["resnet8", "ds_cnn", "mobilenet"])
def test_least_ram_equals_the_reference(tmp_path: Path, name: str) -> None:
    model = nets.NETS[name]()
    values = many_nets.inputs(model, 3, seed=1)
    got = many_nets.on_host([model], [values], tmp_path, sanitize=True, optimize="ram")
    assert not many_nets.differences([name], got, [many_nets.reference(model, values)])


@pytest.mark.no_cover  # long in Python; other tests run its lines
def test_graphs_of_all_operators(tmp_path: Path) -> None:
    """Inputs of words, variables, maps of few rows: what cannot be in strips is as it was."""
    models = [random_graphs.Draw(seed).model for seed in range(40)]
    values = [many_nets.inputs(m, 2, seed=seed) for seed, m in enumerate(models)]
    want = [many_nets.reference(m, v) for m, v in zip(models, values, strict=True)]
    got = many_nets.on_host(models, values, tmp_path, sanitize=True, optimize="ram")
    assert not many_nets.differences(range(len(models)), got, want)


def test_a_stream_in_strips(tmp_path: Path) -> None:
    """The windows of a stream are whole maps; what is computed of them may be in strips."""
    model = random_streams.Draw(3).model
    report = to_c(model, tmp_path, stream=True, optimize="ram")
    assert report.stream is not None
    assert report.arena <= to_c(model, tmp_path, stream=True).arena


def test_parts_of_a_block() -> None:
    """A block gives room back when one of its parts is needed no more."""
    low, high = Part(0, 100, 0, 1), Part(100, 60, 0, 5)
    blocks = [Block("two", [low, high]), Block("later", [Part(0, 100, 2, 3)])]
    assert place(blocks) == 160
    assert blocks[1].offset == 0
    blocks = [Block("two", [low, high]), Block("now", [Part(0, 100, 1, 3)])]
    assert place(blocks) == 260
