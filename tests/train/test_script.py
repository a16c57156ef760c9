"""`python -m ec2t_tf.train`: a whole run, a killed run resumed, bad flags."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

import ec2t_tf
from ec2t_tf import files, onednn
from ec2t_tf.export.tflite import read
from ec2t_tf.train import record
from ec2t_tf.train.tasks import arrays

# A small net with dropout, taught: all that a run remembers.
FLAGS = ["--dataset=digits", "--model=ds_cnn", "--width=0.25", "--depth=0.25", "--distill=0.5"]
FLAGS += ["--float_epochs=2", "--epochs=5", "--verbose=2"]
Here = Callable[..., subprocess.CompletedProcess]
OTHER_NET = Path(__file__).parents[1] / "fixtures" / "v0_1_0" / "small_int8.tflite"
RESNET8 = ["--model=resnet8", "--width=1", "--depth=1"]


def arguments(folder: Path, *flags: str) -> list[str]:
    return [f"--output_dir={folder}", *FLAGS, *flags]


def command(folder: Path, *flags: str) -> list[str]:
    return [sys.executable, "-m", "ec2t_tf.train", *arguments(folder, *flags)]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "uninterrupted"
    done = subprocess.run(command(folder), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    (folder / "stdout.txt").write_text(done.stdout)
    return folder


def test_what_a_run_leaves(uninterrupted: Path) -> None:
    metrics = json.loads((uninterrupted / "metrics.json").read_text())
    assert metrics["float_accuracy"] > 0.2
    assert metrics["verified_images"] == 359
    # Few epochs leave single values some steps apart: float32 ties, spread by later layers.
    assert metrics["largest_difference_in_output_steps"] <= 3
    assert metrics["top1_agreement"] >= 0.98
    assert metrics["tflite_bytes"] == (uninterrupted / "model.tflite").stat().st_size
    assert 0 < metrics["zeros"] < 1
    # Keras computes the net in integers, as the file does.
    assert metrics["ternary_accuracy"] == pytest.approx(metrics["tflite_accuracy"], abs=1e-6)
    lines = (uninterrupted / "history.csv").read_text().splitlines()
    assert lines[0].startswith("phase,epoch,loss,accuracy,val_loss,val_accuracy,zeros")
    assert [line.split(",")[:2] for line in lines[1:]] == [
        *(["float", str(epoch)] for epoch in (1, 2)),
        *(["ternary", str(epoch)] for epoch in range(1, 6)),
    ]
    for picture in ("history.png", "layers.png", "sparsity.png"):
        assert (uninterrupted / picture).read_bytes().startswith(b"\x89PNG")
    report = (uninterrupted / "report.txt").read_text()
    assert report in (uninterrupted / "stdout.txt").read_text()
    for word in ("float", "ternary, Keras", "ternary, .tflite", "zeros", "bytes on disk"):
        assert word in report
    model = ec2t_tf.load_model(uninterrupted / "model.keras")
    assert ec2t_tf.summary(model).zeros == metrics["zeros"]
    assert model.loss.get_config()["from_logits"]
    # What training left last, but for the averages, which were set right after it.
    last = files.read_arrays(uninterrupted / "checkpoints" / "ternary" / "ckpt-5.npz").values()
    pairs = zip(model.variables, last, strict=False)
    changed = {v.name for v, array in pairs if not np.array_equal(v.numpy(), array)}
    # (A file holds no seeds of dropout.)
    assert changed - {"seed_generator_state"} == {"moving_mean", "moving_variance"}


def test_killed_and_resumed_gives_the_same_weights(
    uninterrupted: Path, tmp_path: Path, here: Here
) -> None:
    folder = tmp_path / "killed"
    process = subprocess.Popen(
        command(folder), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    # In the middle of the ternary phase: after its first checkpoint, before its last. The epochs
    # between them are seconds in which a busy machine has to look here once.
    deadline = time.monotonic() + 600
    while not (folder / "checkpoints" / "ternary" / "ckpt-1.npz").exists():
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (folder / "model.keras").exists()
    refused = here(*arguments(folder))
    assert refused.returncode == 2
    assert "Pass --resume" in refused.stderr
    changed = here(*arguments(folder, "--resume", "--seed=9"))
    assert changed.returncode == 2
    assert "--seed=9 (was 1)" in changed.stderr
    resumed = subprocess.run(
        command(folder, "--resume"), capture_output=True, text=True, check=False
    )
    assert resumed.returncode == 0, resumed.stderr[-2000:]
    assert "ternary: resuming after epoch" in resumed.stdout
    expected = ec2t_tf.load_model(uninterrupted / "model.keras").get_weights()
    actual = ec2t_tf.load_model(folder / "model.keras").get_weights()
    for a, b in zip(expected, actual, strict=True):
        np.testing.assert_array_equal(a, b)
    assert (folder / "history.csv").read_text() == (uninterrupted / "history.csv").read_text()


@pytest.mark.slow
def test_metrics_are_enough_to_repeat_a_run(uninterrupted: Path, tmp_path: Path) -> None:
    """The same weights, on the same machine with as many threads; flags beside it change it."""
    metrics = uninterrupted / "metrics.json"
    program = [sys.executable, "-m", "ec2t_tf.train", f"--repeat={metrics}", "--verbose=0"]
    done = subprocess.run(
        [*program, f"--output_dir={tmp_path / 'again'}", "--tensorboard"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    expected = ec2t_tf.load_model(uninterrupted / "model.keras").get_weights()
    actual = ec2t_tf.load_model(tmp_path / "again" / "model.keras").get_weights()
    for a, b in zip(expected, actual, strict=True):
        np.testing.assert_array_equal(a, b)
    one, other = (json.loads(f.read_text()) for f in (metrics, tmp_path / "again/metrics.json"))
    assert {**one, "made_by": 0} == {**other, "made_by": 0}
    assert "--repeat" in other["made_by"]["command"]
    logs = [path.parent.name for path in tmp_path.glob("again/tensorboard/*/events.out.tfevents.*")]
    assert sorted(logs) == ["float", "ternary"]


def test_what_is_not_as_it_was_is_said() -> None:
    before = record.record()
    assert record.differences(before) == []
    other = {**before, "threads": 99, "versions": {**before["versions"], "numpy": "1.0"}}
    threads, numpy = record.differences(other)
    assert threads == f"threads: 99 then, {before['threads']} now"
    assert numpy.startswith("numpy: 1.0 then, ")


@pytest.mark.slow
def test_a_repeat_has_the_policy_and_the_files(uninterrupted: Path, tmp_path: Path) -> None:
    """The policy is in metrics.json, whatever became of its file; the weights must be the same."""
    weights, policy = tmp_path / "float.weights.h5", tmp_path / "policy.json"
    weights.write_bytes((uninterrupted / "float.weights.h5").read_bytes())
    policy.write_text('{"rules": [{"treatment": "int8"}]}')
    flags = (f"--float_weights={weights}", f"--policy={policy}", "--float_epochs=0", "--epochs=1")
    done = subprocess.run(
        command(tmp_path / "a", *flags), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    policy.unlink()
    for before, after in (("a", "b"), ("b", "c")):  # a repeat can be repeated
        program = [sys.executable, "-m", "ec2t_tf.train", "--verbose=0"]
        program += [
            f"--repeat={tmp_path / before}/metrics.json",
            f"--output_dir={tmp_path / after}",
        ]
        done = subprocess.run(program, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
    one, other = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in "ac")
    assert one["repeat"] == other["repeat"]
    assert one["repeat"]["sha256"] == {"float_weights": sha256(weights.read_bytes()).hexdigest()}
    assert {row["treatment"] for row in other["layers"]} == {"int8"}
    assert one["layers"] == other["layers"]


def test_ternary_start(uninterrupted: Path, tmp_path: Path, here: Here) -> None:
    flags = (f"--ternary_start={uninterrupted}", "--epochs=1", "--learning_rate=1e-5")
    done = here(*arguments(tmp_path, *flags))
    assert done.returncode == 0, done.stderr[-2000:]
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    earlier = json.loads((uninterrupted / "metrics.json").read_text())
    assert metrics["zeros_at_start"] == earlier["zeros"]


# What the script leaves loaded.
PROGRAM = """
import sys
from ec2t_tf.train.__main__ import command
assert command(["ec2t train", *sys.argv[1:]]) == 0
print("loaded:", *sorted(name for name, module in sys.modules.items() if module is not None))
"""


@pytest.mark.parametrize("backend", ["jax", pytest.param("torch", marks=pytest.mark.slow)])
def test_another_backend_needs_no_tensorflow(backend: str, tmp_path: Path) -> None:
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    short = ["--float_epochs=1", "--epochs=1"]
    if backend == "jax":  # as on a machine with a GPU, which has the data in one file
        assert arrays.main(["digits", str(tmp_path / "digits.npz")]) == 0
        short += ["--dataset=arrays", f"--data_dir={tmp_path / 'digits.npz'}"]
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *command(tmp_path, *short)[3:]],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "KERAS_BACKEND": backend},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert f" on {backend}" in done.stdout
    loaded = done.stdout.rpartition("loaded: ")[2].split()
    assert backend in loaded
    assert not {"tensorflow", "tf_keras", "tensorflow_model_optimization"} & set(loaded)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["ternary_accuracy"] == pytest.approx(metrics["tflite_accuracy"], abs=1e-6)
    assert metrics["top1_agreement"] >= 0.98


CONVERT = """
import sys
import ec2t_tf
ec2t_tf.export.to_tflite(ec2t_tf.load_model(sys.argv[1]), sys.argv[2])
"""


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_equal_weights_give_equal_files(backend: str, uninterrupted: Path, tmp_path: Path) -> None:
    """The model of TensorFlow, written on another backend: equal but for last bits of scales."""
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    arguments = (str(uninterrupted / "model.keras"), str(tmp_path / "model.tflite"))
    environment = {**os.environ, "KERAS_BACKEND": backend}
    subprocess.run([sys.executable, "-c", CONVERT, *arguments], check=True, env=environment)
    here, there = (read((f / "model.tflite").read_bytes()) for f in (uninterrupted, tmp_path))
    for one, other in zip(here.tensors, there.tensors, strict=True):
        assert (one.data is None) == (other.data is None)
        if one.data is not None:
            np.testing.assert_array_equal(one.data, other.data, err_msg=one.name)
        # Square roots of variances differ in the last bit.
        np.testing.assert_allclose(one.scale, other.scale, rtol=2.5e-7, err_msg=one.name)
        np.testing.assert_array_equal(one.zero_point, other.zero_point, err_msg=one.name)


@pytest.mark.slow
def test_bfloat16(tmp_path: Path) -> None:
    larger = ("--width=0.5", "--depth=0.5", "--epochs=8")
    done = subprocess.run(
        command(tmp_path, "--precision=bfloat16", *larger),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    model = ec2t_tf.load_model(tmp_path / "model.keras")
    assert {v.dtype for v in model.trainable_variables} == {"float32"}
    assert any(one.compute_dtype == "bfloat16" for one in model._flatten_layers())
    assert metrics["tflite_accuracy"] > 0.5


TASKS = {
    "watch": (["--dataset=watch", "--model=sensor_cnn"], 0.3),
    "spoken_digit": (["--dataset=spoken_digit", "--model=ds_cnn", "--width=0.5"], 0.2),
    "folder": (["--dataset=folder", "--model=mobilenet", "--batch_size=64"], 0.0),
}


@pytest.mark.parametrize(
    "task", ["watch", *(pytest.param(t, marks=pytest.mark.slow) for t in list(TASKS)[1:])]
)
def test_tasks(task: str, tmp_path: Path, request: pytest.FixtureRequest, here: Here) -> None:
    """Sensors, sounds and images of one's own: a short run to its end."""
    flags, least = TASKS[task]
    if task != "watch":
        shared = request.getfixturevalue("shared")
        place = {
            "spoken_digit": f"--tfds_dir={shared}/tfds",
            "folder": f"--data_dir={shared}/data/hand_signs",
        }
        flags = [*flags, place[task]]
    short = ("--float_epochs=2", "--epochs=2", "--float_learning_rate=0.05")
    done = here(*arguments(tmp_path, "--width=1", "--depth=1", *flags, *short))
    assert done.returncode == 0, done.stderr[-2000:]
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["tflite_accuracy"] > least
    assert metrics["top1_agreement"] >= 0.98


