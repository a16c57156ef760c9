"""What the documentation shows: its Python runs, its commands and messages are those of the code.

Every Python block of a page runs here, or in the test that `ELSEWHERE` names; examples in
tests/test_examples.py. Commands of start_tflite.md run; of all others, in blocks and in the text,
programs, flags, files, tests and targets are looked up: docs/promises.md says why.
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
PAGES = [
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted(ROOT.glob("*.md")),
    ROOT / "examples/README.md",
]
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
    """Words of each command of Python or `ec2t`: see `every_command`."""
    return [words for words in every_command(page) if words[0] in ("ec2t", "python")]


def every_command(page: Path) -> list[list[str]]:
    """Words of each command: in blocks, continued lines joined, and between `` in the text."""
    text = re.sub(r"\\\n\s*", "", page.read_text())
    fenced = re.findall(r"^```(.*)\n((?:.*\n)*?)```$", text, re.MULTILINE)
    shell = [block for language, block in fenced if language in ("", "sh", "bash")]
    lines = [line.strip() for block in shell for line in without_strings(block).splitlines()]
    prose = re.sub(r"^```.*\n(?:.*\n)*?```$", "", text, flags=re.MULTILINE)
    spans = [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", prose)]
    lines += [span for span in spans if re.match(r"(ec2t|python -m|make|pytest) ", span)]
    found = []
    for line in lines:
        line = re.sub(r"\$\([^)]*\)", "FILES", line).split(" | ")[0]
        words = shlex.split(line, comments=True)
        while words and re.fullmatch(r"[A-Z][A-Z_0-9]*=.*|time|nice", words[0]):
            words = words[1:]
        if words:
            found.append(words)
    return found


def without_strings(block: str) -> str:
    """A program of several lines behind `python -c` is no command."""
    return re.sub(r'python -c "\n.*?"', "", block, flags=re.DOTALL)


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
    for words in every_command(page):
        check = CHECKS.get(words[0])
        assert check is not None, f"nobody checks {words}"
        check([word for word in words[1:] if word not in ("...", "…")])


def check_ec2t(arguments: list[str]) -> None:
    name, *rest = arguments or ["--help"]
    if name in ("--help", "--version", "COMMAND"):
        return
    known = help_of(name)
    for argument in rest:
        if argument == "--":  # what follows goes to `ec2t train`
            known = help_of("train")
        elif argument.startswith("--"):
            flag = argument.partition("=")[0].removeprefix("--")
            assert re.search(rf"--(\[no\])?{flag}\b", known) or flag == "help", (name, argument)


def check_python(arguments: list[str]) -> None:
    assert arguments[0] == "-m", arguments
    module, *rest = arguments[1:]
    if module == "pytest":
        return check_pytest(rest)
    if module in COMMANDS:
        name = COMMANDS[module]
        return check_ec2t(rest if name is None else [name, *rest])
    if module == "pip":
        return check_pip(rest)
    found = importlib.util.find_spec(module)
    assert found is not None, module
    if found.submodule_search_locations is not None:
        found = importlib.util.find_spec(f"{module}.__main__")
    assert found is not None, module
    source = Path(str(found.origin)).read_text()
    for argument in rest:
        if argument.startswith("--"):
            flag = argument.partition("=")[0].removeprefix("--")
            assert re.search(rf'"(--)?{flag}"', source) or flag == "help", (module, argument)
    return None


def check_pytest(arguments: list[str]) -> None:
    places = [word for word in arguments if word.startswith("tests")]
    text = ""
    for place in places:
        path, _, test = place.partition("::")
        assert (ROOT / path).exists(), place
        files = [ROOT / path] if (ROOT / path).is_file() else [*(ROOT / path).rglob("*.py")]
        text += "".join(file.read_text() for file in files)
        assert not test or f"def {test.partition('[')[0]}" in text, place
    if "-k" in arguments:
        for word in re.findall(r"\w+", arguments[arguments.index("-k") + 1]):
            assert word in ("and", "or", "not") or word in text, arguments


def check_make(arguments: list[str]) -> None:
    if "-C" in arguments:  # a folder that `ec2t rewrite --example` writes
        return
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for word in arguments:
        assert "=" in word or word in (*targets, "run"), word  # `run` of such a folder


def check_pip(arguments: list[str]) -> None:
    known = (ROOT / "setup.py").read_text()
    for extras in re.findall(r"\[([\w,]+)\]", " ".join(arguments)):
        assert all(f'"{extra}":' in known for extra in extras.split(",")), arguments


def nothing_to_check(arguments: list[str]) -> None:
    """Programs that are not ours."""


CHECKS = {
    "ec2t": check_ec2t,
    "python": check_python,
    "pytest": check_pytest,
    "make": check_make,
    "pip": check_pip,
    **dict.fromkeys(
        ("git", "for", "done", "cmake", "cd", "apt-get", "ls", "vela"), nothing_to_check
    ),
}


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


def test_words_of_the_house_stay_inside() -> None:
    """A newcomer need not know how the source is divided, nor what a twin is."""
    for page in [p for p in PAGES if p.name != "CHANGELOG.md"]:
        prose = re.sub(r"```.*?```|`[^`]*`", "", page.read_text(), flags=re.DOTALL)
        assert not re.findall(r"\b(rooms?|twins?|both Kerases)\b", prose), page
