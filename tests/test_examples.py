"""Every file of examples/ runs, and does what it says."""

from __future__ import annotations

import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

EXECUTE = """
import nbclient, nbformat
notebook = nbformat.read("notebook.ipynb", 4)
nbclient.NotebookClient(notebook, timeout=300).execute()
nbformat.write(notebook, "notebook.ipynb")
"""
FOLDER = Path(__file__).resolve().parents[1] / "examples"


@pytest.fixture
def example(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def run(name: str, *arguments: str) -> str:
        monkeypatch.setattr(sys, "argv", [name, *arguments])
        runpy.run_path(str(FOLDER / name), run_name="__main__")
        return capsys.readouterr().out

    return run


def accuracies(printed: str) -> list[float]:
    return [float(x) for x in re.findall(r"^accuracy (.*)$", printed, re.MULTILINE)]


def test_each_is_listed_and_tested() -> None:
    listed = re.findall(r"\[(\w+\.py)\]", (FOLDER / "README.md").read_text())
    assert sorted(listed) == sorted(path.name for path in FOLDER.glob("*.py"))
    source = Path(__file__).read_text()
    assert all(f'example("{name}"' in source for name in listed)


@pytest.mark.slow
def test_keras_3(example) -> None:
    printed = example("keras_3.py")
    float_net, ternary = accuracies(printed)
    assert float_net > 0.9
    assert ternary > 0.85
    assert Path("packed.tflite").stat().st_size < Path("model.tflite").stat().st_size


@pytest.mark.slow
def test_tf_keras_tfmot(example) -> None:
    float_net, ternary = accuracies(example("tf_keras_tfmot.py"))
    assert float_net > 0.85
    assert ternary > 0.8
    assert Path("model.tflite").exists()


def test_tflite_to_c(example) -> None:
    assert "Next: make -C model_c/example run" in example("tflite_to_c.py")
    assert Path("model_c/model.c").exists()
    assert Path("model_c/example/main.c").exists()


def test_raspberry_pi(example) -> None:
    lines = re.findall(r"^(.+): (.+), [\d.]+ ms$", example("raspberry_pi.py"), re.MULTILINE)
    assert len(lines) == 8
    assert sum(label == best for label, best in lines) >= 7


@pytest.mark.slow
def test_gestures(example) -> None:
    float_net, ternary = accuracies(example("gestures.py", "8"))
    assert float_net > 0.7
    assert ternary > 0.7
    assert Path("gestures_c/model.c").exists()


@pytest.mark.slow
def test_anomalies(example) -> None:
    printed = example("anomalies.py", "0", "60")
    float_net, ternary = map(float, re.findall(r"^AUC .* ([\d.]+)$", printed, re.MULTILINE))
    assert float_net > 0.9
    assert ternary > 0.9
    assert Path("anomalies_c/model.c").exists()


def test_wake_word(example) -> None:
    float_net, ternary = accuracies(example("wake_word.py", "2"))
    assert float_net > 0.9
    assert ternary > 0.9
    assert "model_step" in Path("wake_word_c/model.h").read_text()


@pytest.mark.slow
def test_own_images(example, tmp_path) -> None:
    from PIL import Image

    random = np.random.default_rng(1)
    for number, name in enumerate(("dark", "light")):
        (tmp_path / "images" / name).mkdir(parents=True)
        for image in range(40):
            pixels = random.integers(0, 128, (40, 48, 3)) + 127 * number
            Image.fromarray(pixels.astype(np.uint8)).save(f"images/{name}/{image:02}.png")
    example("own_images.py", "images", "2")
    assert Path("runs/own_images/report.html").exists()
    assert Path("runs/own_images/model.tflite").exists()


# What a notebook prints, and leaves.
NOTEBOOKS = {
    "from_a_file.ipynb": (r"multiply-accumulates in one inference", "model_c/model.c"),
    "gestures.ipynb": (r"ternary accuracy 0\.[6-9]", "gestures_c/model.c"),
}


def test_every_notebook_is_run() -> None:
    assert sorted(NOTEBOOKS) == sorted(path.name for path in FOLDER.glob("*.ipynb"))
    assert all(f"({name})" in (FOLDER / "README.md").read_text() for name in NOTEBOOKS)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebook(name: str, tmp_path: Path) -> None:
    pytest.importorskip("nbclient")
    pytest.importorskip("ipykernel")
    place = tmp_path / "notebook.ipynb"
    place.write_text((FOLDER / name).read_text())
    done = subprocess.run(
        [sys.executable, "-c", EXECUTE],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    printed, left = NOTEBOOKS[name]
    assert (tmp_path / left).is_file()
    cells = json.loads(place.read_text())["cells"]
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    assert not [one for one in outputs if one.get("name") == "stderr"], outputs
    assert re.search(printed, "".join("".join(one.get("text", "")) for one in outputs))
