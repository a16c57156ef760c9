"""Many graphs out of all operators in all orders against LiteRT's reference, in one program."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from ec2t_tf.export import tflite
from ec2t_tf.export.mcu import supported
from tests.mcu import many_nets, random_graphs

# Of a slow run; 10,000 graphs: EC2T_GRAPHS=10000 pytest -m slow tests/mcu/test_random_graphs.py
COUNT = int(os.environ.get("EC2T_GRAPHS", "1000"))


def _differences(seeds: range, folder: Path, *, sanitize: bool) -> list[str]:
    print(f"seeds {seeds}", flush=True)
    models = [random_graphs.Draw(seed).model for seed in seeds]
    values = [many_nets.inputs(m, 3, seed=s) for m, s in zip(models, seeds, strict=True)]
    want = [many_nets.reference(m, v) for m, v in zip(models, values, strict=True)]
    varied = sum(w.std() > 5 for w in want)
    assert varied > len(seeds) / 3  # graphs whose outputs do not vary would prove little
    got = many_nets.on_host(models, values, folder, sanitize=sanitize)
    return many_nets.differences(list(seeds), got, want)


@pytest.mark.parametrize(("first", "sanitize"), [(0, True), (150, False)])
def test_equal_the_reference(tmp_path: Path, first: int, sanitize: bool) -> None:
    assert not _differences(range(first, first + 150), tmp_path, sanitize=sanitize)


def test_every_operator_is_drawn() -> None:
    drawn: set[str] = set()
    for seed in range(2000):
        graph = tflite.read(random_graphs.Draw(seed).model)
        drawn |= {op.kind for op in graph.operators}
    assert drawn - {"CAST"} == set(supported())  # of an input's whole numbers, which C is given


@pytest.mark.slow
def test_equal_the_reference_many(tmp_path: Path) -> None:
    """Every other 500 under sanitizers."""
    found = []
    for first in range(1000, 1000 + COUNT, 500):
        seeds = range(first, min(first + 500, 1000 + COUNT))
        found += _differences(seeds, tmp_path / "nets", sanitize=first % 1000 == 0)
        print(f"{len(found)} differ up to {seeds.stop}: {found}", flush=True)
        shutil.rmtree(tmp_path / "nets")
    assert not found
