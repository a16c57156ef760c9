"""32-bit RISC-V in QEMU, with and without instructions that multiply, and unaligned loads."""

from __future__ import annotations

from pathlib import Path

import pytest

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


def test_whole_net_and_its_instructions(tmp_path: Path) -> None:
    model = nets.mobilenet()
    report = to_c(model, tmp_path / "net", core="rv32", measure=True)
    assert report.instructions is not None
    assert 1e5 < report.instructions < 1e8
    values = many_nets.inputs(model, 3, seed=1)
    want = many_nets.reference(model, values)
    (got,) = many_nets.on_core("rv32", [model], [values], tmp_path / "run")
    assert not many_nets.differences(["mobilenet"], [got], [want])
