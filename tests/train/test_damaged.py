"""What a run reads may be damaged: one clear error, or the checkpoint before."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

from ec2t_tf import files
from ec2t_tf.train import recipe
from ec2t_tf.train.checkpoints import Checkpoints
from ec2t_tf.train.zoo import published


def net() -> keras.Model:
    model = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
    model.compile("adam", "mse")
    return model


def trained_for(epochs: int, folder: Path) -> list[np.ndarray]:
    """Checkpoints of `epochs` epochs in `folder`; the net's weights after each."""
    model = net()
    model.optimizer.build(model.trainable_variables)
    checkpoints = Checkpoints(folder, model)
    kernels = []
    for epoch in range(epochs):
        model.layers[0].kernel.assign(np.full((3, 2), epoch + 1.0))
        checkpoints.on_epoch_end(epoch)
        kernels.append(keras.ops.convert_to_numpy(model.layers[0].kernel))
    return kernels


def restored(folder: Path) -> tuple[int, np.ndarray, Checkpoints]:
    model = net()
    model.optimizer.build(model.trainable_variables)
    checkpoints = Checkpoints(folder, model)
    epoch = checkpoints.restore()
    return epoch, keras.ops.convert_to_numpy(model.layers[0].kernel), checkpoints


class TestCheckpoints:
    def test_whole(self, tmp_path: Path) -> None:
        kernels = trained_for(3, tmp_path)
        epoch, kernel, _ = restored(tmp_path)
        assert epoch == 3
        np.testing.assert_array_equal(kernel, kernels[2])

    def test_none(self, tmp_path: Path) -> None:
        assert restored(tmp_path)[0] == 0

    @pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "another model's", "stray"])
    def test_falls_back_and_goes_on(
        self, tmp_path: Path, damage: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        kernels = trained_for(3, tmp_path)
        assert sorted(p.name for p in tmp_path.iterdir()) == ["ckpt-2.npz", "ckpt-3.npz"]
        latest = tmp_path / "ckpt-3.npz"
        content = latest.read_bytes()
        if damage == "cut":
            latest.write_bytes(content[: len(content) // 2])
        elif damage == "flipped":
            latest.write_bytes(bytes(255 - byte for byte in content))
        elif damage == "empty":
            latest.write_bytes(b"")
        elif damage == "another model's":
            np.savez(latest, np.zeros((4, 2), np.float32), np.zeros(2, np.float32))
        else:
            (tmp_path / "ckpt-of mine.npz").write_bytes(b"}{")
        epoch, kernel, checkpoints = restored(tmp_path)
        wanted = 3 if damage == "stray" else 2
        assert epoch == wanted
        np.testing.assert_array_equal(kernel, kernels[wanted - 1])
        said = capsys.readouterr().out
        assert ("trying the checkpoint before it" in said) == (damage != "stray")
        checkpoints.on_epoch_end(wanted)
        assert restored(tmp_path)[0] == wanted + 1

    def test_one_flipped_byte_of_a_weight(self, tmp_path: Path) -> None:
        kernels = trained_for(2, tmp_path)
        content = bytearray((tmp_path / "ckpt-2.npz").read_bytes())
        content[content.index(kernels[1].tobytes())] ^= 1
        (tmp_path / "ckpt-2.npz").write_bytes(bytes(content))
        assert restored(tmp_path)[0] == 1

    def test_all_damaged(self, tmp_path: Path) -> None:
        trained_for(2, tmp_path)
        for file in tmp_path.glob("*.npz"):
            file.write_bytes(b"")
        with pytest.raises(ValueError, match=r"ckpt-2.npz'.*ckpt-1.npz'.*Delete the folder"):
            restored(tmp_path)

    def test_of_an_earlier_version(self, tmp_path: Path) -> None:
        (tmp_path / "ckpt-3.index").write_bytes(b"")
        with pytest.raises(ValueError, match=r"those of an earlier version.*Delete the folder"):
            restored(tmp_path)


def test_history_without_its_damaged_rows(tmp_path: Path) -> None:
    path = tmp_path / "history.csv"
    path.write_bytes(b"phase,epoch,loss\nfloat,1,0.5\nfloat,\xff\xfe,0.4\nfl")
    assert recipe.read_history(path) == [{"phase": "float", "epoch": "1", "loss": "0.5"}]


class TestArrays:
    def archive(self) -> bytes:
        buffer = io.BytesIO()
        np.savez_compressed(buffer, a=np.arange(100), b=np.ones(3))
        return buffer.getvalue()

    def test_whole(self, tmp_path: Path) -> None:
        (tmp_path / "a.npz").write_bytes(self.archive())
        assert set(files.read_arrays(tmp_path / "a.npz")) == {"a", "b"}
        np.save(tmp_path / "a.npy", np.ones(3))
        np.testing.assert_array_equal(files.read_arrays(tmp_path / "a.npy")[""], np.ones(3))

    @pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.95])
    def test_cut(self, tmp_path: Path, share: float) -> None:
        content = self.archive()
        path = tmp_path / "a.npz"
        path.write_bytes(content[: int(share * len(content))])
        with pytest.raises(ValueError, match=r"whole \.npz or \.npy file.*a\.npz"):
            files.read_arrays(path)
        with pytest.raises(ValueError, match=r"a\.npz"):
            published.load_weights(net(), path)

    def test_flipped(self, tmp_path: Path, rng: np.random.Generator) -> None:
        content = np.frombuffer(self.archive(), np.uint8)
        refused = 0
        for _ in range(100):
            damaged = content.copy()
            damaged[rng.integers(0, len(content), 4)] = rng.integers(0, 256, 4)
            (tmp_path / "a.npz").write_bytes(damaged.tobytes())
            try:
                files.read_arrays(tmp_path / "a.npz")
            except ValueError:
                refused += 1
        assert refused

    def test_python_objects(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "a.npz", a=np.array([{}], object), allow_pickle=True)
        with pytest.raises(ValueError, match="file of numbers"):
            files.read_arrays(tmp_path / "a.npz")

    def test_array_larger_than_memory(self, tmp_path: Path) -> None:
        with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
            head = "{'descr': '<f8', 'fortran_order': False, 'shape': (1125899906842624,)}"
            head = head.ljust(117) + "\n"
            magic = b"\x93NUMPY\x01\x00" + len(head).to_bytes(2, "little")
            archive.writestr("a.npy", magic + head.encode())
        with pytest.raises(ValueError, match=r"a\.npz"):
            files.read_arrays(tmp_path / "a.npz")

    @pytest.mark.parametrize("content", [b"", b"no weights", b"\x89HDF\r\n\x1a\n" + bytes(100)])
    def test_weights_of_keras(self, tmp_path: Path, content: bytes) -> None:
        path = tmp_path / "float.weights.h5"
        path.write_bytes(content)
        with pytest.raises(ValueError, match="weights file that Keras wrote"):
            published.load_weights(net(), path)


@pytest.mark.parametrize("content", [b"", b'{"run": ', b"\xff", b"[" * 100_000])
def test_json(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "settings.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"whole JSON file.*settings\.json"):
        files.read_json(path)


@pytest.mark.parametrize(
    ("file", "content", "flags", "message"),
    [
        ("settings.json", "{", ["--resume"], "settings.json', which is damaged"),
        pytest.param(
            "settings.json", "3", ["--resume"], "object of settings", marks=pytest.mark.slow
        ),
        pytest.param(
            "rules.json",
            "[" * 100_000,
            ["--policy={folder}/rules.json"],
            "policy must be JSON",
            marks=pytest.mark.slow,
        ),
        pytest.param(
            "weights.npz",
            "",
            ["--float_weights={folder}/weights.npz"],
            "weights.npz', which cannot be read",
            marks=pytest.mark.slow,
        ),
    ],
)
def test_script(tmp_path: Path, file: str, content: str, flags: list[str], message: str) -> None:
    (tmp_path / file).write_text(content)
    flags = [flag.format(folder=tmp_path) for flag in flags]
    failed = subprocess.run(
        [sys.executable, "-m", "ec2t_tf.train", f"--output_dir={tmp_path}", *flags],
        capture_output=True,
        text=True,
    )
    assert failed.returncode == 2
    (line,) = [line for line in failed.stderr.splitlines() if line.startswith("error: ")]
    assert message in line
    assert "Traceback" not in failed.stderr


def test_settings_are_json_of_flags(tmp_path: Path) -> None:
    """What `read_json` is for: what `write_json` wrote."""
    recipe.write_json(tmp_path / "metrics.json", {"zeros": 0.5})
    assert files.read_json(tmp_path / "metrics.json") == {"zeros": 0.5}
    assert json.loads((tmp_path / "metrics.json").read_text()) == {"zeros": 0.5}
