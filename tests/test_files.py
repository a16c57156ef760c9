"""Every file that the package writes appears whole or not at all."""

from __future__ import annotations

import ast
import os
import resource
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from ec2t_tf import files

ROOT = Path(__file__).resolve().parents[1]
SMALL = ROOT / "tests" / "fixtures" / "v0_1_0"
WRITES = {"write_bytes", "write_text", "save", "save_weights", "savefig", "savez", "copyfile"}
# Functions that write by themselves, and why they may.
ALLOWED = {
    "ec2t_tf/files.py": "does it for all others",
    "ec2t_tf/run_table.py _append": "one row, synced; reading drops a row that was cut",
    "export/commands/files.py summary": "`Summary.save`, which writes with ec2t_tf.files",
    "export/c_verification.py verify_c": "into a temporary folder",
    "export/mcu/emit.py write": "inside files.folder",
    "train/tensorboard.py _write": "appends whole records; readers drop one that was cut",
    "export/mcu/model_files.py copy_kernel": "inside files.folder",
    "export/mcu/model_files.py write_model": "inside files.folder",
    "export/mcu/model_files.py write_readme": "inside files.folder",
    "export/mcu/example.py write_example": "inside files.folder",
    "export/mcu/packages.py write_packages": "inside files.folder",
    "export/page/plots.py svg": "into memory",
}


def writes_in(file: Path) -> list[str]:
    """Calls that write a file, as "path function"."""
    found = []
    path = file.relative_to(ROOT).as_posix()

    def visit(node: ast.AST, function: str) -> None:
        if isinstance(node, ast.FunctionDef):
            function = f"{path} {node.name}"
        if isinstance(node, ast.With) and any(_is_safe(item) for item in node.items):
            return
        if isinstance(node, ast.Call) and _writes(node):
            found.append(function)
        for child in ast.iter_child_nodes(node):
            visit(child, function)

    visit(ast.parse(file.read_text()), path)
    return found


def _is_safe(item: ast.withitem) -> bool:
    """`with files.replacing(...)` or `files.folder(...)`: what is inside goes to a new file."""
    text = ast.unparse(item.context_expr)
    return text.startswith(("files.replacing(", "files.folder("))


def _writes(call: ast.Call) -> bool:
    name = getattr(call.func, "attr", getattr(call.func, "id", ""))
    owner = getattr(getattr(call.func, "value", None), "id", "")
    if name == "open":
        modes = [*call.args, *(k.value for k in call.keywords if k.arg == "mode")]
        texts = [str(a.value) for a in modes if isinstance(a, ast.Constant)]
        return any(text.strip("bt+") in ("w", "a", "x") for text in texts)
    if name == "save" and isinstance(call.func, ast.Name):  # ours: what it does is looked at itself
        return False
    return name in WRITES and owner not in ("files", "flatbuffer", "paired")


def test_nothing_else_writes() -> None:
    product = [p for room in ("ec2t_tf", "export", "train") for p in (ROOT / room).rglob("*.py")]
    found = {call for file in product for call in writes_in(file)}
    allowed = {call for call in found if call in ALLOWED or call.split()[0] in ALLOWED}
    assert found - allowed == set(), "write with ec2t_tf.files"
    used = found | {call.split()[0] for call in found}
    assert ALLOWED.keys() - used == set(), "no longer written there"


class TestReplacing:
    def test_writes_and_keeps_the_mode(self, tmp_path: Path) -> None:
        path = tmp_path / "file.json"
        files.write_text(path, "one\n")
        plain = tmp_path / "plain"
        plain.touch()
        assert path.stat().st_mode == plain.stat().st_mode
        path.chmod(0o640)
        files.write_text(path, "zwei ü\n")
        assert path.read_bytes() == "zwei ü\n".encode()
        assert path.stat().st_mode & 0o777 == 0o640
        assert sorted(p.name for p in tmp_path.iterdir()) == ["file.json", "plain"]

    def test_an_error_leaves_what_was_there(self, tmp_path: Path) -> None:
        path = tmp_path / "file.bin"
        path.write_bytes(b"before")

        def break_off() -> None:
            with files.replacing(path) as fresh:
                fresh.write_bytes(b"half")
                assert fresh.suffix == ".bin"
                assert path.read_bytes() == b"before"
                raise RuntimeError("broken")

        with pytest.raises(RuntimeError, match="broken"):
            break_off()
        assert list(tmp_path.iterdir()) == [path]
        assert path.read_bytes() == b"before"

    def test_a_link_stays_a_link(self, tmp_path: Path) -> None:
        path, link = tmp_path / "file", tmp_path / "link"
        path.write_text("before")
        link.symlink_to(path)
        files.write_text(link, "after")
        assert link.is_symlink()
        assert path.read_text() == "after"

    def test_devices_are_written_to(self) -> None:
        files.write_bytes("/dev/null", b"gone")
        assert not Path("/dev/null").is_file()

    def test_folder_that_is_missing_or_in_the_way(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match=r"Create '.*nowhere'"):
            files.write_bytes(tmp_path / "nowhere" / "file", b"")
        with pytest.raises(IsADirectoryError, match="a folder"):
            files.write_bytes(tmp_path, b"")


