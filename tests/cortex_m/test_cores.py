"""Generated C on Cortex-M cores in QEMU against LiteRT's reference."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

from ec2t_tf.export.mcu import CORES, OPTIMIZE, to_c
from tests import c_runner, nets
from tests.bench import qemu
from tests.dense_cases import DENSE
from tests.mcu import many_nets, random_graphs

ALL = {**nets.NETS, "odds_and_ends": nets.odds_and_ends}
LIKE_OTHERS = [core for core, one in CORES.items() if one.like]  # m23, m33_nodsp, m55_nomve, m85
pytestmark = pytest.mark.skipif(bool(qemu.missing_tools()), reason=qemu.missing_tools() or "-")


def _compare(tmp_path: Path, core: str, name: str, count: int) -> None:
    model = ALL[name]()
    values = nets.inputs(model, count)
    want = nets.reference(model, values)
    to_c(model, tmp_path, core=core)
    got, _, _ = c_runner.run_core(core, tmp_path, values, want.shape[1:])
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize(
    ("name", "core"),
    [
        *(("odds_and_ends", core) for core in (*qemu.CORES, *LIKE_OTHERS)),
        ("mobilenet", "m4"),
        ("mobilenet", "m55"),
    ],
)
def test_equals_the_reference(tmp_path: Path, core: str, name: str) -> None:
    _compare(tmp_path, core, name, 4)


@pytest.mark.parametrize("core", qemu.CORES)
@pytest.mark.parametrize("name", ["lists", "int8, rows"])
def test_fully_connected_layers_round_once(tmp_path: Path, core: str, name: str) -> None:
    case = DENSE[name]
    model = case.model()
    values = nets.inputs(model, 16)
    want = nets.reference(model, values)
    assert (case.rounded_twice(values) != want).any()
    to_c(model, tmp_path, core=core)
    got, _, _ = c_runner.run_core(core, tmp_path, values, want.shape[1:])
    np.testing.assert_array_equal(got, want)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(7, 13))
@pytest.mark.parametrize("core", qemu.CORES)
def test_lenet5_with_other_weights(tmp_path: Path, core: str, seed: int) -> None:
    model = nets.lenet5(seed=seed)
    values = nets.inputs(model, 16, seed=seed)
    want = nets.reference(model, values)
    to_c(model, tmp_path, core=core)
    got, _, _ = c_runner.run_core(core, tmp_path, values, want.shape[1:])
    np.testing.assert_array_equal(got, want)


@pytest.mark.slow
@pytest.mark.parametrize("core", qemu.CORES)
@pytest.mark.parametrize("name", nets.NETS)
def test_equals_the_reference_on_16_inputs(tmp_path: Path, core: str, name: str) -> None:
    _compare(tmp_path, core, name, 16)


@pytest.mark.parametrize("core", ["m0", "m4", "m55"])
@pytest.mark.parametrize(
    "seed", [0, 1, *[pytest.param(s, marks=pytest.mark.slow) for s in range(2, 20)]]
)
def test_equals_the_reference_on_random_layers(tmp_path: Path, core: str, seed: int) -> None:
    model = nets.random_layers(seed)
    values = nets.inputs(model, 3)
    want = nets.reference(model, values)
    to_c(model, tmp_path, core=core, optimize=OPTIMIZE[seed % 3])
    got, _, _ = c_runner.run_core(core, tmp_path, values, want.shape[1:])
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize(
    ("core", "first", "count"),
    [
        *((core, 0, 10) for core in ("m0", "m3", "m4", "m55")),
        *(
            pytest.param(core, 10 + 50 * part, 50, marks=pytest.mark.slow)
            for core in (*qemu.CORES, *LIKE_OTHERS)
            for part in range(4)
        ),
    ],
)
def test_random_graphs(tmp_path: Path, core: str, first: int, count: int) -> None:
    """The graphs of tests/mcu/random_graphs.py, many in one firmware."""
    seeds = range(first, first + count)
    models = [random_graphs.Draw(seed).model for seed in seeds]
    values = [many_nets.inputs(m, 2, seed=s) for m, s in zip(models, seeds, strict=True)]
    want = [many_nets.reference(m, v) for m, v in zip(models, values, strict=True)]
    got = many_nets.on_core(core, models, values, tmp_path)
    assert not many_nets.differences(list(seeds), got, want)


@pytest.mark.parametrize("core", ["m0", "m23", "m3", "m33_nodsp"])
def test_unaligned_words_fault_where_the_core_has_none(tmp_path: Path, core: str) -> None:
    """Or a core that stands for another would take what the other does not."""
    main = tmp_path / "main.c"
    main.write_text(
        "#include <stdint.h>\nint main(void) {\n"
        "  static const uint8_t bytes[8] __attribute__((aligned(4))) = {0, 1, 2, 3, 4};\n"
        "  uint32_t word;\n"
        '  __asm volatile("ldr %0,[%1]" : "=r"(word) : "r"(bytes + 1));\n'
        "  return word == 0x04030201u ? 0 : 1;\n}\n"
    )
    image = qemu.build(core, [main], tmp_path / "build")
    done = qemu.run(core, image.path, folder=tmp_path)
    assert done.status == (99 if core in ("m0", "m23") else 0), done.text


@pytest.mark.parametrize("core", LIKE_OTHERS)
def test_a_core_like_another_has_its_estimates(tmp_path: Path, core: str) -> None:
    one, other = (to_c(nets.mobilenet(), tmp_path / c, core=c) for c in (core, CORES[core].like))
    assert one.firmware == other.firmware
    assert [x.estimate for x in one.layers] == [x.estimate for x in other.layers]
    assert all(x.estimate for x in one.layers)


def test_runs_on_a_real_cortex_m0(tmp_path: Path) -> None:
    """The micro:bit machine: 16 KiB of RAM in all."""
    net = nets.NetBuilder((1, 12, 12, 4), seed=1)
    x = net.conv(net.input, 8, stride=(2, 2))
    model = net.finish(net.dense(net.reshape(x, (1, 288)), 10))
    values = nets.inputs(model, 2)
    want = nets.reference(model, values)
    to_c(model, tmp_path, core="m0")
    got, image, _ = c_runner.run_core("microbit", tmp_path, values, want.shape[1:])
    np.testing.assert_array_equal(got, want)
    assert image.ram < 8 << 10


def test_counts_are_exact(tmp_path: Path) -> None:
    """Two runs of one firmware, and two inputs of one run, count the same."""
    net = nets.NetBuilder((1, 8, 8, 4), seed=2)
    model = net.finish(net.conv(net.input, 8, relu=False))
    values = nets.inputs(model, 4)[2:]
    to_c(model, tmp_path, core="m4")
    _, image, first = c_runner.run_core("m4", tmp_path, values, (8, 8, 8))
    again = qemu.run("m4", image.path, folder=tmp_path)
    assert first == again.counts
    assert first[0].instructions == first[1].instructions


@pytest.mark.parametrize("core", ["m0", "m4", "m55"])
def test_measured_report_is_the_exact_count(tmp_path: Path, core: str) -> None:
    """SysTick under -icount, which needs no plugin, against the counting plugin."""
    model = nets.mobilenet()
    report = to_c(model, tmp_path / "net", core=core, measure=True)
    header = (tmp_path / "net" / "model.h").read_text()
    assert f"{report.instructions} instructions a call in QEMU" in header
    to_c(model, tmp_path, core=core)
    _, _, counts = c_runner.run_core(core, tmp_path, nets.inputs(model, 3)[2:], (10,))
    assert report.instructions == pytest.approx(counts[0].instructions, rel=1e-3)


def test_measuring_names_the_tool_it_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ValueError, match="Missing: make, arm-none-eabi-gcc, qemu-system-arm"):
        to_c(nets.mobilenet(), tmp_path, core="m4", measure=True)


def test_example_firmware_builds_and_runs(tmp_path: Path) -> None:
    to_c(nets.lenet5(), tmp_path, core="m4", name="digits", example=True)
    done = subprocess.run(
        ["make", "-C", str(tmp_path / "example"), "run"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "is the greatest" in done.stdout + done.stderr
