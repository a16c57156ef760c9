"""What the documentation shows: its Python runs, its commands and messages are those of the code.

Every Python block of a page runs here, or in the test that `ELSEWHERE` names; examples in
tests/test_examples.py. Long trainings are not run: their flags are looked up.
"""

from __future__ import annotations

import functools
import importlib.util
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = [*sorted((ROOT / "docs").glob("*.md")), *sorted(ROOT.glob("*.md"))]
RUN_HERE = {"boards.md", "integer.md", "start_pytorch.md", "start_tfmot.md"}
ELSEWHERE = {
    "README.md": "test_readme.py",
    "what_apply_does.md": "test_readme.py",
    "methods.md": "test_methods_documented.py",
}
# A module whose command line is that of `ec2t NAME`; None: its first word is NAME.
COMMANDS = {"ec2t_tf.train": "train", "ec2t_tf.train.sweep": "sweep", "ec2t_tf.export": None}


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(), re.DOTALL)


def commands(page: Path) -> list[list[str]]:
    """Words of each command: lines in blocks, continued ones joined."""
    text = re.sub(r"\\\n\s*", "", page.read_text())
    lines = re.findall(r"^(?:    )?((?:ec2t|python -m) .*)$", text, re.MULTILINE)
    return [shlex.split(line.replace("$(", "(").split(" | ")[0], comments=True) for line in lines]


@functools.cache
def help_of(command: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "ec2t_tf", command, "--help"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_python_block_is_run() -> None:
    for page in PAGES:
        for _ in blocks(page, "python"):
            if page.name in ELSEWHERE:
                assert page.name in (ROOT / "tests" / ELSEWHERE[page.name]).read_text()
            else:
                assert page.name in RUN_HERE, page


def test_examples_shown_are_there() -> None:
    text = "".join(page.read_text() for page in PAGES)
    shown = re.findall(r"<!-- example: (.*) -->", text)
    assert len(shown) > 4
    for name in shown:
        assert (ROOT / "examples" / name).is_file(), name


def test_copied_convolution() -> None:
    pytest.importorskip("torch")
    (block,) = blocks(ROOT / "docs" / "start_pytorch.md", "python")
    exec(block, {})


def test_exact_integers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ec2t_tf.export import file_formats
    from ec2t_tf.train import trained

    monkeypatch.chdir(tmp_path)
    packed = trained.path("mnist_lenet5_90").read_bytes()
    Path("model.tflite").write_bytes(file_formats.plain(packed))
    names = {"images": np.random.default_rng(1).random((2, 28, 28, 1), np.float32)}
    block = blocks(ROOT / "docs" / "integer.md", "python")[0]
    exec(block, names)
    assert names["codes"].shape == (2, 10)
    assert names["model"].output_shape[-1] == 10


def test_boards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import ec2t_tf
    from ec2t_tf.export import file_formats
    from ec2t_tf.train import trained

    monkeypatch.chdir(tmp_path)
    packed = trained.path("watch_sensor_cnn_90").read_bytes()
    Path("model.tflite").write_bytes(file_formats.plain(packed))
    (block,) = blocks(ROOT / "docs" / "boards.md", "python")
    names: dict = {"ec2t_tf": ec2t_tf}
    exec(block, names)
    assert names["report"].fits is True
    assert Path("model_c/model.c").is_file()


def test_tfmots_own_functions(tmp_path: Path) -> None:
    tf_keras = pytest.importorskip("tf_keras")
    from ec2t_tf import export
    from ec2t_tf.tfmot.quantize_config import ternary_layers

    (block,) = blocks(ROOT / "docs" / "start_tfmot.md", "python")
    names: dict = {}
    exec(block, names)
    model = names["model"]
    assert len(ternary_layers(model)) == 2
    images = np.random.default_rng(0).random((64, 8, 8, 1), np.float32)
    model(images, training=True)
    path = export.to_tflite(model, tmp_path / "model.tflite")
    assert export.verify(model, path, images).largest_difference <= 2
    layers, annotate = names["layers"], names["annotate"]
    ternary = names["ec2t_tf"].tfmot.TernaryQuantizeConfig("twn")
    first = annotate(layers.Conv2D(4, 3, input_shape=(8, 8, 1)), ternary)
    refused = tf_keras.Sequential([first, annotate(layers.BatchNormalization())])
    with pytest.raises(RuntimeError, match=r"Layer batch_normalization.* is not supported"):
        names["quantize_apply"](refused)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_exist_and_know_their_flags(page: Path) -> None:
    for words in commands(page):
        module = "" if words[0] == "ec2t" else words[2]
        arguments = words[1:] if words[0] == "ec2t" else words[3:]
        if module == "pytest" or (module and module not in COMMANDS):
            assert module == "pytest" or importlib.util.find_spec(module), words
            continue
        name = COMMANDS.get(module) if module else None
        if name is None:
            name, *arguments = arguments
        if name.startswith("--"):  # `ec2t --help`
            continue
        known = help_of(name)
        for argument in arguments:
            if argument == "--":  # what follows goes to `ec2t train`
                known = help_of("train")
            elif argument.startswith("--"):
                flag = argument.partition("=")[0].removeprefix("--")
                assert re.search(rf"--(\[no\])?{flag}\b", known) or flag == "help", (name, argument)


def test_commands_of_a_file_run(tmp_path: Path) -> None:
    """docs/start_tflite.md, line by line."""
    from ec2t_tf.export import file_formats
    from ec2t_tf.train import trained

    packed = trained.path("watch_sensor_cnn_80").read_bytes()
    (tmp_path / "model.tflite").write_bytes(file_formats.plain(packed))
    lines = commands(ROOT / "docs" / "start_tflite.md")
    assert len(lines) == 5
    for _, *words in lines:
        done = subprocess.run(
            [sys.executable, "-m", "ec2t_tf", *words], cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 0, (words, done.stderr)
    assert (tmp_path / "model_c" / "model.c").is_file()


def test_messages_of_the_questions_page() -> None:
    """Each quoted message is one that the code says."""
    sources = [*(ROOT / "ec2t_tf").rglob("*.py"), *(ROOT / "export").rglob("*.py")]
    code = "".join(path.read_text() for path in sources)
    said = re.sub(r'"\s*\n\s*f?"', "", code)  # literals that stand one below the other
    text = (ROOT / "docs" / "faq.md").read_text().split("## Messages")[1]
    messages = re.findall(r"^\| `([^`]+)` \|", text, re.MULTILINE)
    assert len(messages) > 8
    for message in messages:
        assert message in said, message


@pytest.mark.slow  # .ci/run has `make docs`
def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("mkdocstrings", reason="pip install '.[docs]'")
    pytest.importorskip("material", reason="pip install '.[docs]'")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert "WARNING -" not in done.stderr
    pages = {path.parent.name: path.read_text() for path in tmp_path.glob("site/*/index.html")}
    assert "CONV_2D" in pages["supported"]
    assert "load_digits" in pages["start_keras"]
    assert "--target_sparsity" in pages["commands"]
    assert "representative_data" in pages["api"]
    for name, page in pages.items():  # nothing is loaded from elsewhere
        loaded = re.findall(
            r'<(?:script|img|link rel="stylesheet")[^>]*?(?:src|href)="(.*?)"', page
        )
        assert loaded, name
        assert not [place for place in loaded if "//" in place], name
