"""A program of one backend: trains nets with all of Keras' objects, or predicts with saved ones.

    KERAS_BACKEND=jax python -m tests.native.grid.program train FOLDER NET ...
    KERAS_BACKEND=torch python -m tests.native.grid.program predict FOLDER NET ...

`train` leaves NET.keras, NET.npz (inputs) and NET.json (what its callbacks left); both leave
BACKEND.NET.npz: all variables, the codes of each ternary layer, and the outputs.

`float` trains a float net and leaves NET.float.keras; `ternary` goes on from it and leaves
BACKEND.NET.codes.npz: the codes of each ternary layer before and after.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np

import ec2t_tf
from ec2t_tf.quantisation import ternary_layers
from tests.native import nets
from tests.native.grid.nets import NETS

COUNT, BATCH = 24, 8


class Batches(keras.utils.PyDataset):
    """Examples of a net, a batch at a time."""

    def __init__(self, inputs: Any, labels: Any) -> None:
        super().__init__()
        self.inputs, self.labels = inputs, labels

    def __len__(self) -> int:
        return COUNT // BATCH

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        part = slice(index * BATCH, (index + 1) * BATCH)
        inputs, labels = keras.tree.map_structure(lambda x: x[part], (self.inputs, self.labels))
        return inputs, tuple(labels) if isinstance(labels, list) else labels


def callbacks(folder: Path) -> list[keras.callbacks.Callback]:
    of = keras.callbacks
    found = [
        of.EarlyStopping(monitor="val_loss", patience=1, restore_best_weights=True),
        of.ModelCheckpoint(folder / "best.keras", monitor="val_loss", save_best_only=True),
        of.ReduceLROnPlateau(monitor="val_loss", patience=1),
        of.BackupAndRestore(folder / "backup", delete_checkpoint=False),
    ]
    if importlib.util.find_spec("tensorboard"):  # TensorFlow writes the events on every backend
        found.append(of.TensorBoard(folder / "logs", histogram_freq=1))
    return found


def train(name: str, folder: Path) -> None:
    keras.utils.set_random_seed(1)
    model = ec2t_tf.apply(NETS[name](), verbose=0)
    inputs, labels = nets.examples(model, COUNT)
    data = Batches(inputs, labels)
    schedule = keras.optimizers.schedules.CosineDecay(1e-3, decay_steps=100)
    nets.compiled(model, keras.optimizers.Adam(schedule))
    history = model.fit(
        data, validation_data=data, epochs=1, verbose=0, callbacks=callbacks(folder / name)
    ).history
    left = {
        "loss": history["loss"],
        "steps": int(model.optimizer.iterations),
        "files": sorted(x.name for x in (folder / name).rglob("*") if x.is_file()),
    }
    (folder / f"{name}.json").write_text(json.dumps(left))
    model.save(folder / f"{name}.keras")
    flat = keras.tree.flatten(inputs)
    np.savez(folder / f"{name}.npz", **{str(i): x[:BATCH] for i, x in enumerate(flat)})
    record(name, model, folder)


def predict(name: str, folder: Path) -> None:
    record(name, keras.saving.load_model(folder / f"{name}.keras"), folder)


def train_float(name: str, folder: Path) -> None:
    keras.utils.set_random_seed(1)
    model = nets.compiled(NETS[name](), keras.optimizers.Adam(3e-3))
    model.fit(*nets.examples(model, 256), batch_size=32, epochs=4, verbose=0)
    model.save(folder / f"{name}.float.keras")


def train_ternary(name: str, folder: Path) -> None:
    source = keras.saving.load_model(folder / f"{name}.float.keras")
    model = nets.compiled(ec2t_tf.apply(source, verbose=0), keras.optimizers.Adam(1e-3))
    found = {f"before {x.name}": x.assign().codes for x in ternary_layers(model)}
    model.fit(*nets.examples(model, 256), batch_size=32, epochs=4, shuffle=False, verbose=0)
    found |= {f"after {x.name}": x.assign().codes for x in ternary_layers(model)}
    np.savez(folder / f"{keras.backend.backend()}.{name}.codes.npz", **found)


def record(name: str, model: keras.Model, folder: Path) -> None:
    """Everything about a model that another backend must find as well."""
    with np.load(folder / f"{name}.npz") as archive:
        flat = [archive[str(i)] for i in range(len(archive.files))]
    outputs = model.predict(
        keras.tree.pack_sequence_as(model.input, flat), batch_size=BATCH, verbose=0
    )
    integers = ec2t_tf.exact(model).predict(
        flat if len(flat) > 1 else flat[0], batch_size=BATCH, verbose=0
    )
    found = {f"variable {i} {v.name}": _numpy(v) for i, v in enumerate(model.variables)}
    found |= {f"codes {x.name}": x.assign().codes for x in ternary_layers(model)}
    for kind, values in (("output", outputs), ("exact", integers)):
        found |= {f"{kind} {i}": x for i, x in enumerate(keras.tree.flatten(values))}
    path = folder / f"{keras.backend.backend()}.{name}.npz"
    np.savez(path, **{key.replace("/", "|"): value for key, value in found.items()})


def _numpy(value: Any) -> np.ndarray:
    return np.asarray(keras.ops.convert_to_numpy(value))


ACTIONS = {"train": train, "predict": predict, "float": train_float, "ternary": train_ternary}


if __name__ == "__main__":
    action, where, *names = sys.argv[1:]
    for each in names:
        ACTIONS[action](each, Path(where))