def test_supernet(tmp_path: Path, here: Here) -> None:
    """A search of phi that ends with its first net, and goes on from there for a higher target."""
    flags = ("--supernet=phi", "--model=resnet20", "--depth=0.3", "--width=1", "--phis=0.5,1")
    flags += ("--float_epochs=1",)
    below = (*flags, "--target_accuracy=0")
    done = here(*arguments(tmp_path, *below))
    assert done.returncode == 0, done.stderr[-2000:]
    assert "chosen: --model=resnet20 --depth=0.3 --width=1 --phi=0.5" in done.stdout
    never = (*flags, "--target_accuracy=1", "--resume")
    done = here(*arguments(tmp_path, *never))
    assert done.returncode == 0, done.stderr[-2000:]
    assert "no net reached 100.00 %" in done.stdout
    rows = (tmp_path / "supernet.csv").read_text().splitlines()[1:]
    assert [row.split(",")[:3] for row in rows] == [["0.3", "1.0", "0.5"], ["0.3", "1.0", "1.0"]]
    assert "depth0.5477" not in done.stdout  # trained before
    assert (tmp_path / "supernet.txt").read_text() in done.stdout
    assert (tmp_path / "supernet.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("said", "flags", "on"),
    [
        (None, [], True),
        ("0", [], False),
        (None, [*RESNET8, "--width=0.5"], False),  # which it would train wrongly: ec2t_tf/onednn.py
    ],
)
def test_onednn_is_on_unless_turned_off(
    said: str | None, flags: list[str], on: bool, tmp_path: Path
) -> None:
    environment = {k: v for k, v in os.environ.items() if k != "TF_ENABLE_ONEDNN_OPTS"}
    environment |= {"TF_CPP_MIN_LOG_LEVEL": "0"}
    environment |= {"TF_ENABLE_ONEDNN_OPTS": said} if said else {}
    done = subprocess.run(
        command(tmp_path, "--dataset=no_such_set", *flags),
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert ("oneDNN custom operations are on" in done.stderr) == on


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--method=ect2"], "Received: 'ect2'"),
        (["--entropy_gain=1.5"], "Received: entropy_gain=1.5"),
        (["--dataset=no_such_set", "--tfds_dir={tmp}"], "'no_such_set' is neither"),
        (["--output_dir=/proc/nowhere"], "a folder that can be written"),
        (["--model=lenet5"], "at least 12x12 pixels"),
        (["--float_weights={tmp}/missing.npz"], "missing.npz"),
        (["--ternary_start={tmp}/missing"], "missing"),
        ([f"--ternary_start={OTHER_NET}"], "a file of the same architecture"),
        (["--supernet=depth_width"], "Use one of ['ds_cnn', 'efficientnet_b1', 'micronet'"),
        (["--steps_per_epoch=1000"], "Received: 1000"),
        (["--teacher=resnet20"], "--teacher needs --teacher_weights"),
        (["--teacher=resnet20", "--teacher_weights={tmp}/missing.h5"], "missing.h5"),
        (["--teacher_weights=a.h5", "--teacher=resnet8", "--distill=0"], "--distill=0."),
        (["--cycles=3"], "--epochs must be a multiple of --cycles"),
        (["--dataset=watch", "--cutout=3"], "--cutout requires images"),
        (["--apart=1"], "--apart belongs to"),
        (["stray"], "No arguments but flags"),
        (["--method=twn", "--entropy_gain=0.2"], "--entropy_gain belongs to --method=ec2t"),
        (["--ttq_threshold=0.2"], "--ttq_threshold belongs to --method=ttq"),
        (["--method=abs_mean", "--sparsity_ramp=0.2"], "which takes no flags of its own"),
        (["--dataset=folder"], "--data_dir belongs to --dataset=folder"),
        (["--dataset=watch"], "resnet8 requires inputs of 3 axes"),
        (["--image_size=4"], "--image_size must be height,width"),
        (["--resume"], "--resume requires the folder of a run"),
        (["--door=keras", "--distribute=mirrored"], "--distribute needs --door=tfmot"),
        (["--supernet=phi", "--target_accuracy=0.9", "--door=tfmot"], "searches in Keras 3"),
        (["--dataset=mnist", "--tfds_dir={tmp}/none"], "must be a folder of TFDS data that exists"),
    ],
)
def test_bad_flags(flags: list[str], message: str, tmp_path: Path, here: Here) -> None:
    flags = [*RESNET8, *(flag.format(tmp=tmp_path) for flag in flags)]
    failed = here(*arguments(tmp_path / "run", *flags))
    assert failed.returncode == 2
    (line,) = [line for line in failed.stderr.splitlines() if line.startswith("error: ")]
    assert message in line
    assert "Traceback" not in failed.stderr
    assert not (tmp_path / "none").exists()
    assert not (tmp_path / "run").exists()  # so nothing was trained before


