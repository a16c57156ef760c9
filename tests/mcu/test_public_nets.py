"""Public nets, as they are, against LiteRT's reference."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ec2t_tf.export.mcu import ModelError, to_c
from tests.bench import qemu
from tests.conftest import SHARED
from tests.mcu import many_nets

# What is refused, and why.
REFUSED = {
    "mlperf_tiny_kws_ref_model_float32.tflite": "must be int8",
}
# More files than ../shared has: EC2T_NETS=/folder pytest tests/mcu/test_public_nets.py
MORE = [Path(os.environ["EC2T_NETS"])] if os.environ.get("EC2T_NETS") else []
FILES = sorted(
    [
        *(SHARED / "models" / "real").glob("*.tflite"),
        *(SHARED / "models").glob("mlperf*.tflite"),
        *(path for folder in MORE for path in folder.glob("*.tflite")),
    ]
)
NETS = [p for p in FILES if p.name not in REFUSED]
# More than a machine's code memory: the Corstone-300's holds 512 KiB.
TOO_LARGE = {("tinyengine__vww", "m55")}


def _compare(path: Path, folder: Path, core: str, runs: int) -> None:
    model = path.read_bytes()
    values = many_nets.inputs(model, runs, seed=1)
    want = many_nets.reference(model, values)
    if core == "host":
        (got,) = many_nets.on_host([model], [values], folder, sanitize=False)
    else:
        (got,) = many_nets.on_core(core, [model], [values], folder)
    assert not many_nets.differences([path.name], [got], [want])


@pytest.mark.parametrize("path", NETS, ids=lambda p: p.stem)
def test_equals_the_reference(shared: Path, tmp_path: Path, path: Path) -> None:
    _compare(path, tmp_path, "host", 4)


@pytest.mark.slow
@pytest.mark.parametrize("path", NETS, ids=lambda p: p.stem)
def test_equals_the_reference_on_more_inputs(shared: Path, tmp_path: Path, path: Path) -> None:
    """Nets with state, one call after the other, 100 times."""
    _compare(path, tmp_path, "host", 100 if path.stat().st_size < 40_000 else 16)


@pytest.mark.slow
@pytest.mark.parametrize("core", ["m0", "m4", "m55", "rv32"])
@pytest.mark.parametrize("path", NETS, ids=lambda p: p.stem)
def test_equals_the_reference_on_cores(shared: Path, tmp_path: Path, path: Path, core: str) -> None:
    if qemu.missing_tools(core):
        pytest.skip(qemu.missing_tools(core))
    if (path.stem, core) in TOO_LARGE:
        with pytest.raises(RuntimeError, match="will not fit in region"):
            _compare(path, tmp_path, core, 1)
        return
    _compare(path, tmp_path, core, 16)


def test_refused_for_a_reason(shared: Path, tmp_path: Path) -> None:
    for path in FILES:
        if path.name in REFUSED:
            with pytest.raises(ModelError, match=REFUSED[path.name]):
                to_c(path, tmp_path)
