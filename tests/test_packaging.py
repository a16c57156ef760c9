"""What an ordinary installation holds and needs, and that a checkout works beside it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import ec2t_tf
from ec2t_tf import lazy
from tests import type_check
from tests.file_side import PROGRAM

ROOT = Path(__file__).resolve().parents[1]
FILE_SIDE = {"absl-py", "ai-edge-litert", "flatbuffers", "numpy", "tqdm"}
# Without `site`, and so without an editable installation's finder.
PLAIN = "import sys; sys.path[:0] = [{folder!r}, {packages!r}]; {code}"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package's files as an ordinary installation has them, but for the native library."""
    folder = tmp_path_factory.mktemp("installed")
    setup(folder, "build_py", "--build-lib", str(folder))
    setup(folder, "dist_info", "--output-dir", str(folder))
    return folder


def setup(scratch: Path, *arguments: str) -> None:
    """`setup.py` in a copy of what it reads: it writes beside itself."""
    source = scratch / "source"
    if not source.exists():
        source.mkdir()
        for name in ("ec2t_tf", "train", "export", "setup.py", "pyproject.toml", "README.md"):
            source.joinpath(name).symlink_to(ROOT / name)
    done = subprocess.run(
        [sys.executable, "setup.py", "-q", *arguments],
        cwd=source,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_the_workflow_runs_what_ci_runs() -> None:
    steps = (ROOT / ".github/workflows/test.yml").read_text().splitlines()
    assert any(line.split("#")[0].strip() == "- run: bash .ci/run" for line in steps)


def run(code: str, *, folder: str, cwd: Path) -> str:
    packages = str(Path(np.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-S", "-c", PLAIN.format(folder=folder, packages=packages, code=code)],
        cwd=cwd,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def requirements(installed: Path) -> dict[str, set[str]]:
    """Names of packages by extra; "" for what is always needed."""
    (metadata,) = installed.glob("*.dist-info/METADATA")
    found: dict[str, set[str]] = {}
    for line in metadata.read_text().splitlines():
        if line.startswith("Requires-Dist: "):
            name = re.findall(r"[\w.-]+", line.removeprefix("Requires-Dist: "))[0]
            extra = re.findall(r'extra == ["\'](\w+)["\']', line)
            name = name.replace("_", "-")  # which newer builds do themselves
            found.setdefault(extra[0] if extra else "", set()).add(name)
    return found


def test_plain_installation_brings_the_file_side_only(installed: Path) -> None:
    found = requirements(installed)
    assert found[""] == FILE_SIDE
    assert set(found) == {"", "keras", "tfmot", "report", "train", "docs", "dev"}
    assert found["keras"] == {"keras"}
    assert {"tensorflow", "tf-keras", "tensorflow-model-optimization"} <= found["tfmot"]
    assert found["keras"] | found["tfmot"] | found["report"] <= found["train"]


def test_its_page_in_an_index(installed: Path) -> None:
    """The description is README, and Linux and the Pythons tested are what is claimed."""
    (metadata,) = installed.glob("*.dist-info/METADATA")
    text = metadata.read_text()
    assert "Description-Content-Type: text/markdown" in text
    assert "Every weight of a ternary layer is one of three values" in text
    claimed = re.findall(r"Classifier: Programming Language :: Python :: (3\.\d+)", text)
    row = re.findall(r"^\| Python \| .* \| (.*) \|$", (ROOT / "BUILD.md").read_text(), re.MULTILINE)
    assert claimed == re.findall(r"3\.\d+", row[0])
    assert "Operating System :: POSIX :: Linux" in text


def test_advice_names_extras_that_bring_the_package(installed: Path) -> None:
    found = {
        extra: {name.replace("-", "_") for name in names}
        for extra, names in requirements(installed).items()
    }
    for package, extra in lazy.EXTRAS.items():
        name = {"PIL": "pillow", "sklearn": "scikit_learn"}.get(package, package)
        assert name in found[extra], package


def test_installed_package(installed: Path, tmp_path: Path) -> None:
    for name in (
        "export/kernels/flags.txt",
        "export/litert/flags.txt",
        "py.typed",
        "train/__main__.py",
        "export/mcu/board/startup.c",
    ):
        assert (installed / "ec2t_tf" / name).is_file()
    for source in set(ROOT.glob("export/**/*.[ch]")) - set(ROOT.glob("export/android/**/*")):
        assert (installed / "ec2t_tf" / source.relative_to(ROOT)).is_file()
    code = "import ec2t_tf.export; print(ec2t_tf.export.__file__, ec2t_tf.__version__)"
    file, version = run(code, folder=str(installed), cwd=tmp_path).split()
    assert file == str(installed / "ec2t_tf" / "export" / "__init__.py")
    assert version == ec2t_tf.__version__
    assert list(installed.glob(f"ec2t_tf-{version}.dist-info"))


@pytest.fixture(scope="module")
def without_compiler(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package unpacked from a wheel that was built out of an sdist where no compiler is."""
    folder = tmp_path_factory.mktemp("without_compiler")
    setup(folder, "sdist", "--dist-dir", str(folder))
    (sdist,) = folder.glob("*.tar.gz")
    shutil.unpack_archive(sdist, folder, filter="data")
    (source,) = folder.glob("ec2t_tf-*/")
    done = subprocess.run(
        [sys.executable, "setup.py", "-q", "bdist_wheel", "--dist-dir", str(folder)],
        cwd=source,
        capture_output=True,
        text=True,
        env={"PATH": "", "CC": "no-such-compiler", "HOME": str(folder)},
    )
    assert done.returncode == 0, done.stderr
    assert "Training and export work without it." in done.stderr
    (wheel,) = folder.glob("*.whl")
    shutil.unpack_archive(wheel, folder / "unpacked", "zip")
    return folder / "unpacked"


def test_sdist_brings_every_file_of_the_package(without_compiler: Path, installed: Path) -> None:
    def files(folder: Path) -> set[Path]:
        found = (path.relative_to(folder) for path in (folder / "ec2t_tf").rglob("*"))
        return {path for path in found if path.suffix != ".so" and "__pycache__" not in path.parts}

    assert files(without_compiler) == files(installed)
    assert not list(without_compiler.rglob("*.so"))


def test_without_compiler_all_but_the_interpreter(without_compiler: Path, tmp_path: Path) -> None:
    printed = run(f"exec({PROGRAM!r})", folder=str(without_compiler), cwd=tmp_path)
    assert "exact integers" in printed  # in place of the interpreter
    assert "install a C compiler" in printed
    assert "file side done" in printed
    assert (tmp_path / "model_c" / "model.c").is_file()


def test_checkout_beside_an_ordinary_installation(installed: Path) -> None:
    """`python -c` in the checkout's root: its folder `ec2t_tf/` hides the installed package."""
    code = f"sys.path.append({str(installed)!r}); import ec2t_tf.export, ec2t_tf.train; "
    code += "ec2t_tf.export.report; print(ec2t_tf.export.__file__)"
    assert run(code, folder="", cwd=ROOT) == str(ROOT / "export" / "__init__.py")


def test_types_are_known_across_rooms() -> None:
    code = "from ec2t_tf import export; reveal_type(export.report); reveal_type(export.to_c)"
    done = type_check.run(["--follow-imports=silent", "-c", code])
    revealed = re.findall(r'Revealed type is "(.*)"', done.stdout)
    assert len(revealed) == 2, done.stdout + done.stderr
    assert "ec2t_tf.export.reports.Report" in revealed[0]
    assert revealed[1].endswith("-> ec2t_tf.export.mcu.report.Report")