def test_a_net_that_would_learn_wrongly_is_refused(
    tmp_path: Path, here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "1")
    monkeypatch.setattr(onednn, "_features", lambda: frozenset(["avx2"]))
    refused = here(*arguments(tmp_path / "run", "--model=resnet8", "--depth=1", "--width=0.25"))
    assert refused.returncode == 2
    assert "'stage2_shortcut'. Set TF_ENABLE_ONEDNN_OPTS=0" in refused.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_mirrored(tmp_path: Path) -> None:
    """Two replicas on one CPU: the whole run, its model and its file."""
    flags = ("--distribute=mirrored", "--float_epochs=1", "--epochs=1")
    done = subprocess.run(command(tmp_path, *flags), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["top1_agreement"] >= 0.98
    assert "2 devices: " in done.stdout
    assert "CPU:1" in done.stdout


def test_multiworker_needs_its_machines(
    tmp_path: Path, here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TF_CONFIG", raising=False)
    done = here(*arguments(tmp_path / "run", "--distribute=multiworker"))
    assert done.returncode == 2
    assert "TF_CONFIG" in done.stderr


def test_a_run_that_its_flags_stopped_is_resumed_with_others(tmp_path: Path, here: Here) -> None:
    """As a sweep does when it is started again: nothing was trained that the flags would belie.

    A run that was refused leaves nothing; one that was killed before it began, its settings."""
    folder, lines = tmp_path / "new" / "run", []
    for words in (["--model=lenet5"], ["--model=lenet5", "--resume", "--batch_size=64"]):
        if lines:
            assert not folder.parent.exists()
            folder.mkdir(parents=True)
            (folder / "settings.json").write_text('{"model": "lenet5"}')
        flags = [*words, f"--output_dir={folder}", "--dataset=digits"]
        done = here(*flags)
        assert done.returncode == 2
        lines.append(done.stderr)
    assert all("at least 12x12 pixels" in text for text in lines)
    assert json.loads((folder / "settings.json").read_text())["batch_size"] == 64
    (folder / "checkpoints").mkdir()
    done = here(*flags[1:], "--resume")
    assert done.returncode == 2
    assert "--model=resnet8 (was lenet5)" in done.stderr


def test_a_run_from_before_a_flag_resumes(uninterrupted: Path, tmp_path: Path, here: Here) -> None:
    """v0.1.0 knew no --split: its runs had the default."""
    folder = tmp_path / "older"
    shutil.copytree(uninterrupted, folder)
    settings = json.loads((folder / "settings.json").read_text())
    for name in ("split", "data_dir", "image_size"):
        del settings[name]
    (folder / "settings.json").write_text(json.dumps(settings))
    done = here(*arguments(folder, "--resume"))
    assert done.returncode == 0, done.stderr[-2000:]
    del settings["door"]  # and it trained in tf_keras
    (folder / "settings.json").write_text(json.dumps(settings))
    done = here(*arguments(folder, "--resume"))
    assert done.returncode == 2
    assert "--door=keras (was tfmot)" in done.stderr
