"""Files that earlier versions wrote still read, and compute what they computed.

The folders are written by `python -m tests.fixtures.write`.
"""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ec2t_tf.export import unpack
from ec2t_tf.export.litert import Interpreter
from tests import nets
from tests.fixtures import write
from tests.tflite.fixtures import RESOLVERS, outputs_of
from tests.tflm import wheel

FOLDER = Path(__file__).parent / "fixtures" / "v0_1_0"
METHODS = (
    "ec2t",
    "ecp",
    "ttq",
    "twn",
    "abs_mean",
    "tga",
    "sparsity_regularized",
    "generalized_ternary_connect",
)


QUICK = (("ec2t", ".keras"), ("ttq", ".h5"), ("tga", ""))


@pytest.fixture(scope="module")
def recorded() -> dict[str, Any]:
    return json.loads((FOLDER / "outputs.json").read_text())


@pytest.fixture(scope="module")
def unpacked_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    with tarfile.open(FOLDER / "models.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.mark.parametrize("suffix", [".keras", ".h5", ""])
@pytest.mark.parametrize("method", METHODS)
def test_models_read(unpacked_models: Path, method: str, suffix: str) -> None:
    import ec2t_tf
    from tests import models

    model = ec2t_tf.load_model(unpacked_models / f"{method}{suffix}")
    images, _ = models.examples(8, seed=1)
    outputs = model.predict(images, verbose=0)
    with np.load(FOLDER / "outputs.npz") as expected:
        same = np.isclose(outputs, expected[method], atol=1e-4)
    # Outputs are whole steps: another processor may round a tie to the other side.
    assert same.mean() >= 0.9


@pytest.mark.parametrize(
    ("method", "suffix"),
    [
        pytest.param(method, suffix, marks=() if (method, suffix) in QUICK else pytest.mark.slow)
        for method in METHODS
        for suffix in (".keras", ".h5", "")
    ],
)
def test_models_are_written(
    unpacked_models: Path, tmp_path: Path, method: str, suffix: str
) -> None:
    """By the rules of today, exactly; close to what the model computes, as ever."""
    import ec2t_tf
    from ec2t_tf.export import exact, to_tflite, verify
    from tests import models

    model = ec2t_tf.load_model(unpacked_models / f"{method}{suffix}")
    images, _ = models.examples(8, seed=1)
    path = to_tflite(model, tmp_path / "model.tflite")
    assert verify(exact(model, rounding="xnnpack"), path, images).largest_difference == 0
    assert verify(model, path, images).largest_difference <= 2


@pytest.mark.parametrize("form", write.FORMATS)
def test_files_read(recorded: dict[str, Any], form: str) -> None:
    if form == "download":
        content = unpack((FOLDER / "small_download.ec2d").read_bytes(), to="packed")
    else:
        content = (FOLDER / f"small_{form}.tflite").read_bytes()
    values = write.inputs_of((FOLDER / "small_int8.tflite").read_bytes())
    if form == "tflm":
        int8 = (FOLDER / "small_int8.tflite").read_bytes()
        np.testing.assert_array_equal(wheel.outputs(content, values), wheel.outputs(int8, values))
        return
    interpreter = Interpreter(
        model_content=content,
        requant="tflite",
        experimental_op_resolver_type=RESOLVERS["reference"],
    )
    outputs = outputs_of(interpreter, values[:, None]).astype(np.int8)
    assert write.digest(outputs) == recorded["small"][form]


def test_int8_comes_out_of_download() -> None:
    content = unpack((FOLDER / "small_download.ec2d").read_bytes(), to="int8")
    assert content == (FOLDER / "small_int8.tflite").read_bytes()


def test_nets_compute_what_they_computed(recorded: dict[str, Any]) -> None:
    """Outputs; a later builder or writer may lay out the file in another way."""
    made = write.integer_nets()
    assert set(recorded["nets"]) <= set(made)
    for name, hashes in recorded["nets"].items():
        model = made[name]()
        outputs = nets.reference(model, write.inputs_of(model))
        assert write.digest(outputs) == hashes["outputs"], name
