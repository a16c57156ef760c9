"""The file side starts without TensorFlow; lazy names are what they say."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
import types
from pathlib import Path

import pytest

import ec2t_tf
from ec2t_tf import export, former, lazy
from tests.bench import file_side

SMALL = Path(__file__).parent / "fixtures" / "v0_1_0"
HEAVY = ("tensorflow", "tf_keras", "tensorflow_model_optimization", "keras", "jax", "torch")
LOADED = f"""
import json, sys
def loaded():
    return sorted({{name.partition(".")[0] for name in sys.modules}} & {set(HEAVY)!r})
"""


def loaded_by(code: str, *arguments: str) -> list[str]:
    """Which of the heavy packages a process has loaded at its end."""
    done = subprocess.run(
        [sys.executable, "-c", f"{LOADED}\n{code}\nprint(json.dumps(loaded()))", *arguments],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    "code",
    [
        "import ec2t_tf",
        "import ec2t_tf.export",
        # Only the lowering starts from a Keras model by its nature.
        "from ec2t_tf import export\nfor name, home in export._homes.items():\n"
        "    home == 'ec2t_tf.export.lower' or getattr(export, name)",
        "import ec2t_tf.export.__main__",
    ],
)
def test_import_is_light(code: str) -> None:
    assert loaded_by(code) == []


@pytest.mark.few(5)
@pytest.mark.parametrize(
    "command",
    [
        "report INT8",
        "sizes INT8",
        "verify INT8 PACKED",
        "rewrite INT8 --format=sparse --output=OUT",
        "rewrite INT8 --format=int4 --output=OUT",
        "rewrite INT8 --format=packed --output=OUT",
        "rewrite INT8 --format=download --output=OUT",
        "rewrite INT8 --format=tflm --output=OUT",
        "rewrite INT8 --format=c --output=OUT",
        "unpack DOWNLOAD --output=OUT",
        "benchmark INT8 --packed=PACKED --rounds=1 --no_layers",
    ],
)
def test_commands_on_files_are_light(tmp_path: Path, command: str) -> None:
    places = {
        "INT8": SMALL / "small_int8.tflite",
        "PACKED": SMALL / "small_packed.tflite",
        "DOWNLOAD": SMALL / "small_download.ec2d",
        "OUT": tmp_path / "out",
    }
    for name, place in places.items():
        command = command.replace(name, str(place))
    code = "from ec2t_tf.export import commands; assert commands.main(sys.argv[1:]) == 0"
    assert loaded_by(code, *command.split()) == []


def test_python_functions_on_files_are_light(tmp_path: Path) -> None:
    code = (
        "from ec2t_tf import export; small, folder = sys.argv[1:]; export.report(small); "
        "export.to_c(small, folder); export.Interpreter(small)"
    )
    assert loaded_by(code, str(SMALL / "small_int8.tflite"), str(tmp_path)) == []


@pytest.mark.parametrize("package", [ec2t_tf, export], ids=lambda package: package.__name__)
class TestNames:
    def test_all_are_there(self, package: types.ModuleType) -> None:
        # tfmot loads tf_keras, which `from ec2t_tf import *` must not need
        assert set(package.__all__) == {*package._homes, *package._rooms} - {"tfmot"}
        assert set(package.__all__) <= set(dir(package))
        for name in {*package.__all__, *package._rooms}:
            assert getattr(package, name) is not None

    def test_type_checker_sees_the_same(self, package: types.ModuleType) -> None:
        text = Path(str(package.__file__)).read_text()
        block = text.split("if TYPE_CHECKING:\n")[1].split("\n\n")[0]
        seen = {
            name.strip()
            for line in block.splitlines()
            for name in line.partition("#")[0].partition(" import ")[2].split(",")
        }
        assert seen == {*package._homes, *package._rooms}

    def test_a_function_is_not_hidden_by_the_module_that_holds_it(
        self, package: types.ModuleType
    ) -> None:
        for name, home in package._homes.items():
            __import__(home)
            assert not isinstance(getattr(package, name), types.ModuleType), name

    def test_unknown_name(self, package: types.ModuleType) -> None:
        with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
            package.nothing  # noqa: B018


FORMER = {
    "ec2t_tf.operations": ("Operation", "WeightTensor", "operations"),
    "ec2t_tf.scoring": ("ENERGY_TABLES", "micronet_score", "plain_count"),
    "ec2t_tf.export.c": ("CORES", "ModelError", "OPTIMIZE", "Report", "to_c"),
    "ec2t_tf.export.c.emit": ("LayerReport", "Report", "to_c"),
    "ec2t_tf.export.c.graph": ("ModelError", "read"),
    "ec2t_tf.export.report": ("KernelReport", "Report", "layer_name", "report"),
    "ec2t_tf.export.tflite": ("align_to_int4", "download", "int4", "packed", "sparse", "unpack"),
    "ec2t_tf.export.tflite.download": ("DownloadError", "download", "is_download", "unpack"),
    "ec2t_tf.export.tflite.int4": ("align_to_int4", "grid_codes", "int4"),
    "ec2t_tf.export.tflite.layers": ("OtherLayer", "TernaryLayer", "find_layers"),
    "ec2t_tf.export.tflite.packed": ("NotRepresentable", "blob_layer", "packed"),
    "ec2t_tf.export.tflite.sparse": ("LayerStorage", "sparse", "storage"),
    "ec2t_tf.export.tflite_file": ("ConversionError", "FileError"),
    "ec2t_tf.export.verify": ("Verification", "compare", "run", "verify", "verify_files"),
    "ec2t_tf.activations": ("hard_silu",),
    "ec2t_tf.graph": ("rebuild", "copy_layer"),
    "ec2t_tf.keras_compat": ("to_tf_keras", "to_keras_3"),
    "ec2t_tf.quantize_config": ("ternary_layers", "TernaryQuantizeConfig"),
    "ec2t_tf.rewrite": ("rewrite",),
    "ec2t_tf.scheme": ("quantise", "is_quantised"),
    "ec2t_tf.train.data": ("DataError", "ImageData", "Split", "load"),
    "ec2t_tf.two_pass": ("train_step",),
}


@pytest.mark.parametrize("path", FORMER)
def test_former_paths_warn(path: str) -> None:
    """Names of v0.1.0 where they were; a path that nothing knows is still no module."""
    module = importlib.import_module(path)
    for name in FORMER[path]:
        with pytest.warns(
            DeprecationWarning,
            match=rf"{path}\.{name} is now ec2t_tf\.(counting|export|tfmot|train)",
        ):
            assert getattr(module, name) is not None
    with pytest.raises(AttributeError):
        module.nothing  # noqa: B018
    assert set(former.PATHS) <= set(FORMER)


def test_former_functions_work() -> None:
    content = (SMALL / "small_int8.tflite").read_bytes()
    with pytest.warns(DeprecationWarning, match="is now"):
        from ec2t_tf.export.tflite.packed import packed
    assert len(packed(content)) < len(content)
    from ec2t_tf.export.tflite import packed as of_the_package

    with pytest.warns(DeprecationWarning, match="is now"):
        assert of_the_package(content) == packed(content)


def test_paths_that_never_were() -> None:
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("ec2t_tf.export.tflite.nothing")


@pytest.mark.few(2)
@pytest.mark.parametrize(
    "code",
    [
        "ec2t_tf.LayerSummary",
        "ec2t_tf.PolynomialDecay",
        "ec2t_tf.methods",
        "from ec2t_tf.summary import Summary",
        "import ec2t_tf.methods.base",
        "import keras",
    ],
)
def test_keras_may_come_first_through_any_module(code: str) -> None:
    """Ours are registered with Keras then, and no module has seen half of another."""
    code = f"import ec2t_tf\n{code}\nimport keras\n"
    code += "assert any(key.startswith('ec2t_tf>') for key in keras.saving.get_custom_objects())"
    assert "keras" in loaded_by(code)


@pytest.mark.parametrize(
    ("code", "extra"),
    [
        ("ec2t_tf.apply", "keras"),
        ("ec2t_tf.load_model(sys.argv[1])", "tfmot"),
        ("ec2t_tf.callbacks", "keras"),
        ("ec2t_tf.methods", "keras"),
        ("export.exact(object())", "keras"),
        ("export.unwritable(object())", "keras"),
    ],
)
def test_a_missing_extra_is_named_with_its_pip_line(tmp_path: Path, code: str, extra: str) -> None:
    hide = (
        "class Hide:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.partition('.')[0] in {HEAVY!r}:\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name)\n"
        "sys.meta_path.insert(0, Hide())\n"
        "import ec2t_tf\nfrom ec2t_tf import export\n"
        f"try:\n    {code}\n"
        f"except ImportError as e:\n    assert \"pip install 'ec2t_tf[{extra}]'\" in str(e), e\n"
        f"else:\n    raise AssertionError"
    )
    assert loaded_by(hide, str(tmp_path)) == []


def test_other_missing_modules_keep_their_error() -> None:
    with pytest.raises(ModuleNotFoundError, match="no_such_module"), lazy.needed_by("name"):
        import no_such_module  # noqa: F401


def test_start_is_quick() -> None:
    """Processor time beside importing NumPy; `python -m tests.bench.file_side` prints both."""
    done = subprocess.run(
        [sys.executable, "-m", file_side.__name__, "--json"],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[1],
    )
    costs = json.loads(done.stdout)
    one = costs["numpy"]["seconds"]
    assert costs["help"]["seconds"] <= 6 * one  # importing Keras is thirty
    assert costs["to_c"]["seconds"] <= 9 * one
    assert costs["to_c"]["megabytes"] <= 100
