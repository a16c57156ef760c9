"""The committed table docs/mcu.json: still true, and what it promises."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests import nets
from tests.bench import mcu, qemu

CONVOLUTION = "3x3, 16x16x32 -> 32"
# Millions of instructions at 50, 70 and 90 % zeros.
AT_MOST = {
    "m0": (9, 5.5, 2.2),
    "m3": (2.4, 1.5, 0.65),
    "m4": (1.25, 0.80, 0.36),
    "m55": (0.43, 0.27, 0.115),
}
needs_tools = pytest.mark.skipif(bool(qemu.missing_tools()), reason=qemu.missing_tools() or "-")


def table() -> dict[str, Any]:
    return json.loads((mcu.DOCS / "mcu.json").read_text())


@needs_tools
@pytest.mark.parametrize("core", ["m0", "m3", "m4", "m55"])
def test_counts_are_within_two_percent(tmp_path: Path, core: str) -> None:
    """Compilers differ a little; counts of one compiler are exact."""
    recorded = table()["layers"][CONVOLUTION][core]["70% speed"]
    found = mcu.layer(mcu.SHAPES[CONVOLUTION](0.7), core, tmp_path, optimize="speed")
    assert found == pytest.approx(recorded, rel=0.02)


@needs_tools
def test_net_is_within_two_percent(tmp_path: Path) -> None:
    recorded = table()["nets"]["resnet8"]["m4"]["ours"]
    found = mcu.whole(nets.resnet8(), "m4", tmp_path)
    for key, value in recorded.items():
        assert found[key] == pytest.approx(value, rel=0.02), key


@pytest.mark.parametrize("core", AT_MOST)
def test_convolution_stays_in_its_limits(core: str) -> None:
    row = table()["layers"][CONVOLUTION][core]
    for zeros, limit in zip(mcu.SPARSITIES, AT_MOST[core], strict=True):
        assert row[f"{zeros:.0%} speed"] <= limit * 1e6


def test_no_layer_is_slower_than_cmsis_nn() -> None:
    slower = [
        (name, core, key)
        for name, cores in table()["layers"].items()
        for core, row in cores.items()
        for key, count in row.items()
        if count > row["CMSIS-NN"]
    ]
    assert not slower


def test_resnet8_is_four_times_leaner_than_cmsis_nn_on_m4() -> None:
    row = table()["nets"]["resnet8"]["m4"]
    assert row["CMSIS-NN layers"] >= 4 * row["ours"]["instructions"]


@pytest.mark.parametrize("name", nets.NETS)
def test_ram_is_at_most_the_arena_of_tflm(name: str) -> None:
    rows = table()["nets"][name]
    limit = table()["tflm"][name]["int8"]["arena"]
    assert all(row["ours"]["ram"] <= limit for row in rows.values())


def test_huffman_takes_at_most_two_hundredths_more_than_its_limit() -> None:
    rows = [
        row
        for net in table()["tflm"].values()
        for name, row in net.items()
        if name.startswith("huffman, ")
    ]
    assert len(rows) == 7
    assert all(row["bits"] <= row["bound"] + 0.02 for row in rows)


@needs_tools
@pytest.mark.parametrize("core", ["m0", "m4", "m55"])
def test_fully_connected_count_is_within_two_percent(tmp_path: Path, core: str) -> None:
    name = "fully connected 512 -> 64"
    recorded = table()["layers"][name][core]["70% speed"]
    found = mcu.layer(mcu.SHAPES[name](0.7), core, tmp_path, optimize="speed")
    assert found == pytest.approx(recorded, rel=0.02)


@needs_tools
def test_one_file_of_your_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table of `--model`; its instructions are those of the committed table."""
    monkeypatch.setattr(mcu.cmsis_nn, "root", lambda: None)
    (tmp_path / "net.tflite").write_bytes(nets.mobilenet())
    text = mcu.one_model(tmp_path / "net.tflite", ["m4"])
    assert "79." in text.splitlines()[0]
    row = next(line for line in text.splitlines() if "| balanced |" in line).split("|")
    recorded = table()["nets"]["mobilenet"]["m4"]["ours"]
    assert int(row[3].replace(",", "")) == pytest.approx(recorded["instructions"], rel=0.02)
    assert int(row[6].replace(",", "")) == pytest.approx(recorded["flash"], rel=0.02)
