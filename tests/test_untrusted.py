"""`load_model` runs nothing that a file brings, and says what is wrong with a damaged one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tf_keras
from tf_keras import layers

import ec2t_tf
from ec2t_tf import untrusted

pytestmark = pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
FORMATS = ("model.keras", "model.h5", "model")
FIXTURES = Path(__file__).parent / "fixtures" / "v0_1_0" / "models.tar.xz"


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one small model in each format."""
    folder = tmp_path_factory.mktemp("good")
    with tarfile.open(FIXTURES) as archive:
        members = [m for m in archive if m.name.split("/")[0].split(".")[0] == "twn"]
        archive.extractall(folder, members, filter="data")
    (folder / "twn").rename(folder / "model")
    for suffix in (".keras", ".h5"):
        (folder / f"twn{suffix}").rename(folder / f"model{suffix}")
    return folder


def with_config(source: Path, target: Path, change: Callable[[dict], Any]) -> Path:
    """A copy of a `.keras` file with another configuration: what `change` returns."""
    with zipfile.ZipFile(source) as before, zipfile.ZipFile(target, "w") as after:
        for name in before.namelist():
            content: bytes | str = before.read(name)
            if name == "config.json":
                changed = change(json.loads(content))
                content = changed if isinstance(changed, bytes | str) else json.dumps(changed)
            after.writestr(name, content)
    return target


class TestBytecode:
    @pytest.fixture(scope="class")
    def folder(self, tmp_path_factory: pytest.TempPathFactory) -> Path:
        folder = tmp_path_factory.mktemp("lambda")
        code = "lambda x: (open({!r}, 'w').close(), x)[1]".format(str(folder / "ran"))
        model = tf_keras.Sequential([layers.InputLayer((3,)), layers.Lambda(eval(code))])
        for name in FORMATS:
            model.save(folder / name)
        (folder / "ran").unlink()
        return folder

    @pytest.mark.parametrize("name", FORMATS)
    def test_is_refused(self, folder: Path, name: str) -> None:
        with pytest.raises(ValueError, match=r"has a Lambda layer.*safe_mode=False"):
            ec2t_tf.load_model(folder / name)
        assert not (folder / "ran").exists()

    @pytest.mark.parametrize("name", FORMATS)
    def test_runs_where_it_is_trusted(self, folder: Path, name: str) -> None:
        model = ec2t_tf.load_model(folder / name, safe_mode=False)
        np.testing.assert_array_equal(model(np.ones((1, 3), np.float32)), [[1, 1, 1]])
        assert (folder / "ran").exists()
        (folder / "ran").unlink()

    def test_commands_refuse_it(self, folder: Path, tmp_path: Path) -> None:
        words = [f"--model={folder / 'model.h5'}", f"--output={tmp_path / 'file.tflite'}"]
        error_of(words, "has a Lambda layer")
        assert not (folder / "ran").exists()


def error_of(words: list[str], text: str) -> None:
    """A command ends with exit status 2 and one error, without a traceback."""
    done = subprocess.run(
        [sys.executable, "-m", "ec2t_tf.export", *words],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
    )
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert text in next(line for line in done.stderr.splitlines() if line.startswith("error: "))


def function(module: str, name: str) -> dict:
    return {"module": module, "class_name": "function", "config": name, "registered_name": name}


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("os", "system"),
        ("subprocess", "check_output"),
        ("builtins", "exec"),
        ("keras.utils", "get_file"),
        ("tests.models", "convolutional"),
        ("no_such_module", "name"),
    ],
)
def test_functions_of_other_modules_are_refused(
    good: Path, tmp_path: Path, module: str, name: str
) -> None:
    def change(config: dict) -> dict:
        config["config"]["layers"][-1]["config"]["layer"]["config"]["activation"] = function(
            module, name
        )
        return config

    path = with_config(good / "model.keras", tmp_path / "model.keras", change)
    with pytest.raises(ValueError, match=rf"names '{module}\.{name}'"):
        ec2t_tf.load_model(path)


