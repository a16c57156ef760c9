"""Adds a run of the training script to the trained nets.

    python -m ec2t_tf.train.trained.add runs/digits --name=digits_80 --task="..." --data="..."

writes the packed file, the card and the examples beside this module.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import json
import shlex
import tempfile
from pathlib import Path

import numpy as np

from ec2t_tf import export, files
from ec2t_tf.export.running import run
from ec2t_tf.export.tflite import read
from ec2t_tf.train import tasks
from ec2t_tf.train.options import FLAGS
from ec2t_tf.train.trained.cards import FOLDER, Card

CORES = ("m4", "m0", "m55")
EXAMPLES = 8
PLACES = (
    "tfds_dir",
    "data_dir",
    "float_weights",
    "teacher_weights",
    "ternary_start",
)  # of the machine that trained


def add(folder: Path, *, name: str, task: str, data: str, revision: str, places: dict) -> Card:
    """Writes the three files of a net.

    Args:
      folder: of a finished run.
      places: `tfds_dir`, `data_dir` of the data, to take examples from.
    """
    metrics = json.loads((folder / "metrics.json").read_text())
    settings = json.loads((folder / "settings.json").read_text())
    int8 = (folder / "model.tflite").read_bytes()
    packed = export.rewrite(int8, format="packed").content
    if metrics.get("figure", "top-1") != "top-1":
        raise ValueError(
            f"A run that classifies is required. Received: '{folder}', whose figure is the "
            f"{metrics['figure']}."
        )
    examples = tasks.load(
        settings["dataset"],
        split=settings["split"] or "random",
        validation_fraction=settings["validation_fraction"],
        **places,
    )
    chosen = np.linspace(0, len(examples.test) - 1, EXAMPLES).astype(int)
    inputs = np.asarray(examples.normalise(examples.test.inputs[chosen]))
    codes, scale, zero_point = _codes(int8, inputs)
    exact = ((codes.astype(np.float32) - zero_point) * scale).astype(np.float32)
    (outputs,) = run(int8, [exact])
    card = Card(
        name=name,
        model=settings["model"],
        task=task,
        data=data,
        command=_command(settings),
        revision=revision,
        date=datetime.date.today().isoformat(),
        seed=settings["seed"],
        float_accuracy=metrics["float_accuracy"],
        ternary_accuracy=metrics["tflite_accuracy"],
        test_examples=metrics["verified_images"],
        zeros=metrics["zeros"],
        packed_bytes=len(packed),
        int8_bytes=len(int8),
        input_shape=examples.input_shape,
        full_scale=examples.full_scale,
        mean=tuple(float(value) for value in examples.mean),
        std=tuple(float(value) for value in examples.std),
        labels=examples.labels,
        cores={core: counts(int8, core) for core in CORES},
    )
    files.write_bytes(FOLDER / f"{name}.tflite", packed)
    with files.replacing(FOLDER / f"{name}.npz") as fresh, fresh.open("wb") as stream:
        np.savez_compressed(
            stream,
            codes=codes,
            scale=np.float32(scale),
            zero_point=np.int32(zero_point),
            labels=examples.test.labels[chosen],
            outputs=outputs.values,
        )
    text = json.dumps(dataclasses.asdict(card), indent=1) + "\n"
    files.write_text(FOLDER / f"{name}.json", text)
    return card


def _codes(int8: bytes, inputs: np.ndarray) -> tuple[np.ndarray, np.float32, int]:
    """The input's codes, and their scale and zero point."""
    graph = read(int8)
    (first,) = (op for op in graph.operators if graph.inputs[0] in op.inputs)
    quantised = graph.tensors[first.outputs[0]]
    scale, zero_point = quantised.scale[0], int(quantised.zero_point[0])
    codes = np.clip(np.rint(inputs / scale) + zero_point, -128, 127)
    return codes.astype(np.int8), scale, zero_point


def counts(int8: bytes, core: str) -> dict[str, int]:
    """Of the C of a file for a core: instructions of a call in QEMU, bytes of constants and RAM."""
    with tempfile.TemporaryDirectory() as folder:
        found = export.to_c(int8, folder, core=core, measure=True)
    assert found.instructions is not None
    return {"instructions": found.instructions, "flash": found.flash, "arena": found.arena}


def _command(settings: dict) -> str:
    """The flags that are not the defaults; of places only the last part of their name."""
    words = ["ec2t", "train"]
    for name, value in settings.items():
        if value == FLAGS[name].default or value is None:
            continue
        value = Path(value).name if name in PLACES else value
        shown = ",".join(map(str, value)) if isinstance(value, list) else value
        words.append(f"--{name}={shown}")
    return shlex.join(words)


def main() -> None:
    parser = argparse.ArgumentParser(description="Adds a run to the trained nets.")
    parser.add_argument("folder", type=Path, help="of a finished run of 'ec2t train'")
    for option in ("name", "task", "data", "revision"):
        parser.add_argument(f"--{option}", required=True)
    for option in ("tfds_dir", "data_dir"):
        parser.add_argument(f"--{option}", help="where the data are")
    given = vars(parser.parse_args())
    places = {key: given.pop(key) for key in ("tfds_dir", "data_dir")}
    print(add(given.pop("folder"), places=places, **given))


if __name__ == "__main__":
    main()
