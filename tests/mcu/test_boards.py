"""Boards, and estimates without a compiler: what a report says, and the command that lists them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ec2t_tf.__main__ import main
from ec2t_tf.export.mcu import BOARDS, CORES, to_c
from ec2t_tf.export.mcu.costs import table
from ec2t_tf.export.page.microcontrollers import boards
from tests import nets

WITHOUT_TIMINGS = ("m7", "m55", "rv32", "rv32_unaligned")


def test_boards_are_plausible() -> None:
    for board in BOARDS.values():
        assert board.core in CORES
        assert 10_000_000 <= board.clock <= 1_000_000_000
        assert 32 << 10 <= board.ram <= 4 << 20
        assert 256 << 10 <= board.flash <= 8 << 20


def test_a_board_chooses_the_core_and_gets_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", "")  # neither compiler nor QEMU
    report = to_c(nets.ds_cnn(), tmp_path, board="pico")
    assert (report.core, report.fits) == ("m0", True)
    estimate = report.estimate
    assert estimate is not None
    assert estimate.cycles is not None
    assert estimate.cycles > estimate.instructions > 1e6
    assert report.milliseconds == pytest.approx(estimate.cycles / 125e3)
    text = str(report)
    assert "Raspberry Pi Pico (RP2040), 125 MHz: fits" in text
    assert f"about {report.milliseconds:.2f} ms" in text
    assert text.splitlines()[0].split()[:5] == ["layer", "MACs", "instr.", "cycles", "flash"]
    assert "for m0" in (tmp_path / "model.h").read_text()


def test_a_net_larger_than_the_board(tmp_path: Path) -> None:
    report = to_c(nets.resnet8(), tmp_path, board="nano33iot")
    assert report.fits is False
    assert "DOES NOT FIT" in str(report)


@pytest.mark.parametrize("board", [n for n, b in BOARDS.items() if b.core in WITHOUT_TIMINGS])
def test_no_time_without_published_timings(tmp_path: Path, board: str) -> None:
    report = to_c(nets.lenet5(), tmp_path, board=board)
    assert report.milliseconds is None
    assert report.estimate is not None
    assert report.estimate.instructions > 1e5
    assert report.estimate.cycles is None
    assert "time of a call: no estimate" in str(report)


def test_the_whole_firmware_and_every_layer_stand_in_json(tmp_path: Path) -> None:
    report = to_c(nets.lenet5(), tmp_path, board="nrf52840")
    found = json.loads((tmp_path / "report.json").read_text())
    sizes = found["bytes"]
    assert sizes["constants"] == report.flash
    assert sizes["arena"] == report.arena
    assert sizes["input and output"] == 28 * 28 + 10
    assert 1000 < sizes["code"] < 40_000
    assert 64 < sizes["stack"] < 4000
    assert report.ram == sizes["arena"] + sizes["input and output"] + sizes["stack"]
    assert found["macs"] == sum(layer["macs"] for layer in found["layers"]) == report.macs
    assert report.macs == 28 * 28 * 25 * 6 + 100 * 150 * 16 + 400 * 120 + 120 * 84 + 84 * 10
    for layer in found["layers"]:
        assert layer["estimated"]["instructions"] > 0
        assert layer["estimated"]["cycles"] > 0
        assert layer["constants"] >= 0
    whole = sum(layer["estimated"]["cycles"] for layer in found["layers"])
    assert found["milliseconds"] == pytest.approx(whole / 64e3)


@pytest.mark.parametrize("core", ["m0", "m4", "m55"])
def test_flash_of_the_whole_firmware(tmp_path: Path, core: str) -> None:
    """Beside the images that docs/mcu.json was measured with."""
    docs = Path(__file__).resolve().parents[2] / "docs"
    rows = json.loads((docs / "mcu.json").read_text())["nets"]
    for name in ("resnet8", "ds_cnn"):
        report = to_c(nets.NETS[name](), tmp_path, core=core)
        assert report.firmware_flash == pytest.approx(rows[name][core]["ours"]["flash"], rel=0.07)


def test_a_kernel_that_was_not_measured_has_no_estimate(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernels = table()["cores"]["m4"]["kernels"]
    monkeypatch.delitem(kernels, "add 2")
    report = to_c(nets.resnet8(), tmp_path, board="nucleo-l4r5")
    assert report.estimate is None
    assert report.milliseconds is None
    assert any(layer.estimate is not None for layer in report.layers)
    assert report.unmeasured == ["add 2"]
    assert "no estimate of a call: add 2 was not measured on this core" in str(report)
    table_of_boards = boards(nets.resnet8())
    assert "No estimate: add 2 was not measured on m4." in table_of_boards.caption


def test_wrong_boards_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"board must be one of .*pico.*'pica'"):
        to_c(nets.lenet5(), tmp_path, board="pica")
    with pytest.raises(ValueError, match="has the core 'm0'"):
        to_c(nets.lenet5(), tmp_path, board="pico", core="m4")
    to_c(nets.lenet5(), tmp_path, board="pico", core="m0")


def test_the_command_lists_boards_and_tries_a_net(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["boards"]) == 0
    text = capsys.readouterr().out
    assert all(board.title in text for board in BOARDS.values())
    file = tmp_path / "net.tflite"
    file.write_bytes(nets.resnet8())
    assert main(["boards", str(file)]) == 0
    rows = {line.split()[0]: line.split() for line in capsys.readouterr().out.splitlines()}
    assert rows["nano33iot"][2] == "no"
    assert rows["nucleo-l4r5"][2] == "yes"
    assert float(rows["nucleo-l4r5"][-1]) < float(rows["nrf52840"][-1])
    assert rows["esp32c3"][-2:] == ["no", "estimate"]
    assert main(["boards", str(tmp_path / "none.tflite")]) == 2


def test_docs_have_every_board() -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "boards.md").read_text()
    assert all(f"| {name} | " in text for name in BOARDS)