def test_modules_are_not_imported(
    good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "from_a_file.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)

    def change(config: dict) -> dict:
        config["config"]["layers"][-1] |= {"module": "from_a_file", "registered_name": "Evil"}
        return config

    path = with_config(good / "model.keras", tmp_path / "model.keras", change)
    with pytest.raises(ValueError, match=r"names 'from_a_file\.QuantizeWrapper'"):
        ec2t_tf.load_model(path)
    assert "from_a_file" not in sys.modules


@tf_keras.saving.register_keras_serializable("test_untrusted")
def twice(x: Any) -> Any:
    return 2 * x


# Keras itself finds no registered function of a `.h5` file.
@pytest.mark.parametrize("name", ["model.keras", "model"])
def test_registered_functions_are_the_users_own(tmp_path: Path, name: str) -> None:
    model = tf_keras.Sequential([layers.InputLayer((3,)), layers.Dense(2, activation=twice)])
    model.save(tmp_path / name)
    x = np.ones((1, 3), np.float32)
    np.testing.assert_array_equal(ec2t_tf.load_model(tmp_path / name)(x), model(x))


class TestDamaged:
    @pytest.mark.parametrize(
        ("content", "text"),
        [
            ("[" * 100_000 + "]" * 100_000, "must be JSON"),
            ("[" * 500 + "]" * 500, f"at most {untrusted.DEEPEST_CONFIG} levels"),
            ("{", "must be JSON"),
            (b"\xff\xfe\xfd", "must be JSON"),
            ("null", "Keras cannot read"),
            ("{}", "Keras cannot read"),
            ('{"class_name": "Sequential", "config": 3, "module": "keras"}', "Keras cannot read"),
        ],
    )
    def test_configuration(
        self, good: Path, tmp_path: Path, content: bytes | str, text: str
    ) -> None:
        path = with_config(good / "model.keras", tmp_path / "model.keras", lambda _: content)
        with pytest.raises(ValueError, match=text):
            ec2t_tf.load_model(path)

    def test_without_configuration(self, tmp_path: Path) -> None:
        with zipfile.ZipFile(tmp_path / "model.keras", "w") as archive:
            archive.writestr("metadata.json", "{}")
        with pytest.raises(ValueError, match=r"must hold config\.json"):
            ec2t_tf.load_model(tmp_path / "model.keras")

    def test_configuration_too_large(self, good: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(untrusted, "LARGEST_CONFIG", 100)
        with pytest.raises(ValueError, match="at most 100 bytes"):
            ec2t_tf.load_model(good / "model.keras")

    def test_saved_model(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"keras_metadata\.pb"):
            ec2t_tf.load_model(tmp_path)
        (tmp_path / "keras_metadata.pb").write_bytes(b"\xff" * 50)
        with pytest.raises(ValueError, match="is damaged"):
            ec2t_tf.load_model(tmp_path)
        (tmp_path / "keras_metadata.pb").write_bytes(b"")
        with pytest.raises(ValueError, match="Keras cannot read"):
            ec2t_tf.load_model(tmp_path)

    @pytest.mark.parametrize("name", ["model.keras", "model.h5"])
    @pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
    def test_cut(self, good: Path, tmp_path: Path, name: str, share: float) -> None:
        content = (good / name).read_bytes()
        (tmp_path / name).write_bytes(content[: int(share * len(content))])
        with pytest.raises(ValueError, match=r"Keras cannot read|whole \.keras file"):
            ec2t_tf.load_model(tmp_path / name)

    @pytest.mark.parametrize("name", ["model.keras", "model.h5"])
    def test_flipped(self, good: Path, tmp_path: Path, name: str, rng: np.random.Generator) -> None:
        """It loads, or one clear error says why not."""
        content = np.frombuffer((good / name).read_bytes(), np.uint8)
        refused = 0
        for _ in range(10):
            damaged = content.copy()
            places = rng.integers(0, len(content), 20)
            damaged[places] = rng.integers(0, 256, 20)
            (tmp_path / name).write_bytes(damaged.tobytes())
            try:
                ec2t_tf.load_model(tmp_path / name)
            except ValueError:
                refused += 1
        assert refused


def test_policy_of_brackets() -> None:
    with pytest.raises(ValueError, match="policy must be JSON"):
        ec2t_tf.Policy.from_json("[" * 100_000)


class TestKeras3:
    """Files of Keras 3 are looked through in the same way, with its own registry."""

    def test_lambda_layer(self, tmp_path: Path) -> None:
        code = "lambda x: (open({!r}, 'w').close(), x)[1]".format(str(tmp_path / "ran"))
        model = keras.Sequential([keras.Input((3,)), keras.layers.Lambda(eval(code))])
        model.save(tmp_path / "model.keras")
        (tmp_path / "ran").unlink()
        with pytest.raises(ValueError, match=r"has a Lambda layer.*safe_mode=False"):
            ec2t_tf.load_model(tmp_path / "model.keras")
        assert not (tmp_path / "ran").exists()
        ec2t_tf.load_model(tmp_path / "model.keras", safe_mode=False)
        assert (tmp_path / "ran").exists()

    @pytest.mark.parametrize(("module", "name"), [("os", "system"), ("keras.utils", "get_file")])
    def test_functions_of_other_modules(self, tmp_path: Path, module: str, name: str) -> None:
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="dense")])
        model.save(tmp_path / "good.keras")

        def change(config: dict) -> dict:
            config["config"]["layers"][-1]["config"]["activation"] = function(module, name)
            return config

        path = with_config(tmp_path / "good.keras", tmp_path / "model.keras", change)
        with pytest.raises(ValueError, match=rf"names '{module}\.{name}'"):
            ec2t_tf.load_model(path)

    def test_registered_with_the_other_keras_only(self, tmp_path: Path) -> None:
        """`twice` is tf_keras's: Keras 3 would import a module for it."""
        model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, name="dense")])
        model.save(tmp_path / "good.keras")

        def change(config: dict) -> dict:
            named = function("from_a_file", "test_untrusted>twice")
            config["config"]["layers"][-1]["config"]["activation"] = named
            return config

        path = with_config(tmp_path / "good.keras", tmp_path / "model.keras", change)
        with pytest.raises(ValueError, match=r"names 'from_a_file\.test_untrusted>twice'"):
            ec2t_tf.load_model(path)
