"""The C of a file run on this machine: equal to the file, and told apart where it is not."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ec2t_tf.export import c_verification
from ec2t_tf.export.mcu import to_c
from ec2t_tf.export.page.comparison import notes, side_by_side
from ec2t_tf.export.page.microcontrollers import OnCore, on_cores
from ec2t_tf.export.page.write import subjects_of
from ec2t_tf.export.tflite import read, write

SMALL = Path(__file__).parents[1] / "fixtures" / "v0_1_0" / "small_int8.tflite"

pytestmark = pytest.mark.skipif(
    not any(map(shutil.which, ("cc", "gcc", "clang"))),
    reason="needs a C compiler: apt-get install gcc",
)


def test_without_qemu_c_runs_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A PATH with compilers and without QEMU: estimates, said to be so, and equal outputs."""
    which = shutil.which
    monkeypatch.setattr(shutil, "which", lambda tool: None if "qemu" in tool else which(tool))
    (one,) = on_cores(SMALL, ["m4"], measure=True)
    assert one.instructions is None
    assert one.estimate is not None
    assert "16 inputs equal bit for bit" in one.note
    subjects = subjects_of([SMALL], cores=["m4"], measure=True)
    table = side_by_side(subjects, ["a"])
    assert table.head[-1] == "instructions, estimated"
    assert table.rows[0][-1] == one.estimate
    assert notes(subjects, ["a"]).startswith("a, m4: no compiler, or no QEMU")


def test_other_outputs_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = read(SMALL.read_bytes())
    bias = graph.tensors[graph.operators[-1].inputs[2]]
    assert bias.data is not None
    bias.data = np.asarray(bias.data) + 5000
    other = write(graph)

    def of_another(content: bytes, folder: Path, **options: Any) -> Any:
        return to_c(other, folder, **options)

    monkeypatch.setattr(c_verification, "to_c", of_another)
    assert not c_verification.verify_c(SMALL).passes()
    which = shutil.which
    monkeypatch.setattr(shutil, "which", lambda tool: None if "qemu" in tool else which(tool))
    with pytest.raises(ValueError, match="Received on this machine"):
        on_cores(SMALL, ["m4"], measure=True)


def test_no_compiler_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda tool: None)
    (one,) = on_cores(SMALL, ["m4"], measure=True)
    assert isinstance(one, OnCore)
    assert "cc, gcc or clang" in one.note
