"""32-bit RISC-V in QEMU, with and without instructions that multiply, and unaligned loads."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from ec2t_tf.export import tflite
from ec2t_tf.export.mcu import to_c
from tests import nets
from tests.bench import qemu
from tests.mcu import many_nets, random_graphs

pytestmark = pytest.mark.skipif(
    bool(qemu.missing_tools("rv32")), reason=qemu.missing_tools("rv32") or "-"
)
BOARDS = ("rv32", "rv32_unaligned", "rv32 without multiplier", "rv32 without unaligned loads")


@pytest.mark.parametrize(
    ("board", "first", "count"),
    [
        *((board, 0, 10) for board in BOARDS),
        *(
            pytest.param(board, 10 + 50 * part, 50, marks=pytest.mark.slow)
            for board in BOARDS
            for part in range(4)
        ),
    ],
)
def test_random_graphs(tmp_path: Path, board: str, first: int, count: int) -> None:
    seeds = range(first, first + count)
    models = [random_graphs.Draw(seed).model for seed in seeds]
    values = [many_nets.inputs(m, 2, seed=s) for m, s in zip(models, seeds, strict=True)]
    want = [many_nets.reference(m, v) for m, v in zip(models, values, strict=True)]
    core = board.partition(" ")[0]
    got = many_nets.on_core(core, models, values, tmp_path, board=board)
    assert not many_nets.differences(list(seeds), got, want)


@pytest.mark.parametrize(("offset", "status"), [(0, 0), (1, 98), (2, 98)])
@pytest.mark.parametrize("instruction", ["lw", "sw"])
def test_the_plugin_stops_at_an_unaligned_address(
    tmp_path: Path, instruction: str, offset: int, status: int
) -> None:
    main = tmp_path / "main.c"
    main.write_text(
        "#include <stdint.h>\nint main(void) {\n"
        "  static uint8_t bytes[8] __attribute__((aligned(4)));\n"
        "  uint32_t word = 0;\n"
        f'  __asm volatile("{instruction} %0,0(%1)" : "+r"(word) : "r"(bytes + {offset})'
        ' : "memory");\n  return 0;\n}\n'
    )
    board = "rv32 without unaligned loads"
    done = qemu.run(board, qemu.build(board, [main], tmp_path / "build").path, folder=tmp_path)
    assert done.status == status, done.text
    assert ("MISALIGNED" in done.text) == bool(offset)


def _lists(seed: int) -> bytes:
    """A ternary convolution whose lists are mostly by place; of every third its multiplier is so
    large that no tile rounds in few instructions."""
    random = np.random.default_rng(seed)
    stride = int(random.choice([1, 1, 2]))
    shape = (1, int(random.integers(3, 20)), int(random.choice([6, 8, 9, 16, 33, 35])) * stride)
    net = nets.NetBuilder((*shape, int(random.integers(5, 20))), seed=seed)
    x = net.conv(
        net.input,
        int(random.integers(1, 9)),
        (3, int(random.choice([1, 2, 3, 5]))),
        (int(random.integers(1, 3)), stride),
        zeros=float(random.choice([0.3, 0.5, 0.7])),
        same=bool(random.integers(2)),
        relu=bool(random.integers(2)),
    )
    graph = tflite.read(net.finish(x))
    if seed % 3 == 0:
        out = graph.tensors[graph.outputs[0]]
        out.scale = out.scale / 64
    return tflite.write(graph)


@pytest.mark.parametrize(
    ("board", "first"),
    [
        ("rv32 without unaligned loads", 0),
        *(pytest.param(board, 12, marks=pytest.mark.slow) for board in BOARDS if "_" not in board),
    ],
)
def test_lists_by_place(tmp_path: Path, board: str, first: int) -> None:
    """In the three ways to keep them, one program a board; all of it by name in the C."""
    seeds = range(first, first + 12)
    models = [_lists(seed) for seed in seeds]
    values = [many_nets.inputs(m, 3, seed=s) for m, s in zip(models, seeds, strict=True)]
    want = [many_nets.reference(m, v) for m, v in zip(models, values, strict=True)]
    got = many_nets.on_core("rv32", models, values, tmp_path, board=board)
    assert not many_nets.differences(list(seeds), got, want)
    written = "".join(path.read_text() for path in tmp_path.glob("g*.c"))
    assert written.count(".by_place = 1") >= len(models) // 2
    assert {"DISTANCES", "RICE", "GAPS"} == set(re.findall(r"EC2T_MCU_ENCODING_(\w+)", written))
    assert "CHANNELS_WHOLE" in written


def test_few_taps_and_far_ones_are_not_by_place(tmp_path: Path) -> None:
    """Where they would take more instructions, or offsets have more than 16 bits."""
    few, far = nets.NetBuilder((1, 9, 9, 20), seed=1), nets.NetBuilder((1, 50, 50, 40), seed=1)
    models = [few.finish(few.conv(few.input, 4, (1, 1), zeros=0.8))]
    models.append(far.finish(far.conv(far.input, 2, zeros=0.8)))
    values = [many_nets.inputs(m, 2, seed=1) for m in models]
    want = [many_nets.reference(m, v) for m, v in zip(models, values, strict=True)]
    got = many_nets.on_core("rv32", models, values, tmp_path, board="rv32 without unaligned loads")
    assert not many_nets.differences([0, 1], got, want)
    written = "".join(path.read_text() for path in tmp_path.glob("g*.c"))
    assert written.count("ec2t_mcu_list_conv layer") == 2
    assert "by_place" not in written


def test_whole_net_and_its_instructions(tmp_path: Path) -> None:
    model = nets.mobilenet()
    report = to_c(model, tmp_path / "net", core="rv32", measure=True)
    assert report.instructions is not None
    assert 1e5 < report.instructions < 1e8
    values = many_nets.inputs(model, 3, seed=1)
    want = many_nets.reference(model, values)
    (got,) = many_nets.on_core("rv32", [model], [values], tmp_path / "run")
    assert not many_nets.differences(["mobilenet"], [got], [want])
