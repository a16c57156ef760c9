"""32-bit RISC-V in QEMU, with and without instructions that multiply."""

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
BOARDS = ("rv32", "rv32 without multiplier")


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
    got = many_nets.on_core("rv32", models, values, tmp_path, board=board)
    assert not many_nets.differences(list(seeds), got, want)


def test_whole_net_and_its_instructions(tmp_path: Path) -> None:
    model = nets.mobilenet()
    report = to_c(model, tmp_path / "net", core="rv32", measure=True)
    assert report.instructions is not None
    assert 1e5 < report.instructions < 1e8
    values = many_nets.inputs(model, 3, seed=1)
    want = many_nets.reference(model, values)
    (got,) = many_nets.on_core("rv32", [model], [values], tmp_path / "run")
    assert not many_nets.differences(["mobilenet"], [got], [want])
