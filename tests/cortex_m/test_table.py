"""The committed table docs/mcu.json: still true, and what it promises."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests import nets
from tests.bench import mcu, mlperf_tiny, qemu

CONVOLUTION = "3x3, 16x16x32 -> 32"
# Millions of instructions at 50, 70 and 90 % zeros.
AT_MOST = {
    "m0": (4.6, 2.8, 1.25),
    "m3": (2.4, 1.5, 0.65),
    "m4": (1.25, 0.80, 0.36),
    "m55": (0.31, 0.25, 0.105),
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


@pytest.mark.parametrize("core", qemu.CORES)
def test_no_layer_is_slower_than_cmsis_nn(core: str) -> None:
    """Nor than 0.95 of its newest sources; 0.75 on cores with DSP instructions and on M55."""
    limit = 0.95 if core in ("m0", "m3") else 0.75
    rows = {name: cores[core] for name, cores in table()["layers"].items()}
    assert all(mcu.RECORDED in row for row in rows.values())
    slower = [
        (name, key)
        for name, row in rows.items()
        for key, count in row.items()
        if not key.startswith("CMSIS-NN")
        and (count > row["CMSIS-NN"] or count > row[mcu.RECORDED] * limit)
    ]
    assert not slower


def test_a_net_with_nothing_ternary_is_below_cmsis_nn() -> None:
    """Half on M4 and M33, never more on the others."""
    most = {"m4": 0.5, "m33": 0.5}
    for name in mcu.INT8_NETS:
        for core, row in table()["nets"][name].items():
            share = row["ours"]["instructions"] / row[mcu.RECORDED]
            assert share <= most.get(core, 1.0), (name, core, share)


@pytest.mark.parametrize(
    ("name", "core", "times"),
    [
        *(("resnet8", core, times) for core, times in (("m4", 6.4), ("m0", 5.3), ("m55", 3.1))),
        *(("ds_cnn", core, times) for core, times in (("m4", 3.6), ("m55", 2.2))),
    ],
)
def test_nets_are_so_many_times_leaner_than_cmsis_nn(name: str, core: str, times: float) -> None:
    """Its newest sources, layers alone; with TensorFlow Lite Micro around them more."""
    row = table()["nets"][name][core]
    assert row[mcu.RECORDED] >= times * row["ours"]["instructions"]


@needs_tools
def test_a_wake_word_net_with_60_percent_zeros(shared: Path, tmp_path: Path) -> None:
    """2.5 times leaner than CMSIS-NN's newest layers for the int8 file (docs/mcu.md)."""
    file = shared / "models" / "mlperf_tiny_str_ww_ref_model.tflite"
    model = mlperf_tiny.pruned(mcu.int8_borders(file.read_bytes()), 0.6)
    assert mcu.whole(model, "m4", tmp_path)["instructions"] <= 2_222_721 / 2.5


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
