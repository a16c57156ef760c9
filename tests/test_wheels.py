"""A wheel in a fresh venv: with and without a compiler, with and without what trains.

pip brings the requirements, from its cache or from an index; where it reaches neither, the tests
skip.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.file_side import PROGRAM

ROOT = Path(__file__).resolve().parents[1]
BUILT_FROM = ("ec2t_tf", "train", "export", "setup.py", "pyproject.toml", "README.md")
pytestmark = pytest.mark.slow

TRAINING = """
import keras, numpy as np
import ec2t_tf
from ec2t_tf import export
layers = keras.layers
model = keras.Sequential([keras.Input((8, 8, 1)), layers.Conv2D(8, 3), layers.Conv2D(8, 3),
                          layers.Flatten(), layers.Dense(8), layers.Dense(4)])
made = ec2t_tf.apply(model, verbose=0)
made.compile("adam", "mse")
x = np.random.default_rng(0).normal(size=(32, 8, 8, 1)).astype(np.float32)
made.fit(x, np.zeros((32, 4), np.float32), verbose=0)
export.to_tflite(made, "trained.tflite")
print("verified", export.verify(made, "trained.tflite", x).largest_difference)
"""
NO_TRAINING = """
import ec2t_tf
try:
    ec2t_tf.apply
except ImportError as error:
    print(error)
"""


def run(*words: str | Path, cwd: Path, environment: dict[str, str]) -> subprocess.CompletedProcess:
    line = [str(word) for word in words]
    return subprocess.run(line, cwd=cwd, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module", params=["compiler", "no compiler"])
def wheel(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built out of the sdist, where a C compiler is and where none is."""
    folder = tmp_path_factory.mktemp("built")
    source = folder / "source"
    source.mkdir()
    for name in BUILT_FROM:
        source.joinpath(name).symlink_to(ROOT / name)
    environment = dict(os.environ)
    if request.param == "no compiler":
        environment |= {"PATH": "", "CC": "no-such-compiler"}
    elif not shutil.which(os.environ.get("CC", "cc")):
        pytest.skip("no C compiler is here: apt-get install gcc libc6-dev")
    built = ("setup.py", "-q", "sdist", "--dist-dir", folder)
    done = run(sys.executable, *built, cwd=source, environment=environment)
    assert done.returncode == 0, done.stderr
    (sdist,) = folder.glob("*.tar.gz")
    shutil.unpack_archive(sdist, folder, filter="data")
    (unpacked,) = folder.glob("ec2t_tf-*/")
    built = ("setup.py", "-q", "bdist_wheel", "--dist-dir", folder)
    done = run(sys.executable, *built, cwd=unpacked, environment=environment)
    assert done.returncode == 0, done.stderr
    assert ("Training and export work without it." in done.stderr) == (request.param[:2] == "no")
    (found,) = folder.glob("*.whl")
    return found


@pytest.mark.parametrize("extra", ["", "train"])
def test_in_a_fresh_venv(wheel: Path, extra: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        compiled = any(name.endswith(".so") for name in archive.namelist())
    venv = tmp_path / "venv"
    clean = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "CC")}
    done = run(sys.executable, "-m", "venv", venv, cwd=tmp_path, environment=clean)
    assert done.returncode == 0, done.stderr
    python = venv / "bin" / "python"
    wanted = f"{wheel}[{extra}]" if extra else str(wheel)
    install = ("-m", "pip", "install", "-q", "--progress-bar", "off", wanted)
    done = run(python, *install, cwd=tmp_path, environment=clean)
    if done.returncode and "No matching distribution" in done.stderr:
        pytest.skip("pip reaches no index here, and its cache lacks a requirement")
    assert done.returncode == 0, done.stderr
    quiet = {**clean, "PATH": "", "TF_CPP_MIN_LOG_LEVEL": "3"}  # nothing is compiled any more

    def said(*words: str | Path, code: int = 0) -> str:
        done = run(*words, cwd=tmp_path, environment=quiet)
        assert done.returncode == code, done.stdout + done.stderr
        return str(done.stdout + done.stderr)

    printed = said(python, "-c", PROGRAM)
    assert "file side done" in printed
    assert ("Interpreter runs" in printed) == compiled
    assert ("install a C compiler" in printed) != compiled
    ec2t = venv / "bin" / "ec2t"
    assert "usage: ec2t COMMAND" in said(ec2t, "--help")
    assert "bytes on disk" in said(ec2t, "report", "packed")
    assert "pico" in said(ec2t, "boards", "packed")
    if extra:
        assert "verified" in said(python, "-c", TRAINING)
    else:
        assert "pip install 'ec2t_tf[" in said(python, "-c", NO_TRAINING)
        (only,) = said(ec2t, "summary", "model.keras", code=2).splitlines()
        assert only.startswith("error: ")
        assert "pip install 'ec2t_tf[" in only