class TestFolder:
    def test_new_folder(self, tmp_path: Path) -> None:
        with files.folder(tmp_path / "a" / "b") as scratch:
            (scratch / "inner").mkdir()
            (scratch / "inner" / "file").write_text("text")
            assert not (tmp_path / "a" / "b").exists()
        assert (tmp_path / "a" / "b" / "inner" / "file").read_text() == "text"
        assert len(list((tmp_path / "a").iterdir())) == 1

    def test_other_files_stay(self, tmp_path: Path) -> None:
        (tmp_path / "out" / "inner").mkdir(parents=True)
        (tmp_path / "out" / "mine").write_text("mine")
        (tmp_path / "out" / "inner" / "file").write_text("before")
        with files.folder(tmp_path / "out") as scratch:
            (scratch / "inner").mkdir()
            (scratch / "inner" / "file").write_text("after")
        assert (tmp_path / "out" / "mine").read_text() == "mine"
        assert (tmp_path / "out" / "inner" / "file").read_text() == "after"

    @pytest.mark.parametrize("made", ["file", "folder"])
    def test_nothing_appears_where_something_else_stands(self, tmp_path: Path, made: str) -> None:
        out = tmp_path / "out"
        (out / "b").mkdir(parents=True)
        (out / "a").write_text("before")

        def write() -> None:
            with files.folder(out) as scratch:
                if made == "file":
                    (scratch / "a").write_text("after")
                    (scratch / "b").write_text("where a folder is")
                else:
                    (scratch / "a").mkdir()

        with pytest.raises(NotADirectoryError, match="Move it away"):
            write()
        assert (out / "a").read_text() == "before"

    def test_a_file_is_in_the_way(self, tmp_path: Path) -> None:
        (tmp_path / "out").touch()
        with pytest.raises(NotADirectoryError, match="a file"), files.folder(tmp_path / "out"):
            pass


FULL_DISK = """
import resource, sys
from pathlib import Path
from ec2t_tf import export, files
from ec2t_tf.export import commands, sizes
from ec2t_tf.export.tflm import to_tflm

small, output = sys.argv[1:]
content = Path(small).read_bytes()
write = lambda: {call}
resource.setrlimit(resource.RLIMIT_FSIZE, (1500, resource.RLIM_INFINITY))
try:
    code = write()
except OSError as error:
    code = 2
print(code)
"""
CALLS = {
    "rewrite": 'commands.main(["rewrite", small, "--format=packed", f"--output={output}"])',
    "sparse": 'commands.main(["rewrite", small, "--format=sparse", f"--output={output}"])',
    "unpack": 'commands.main(["unpack", str(Path(small).with_name("small_download.ec2d")),'
    ' f"--output={output}"])',
    "tflm": "to_tflm(content, output)",
    "bytes": "files.write_bytes(output, content)",
}


def full_disk(call: str, output: Path) -> None:
    code = textwrap.dedent(FULL_DISK).replace("{call}", call)
    done = subprocess.run(
        [sys.executable, "-c", code, str(SMALL / "small_int8.tflite"), str(output)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "2"


@pytest.mark.parametrize("call", CALLS)
def test_full_disk_leaves_the_good_file(tmp_path: Path, call: str) -> None:
    """The limit on a file's size stands for the disk: the write fails half-way."""
    output = tmp_path / "file"
    output.write_bytes(b"good")
    full_disk(CALLS[call], output)
    assert output.read_bytes() == b"good"
    assert list(tmp_path.iterdir()) == [output]


@pytest.mark.parametrize("before", [True, False])
def test_full_disk_leaves_the_good_folder(tmp_path: Path, before: bool) -> None:
    output = tmp_path / "c"
    if before:
        output.mkdir()
        (output / "model.c").write_text("good")
    full_disk("export.to_c(small, output)", output)
    assert [p.name for p in tmp_path.rglob("*")] == (["c", "model.c"] if before else [])
    if before:
        assert (output / "model.c").read_text() == "good"


def limited(body: Callable[[], None], size: int) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        body()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.filterwarnings("ignore:Statistics for quantized inputs")
def test_full_disk_in_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exports from a model, and what the callbacks write."""
    import ec2t_tf
    from ec2t_tf import callbacks, export
    from tests import models

    model = models.compiled(ec2t_tf.apply(models.sequential()))
    images, labels = models.examples()
    good, log = tmp_path / "model.tflite", tmp_path / "log.csv"
    logger = callbacks.CSVLogger(log)
    model.fit(images, labels, epochs=1, callbacks=[logger], verbose=0)
    export.to_tflite(model, good)
    content, text = good.read_bytes(), log.read_bytes()
    # The disk of the output alone: the converter writes beside, into the temporary folder.
    write_bytes = files.write_bytes
    with monkeypatch.context() as patch:
        patch.setattr(
            files, "write_bytes", lambda *given: limited(lambda: write_bytes(*given), 500)
        )
        for format in ("int8", "packed", "download"):
            with pytest.raises(OSError, match="too large"):
                export.to_tflite(model, good, format=format)
    assert good.read_bytes() == content

    def log_more() -> None:
        with pytest.raises(OSError, match="too large"):
            logger.on_epoch_end(1)

    limited(log_more, len(text) + 10)
    assert log.read_bytes() == text
    assert sorted(os.listdir(tmp_path)) == ["log.csv", "model.tflite"]
