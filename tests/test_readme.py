"""README's Python, with docs/what_apply_does.md, runs; its table is the cards', its links hold."""

from __future__ import annotations

import re
from pathlib import Path

import keras
import numpy as np
import pytest

from ec2t_tf.train import trained

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
APPLY = (ROOT / "docs" / "what_apply_does.md").read_text()
BLOCKS = re.findall(r"```python\n(.*?)```", README + APPLY, re.DOTALL)
ROWS = {  # in the order of the table
    "digits_ds_cnn_80": "spoken digits",
    "digits_ds_cnn_80_speakers": "the same, two speakers apart",
    "digits_ds_cnn_90": "spoken digits",
    "watch_sensor_cnn_80": "gestures, people apart",
    "watch_sensor_cnn_90": "gestures, people apart",
    "hand_signs_mobilenet_80": "hand signs, 64x64",
    "mnist_lenet5_90": "MNIST",
}


def test_its_python_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    keras.utils.set_random_seed(1)
    layers = keras.layers
    float_model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(8, 3, activation="relu", name="block1_conv"),
            layers.Conv2D(8, 3, activation="relu"),
            layers.Flatten(),
            layers.Dense(12, activation="relu"),
            layers.Dense(4),
        ]
    )
    rng = np.random.default_rng(1)
    names = {
        "float_model": float_model,
        "images": rng.normal(size=(64, 8, 8, 1)).astype(np.float32),
        "labels": rng.integers(0, 4, 64),
        "test_images": rng.normal(size=(8, 8, 8, 1)).astype(np.float32),
        "loss": keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    }
    assert len(BLOCKS) == 3
    for block in BLOCKS:
        exec(block.replace("epochs=10", "epochs=1, verbose=0"), names)
    distilled = names["distilled"]
    distilled.compile("adam", names["loss"])
    before = names["net"].get_weights()
    taught = distilled.fit(names["images"], names["labels"], verbose=0)
    alone = names["net"]
    alone.compile("adam", names["loss"])
    assert taught.history["loss"][0] > alone.evaluate(names["images"], names["labels"], verbose=0)
    assert not all(map(np.array_equal, before, alone.get_weights()))
    assert (tmp_path / "model.tflite").exists()
    assert (tmp_path / "packed.tflite").exists()
    assert (tmp_path / "model_c" / "model.c").exists()


def test_its_table_is_that_of_the_cards() -> None:
    lines = [line for line in README.splitlines() if line.startswith("|") and "%" in line]
    assert list(ROWS) == [name for name in ROWS if name in trained.names()]
    for line, (name, data) in zip(lines, ROWS.items(), strict=True):
        card = trained.card(name)
        m4 = card.cores["m4"]
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert cells[1] == data
        assert cells[2] == f"{100 * card.float_accuracy:.2f} %"
        assert cells[3] == f"{100 * card.ternary_accuracy:.2f} %"
        assert cells[4] == f"{100 * card.zeros:.1f} %"
        assert cells[5].removesuffix(" bytes") == f"{card.packed_bytes:,}"
        assert cells[6].startswith(f"{m4['instructions'] / 1e6:.2f} M")
        assert cells[7].removesuffix(" bytes") == f"{m4['arena']:,}"


def test_its_links_and_length() -> None:
    assert len(README.splitlines()) <= 150
    for link in re.findall(r"\]\(([^)]+)\)", README):
        assert (ROOT / link).exists(), link
