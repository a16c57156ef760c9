"""libFuzzer with AddressSanitizer and UBSan on graphs and blobs: docs/fuzzing.md.

`make test` fuzzes for seconds and tries all that was ever found; `make test-slow` fuzzes longer.
"""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterable
from pathlib import Path

import pytest

from ec2t_tf.export.formats import Encoding
from ec2t_tf.export.kernels import build

from . import targets

CACHE = Path(tempfile.gettempdir()) / "ec2t_tf_test_build"


def fuzz(target: targets.Target, seeds: Iterable[bytes], folder: Path, *limits: str) -> str:
    """What libFuzzer printed; the test fails with the input to replay if it found something."""
    if targets.missing_tool():
        pytest.skip(f"not installed: {targets.missing_tool()}")
    CACHE.mkdir(exist_ok=True)
    try:
        program = target.build(CACHE)
    except build.CompileError as error:
        if "libclang_rt" in str(error):
            pytest.skip("not installed: libclang-rt (clang's sanitizers)")
        raise
    corpus = folder / "corpus"
    corpus.mkdir()
    for index, seed in enumerate(seeds):
        (corpus / f"{index:03}").write_bytes(seed)
    for finding in target.findings():
        (corpus / finding.name).write_bytes(finding.read_bytes())
    command = [str(program), *targets.LIMITS, "-seed=7", f"-max_len={target.longest}", *limits]
    done = subprocess.run(
        [*command, "-close_fd_mask=1", str(corpus)],
        cwd=folder,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    found = [file.read_bytes().hex() for file in folder.iterdir() if file.is_file()]
    assert done.returncode == 0, f"{done.stderr[-4000:]}\nreplay with: {found}"
    return done.stderr


def test_graphs_shortly(tmp_path: Path) -> None:
    limits = ("-runs=12000", "-max_total_time=15", "-len_control=10")
    assert "DONE" in fuzz(targets.GRAPH, targets.graph_seeds(), tmp_path, *limits)


def test_layers_shortly(tmp_path: Path) -> None:
    limits = ("-runs=30000", "-max_total_time=10")
    assert "DONE" in fuzz(targets.layer(), targets.layer_seeds(), tmp_path, *limits)


def test_compact_blobs_shortly(tmp_path: Path) -> None:
    limits = ("-runs=20000", "-max_total_time=8")
    assert "DONE" in fuzz(targets.COMPACT, targets.compact_seeds(), tmp_path, *limits)


@pytest.mark.slow
def test_compact_blobs_for_ten_minutes(tmp_path: Path) -> None:
    limits = ("-max_total_time=600",)
    assert "DONE" in fuzz(targets.COMPACT, targets.compact_seeds(), tmp_path, *limits)


@pytest.mark.slow
def test_graphs_for_ten_minutes(tmp_path: Path) -> None:
    limits = ("-max_total_time=600", "-len_control=20")
    assert "DONE" in fuzz(targets.GRAPH, targets.graph_seeds(), tmp_path, *limits)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["any", *Encoding.__members__])
def test_layers_for_ten_minutes(tmp_path: Path, name: str) -> None:
    encoding = None if name == "any" else Encoding[name]
    seeds = targets.layer_seeds(Encoding if encoding is None else [encoding])
    assert "DONE" in fuzz(targets.layer(encoding), seeds, tmp_path, "-max_total_time=600")
