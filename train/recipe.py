"""How the script trains: optimisers, phases that resume, and what is recorded."""

from __future__ import annotations

import csv
import dataclasses
import functools
import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ec2t_tf import files
from ec2t_tf.callbacks import OfEpochs, ternary_layers
from ec2t_tf.train import mixing, targets
from ec2t_tf.train.checkpoints import Checkpoints
from ec2t_tf.train.distillation import Distillation
from ec2t_tf.train.doors import Keras3
from ec2t_tf.train.tasks import TaskData
from ec2t_tf.train.tasks.base import Evaluation
from ec2t_tf.train.tensorboard import Scalars


@dataclasses.dataclass(frozen=True)
class Phase:
    """One training phase, resumable at the granularity of an epoch.

    Attributes:
      name: folder name of its checkpoints and the word in history.csv.
      epochs: number of epochs.
      learning_rate: peak; it rises over the first epoch and falls to zero as a cosine.
      optimiser: "sgd" (Nesterov momentum 0.9, weight decay) or "adam" (no weight decay).
      cycles: how many times the rate rises and falls, in equal parts of the epochs.
      ema: momentum of the weights' moving average, which the phase ends with; 0 for none.
    """

    name: str
    epochs: int
    learning_rate: float
    optimiser: str
    weight_decay: float = 0.0
    cycles: int = 1
    ema: float = 0.0


def optimiser(door: Keras3, phase: Phase, steps_per_epoch: int) -> Any:
    """The optimiser of a phase, of the door's Keras."""
    optimizers = door.keras.optimizers
    epochs = phase.epochs // phase.cycles
    warm_up = steps_per_epoch if epochs > 1 else 0
    rate = optimizers.schedules.CosineDecay(
        0.0 if warm_up else phase.learning_rate,
        epochs * steps_per_epoch - warm_up,
        warmup_target=phase.learning_rate if warm_up else None,
        warmup_steps=warm_up,
    )
    if phase.cycles > 1:
        rate = _again_and_again(door, rate, epochs * steps_per_epoch)
    if phase.optimiser == "sgd":
        return optimizers.SGD(
            rate, momentum=0.9, nesterov=True, weight_decay=phase.weight_decay or None
        )
    averaged = {"use_ema": True, "ema_momentum": phase.ema} if phase.ema else {}
    return optimizers.Adam(rate, epsilon=1e-8, **averaged)


def _again_and_again(door: Keras3, once: Any, steps: int) -> Any:
    """A schedule of the door's Keras that begins anew every `steps` steps."""
    schedule: Any = door.keras.optimizers.schedules.LearningRateSchedule

    class Cycles(schedule):
        def __call__(self, step: Any) -> Any:
            return once(step % steps)

        def get_config(self) -> dict:
            return {"once": once.get_config(), "steps": steps}

    return Cycles()


class History(OfEpochs):
    """Appends one row an epoch to history.csv; rows of epochs that are run again are replaced.

    `scalars` takes the same figures.
    """

    COLUMNS = ("phase", "epoch", "loss", "accuracy", "val_loss", "val_accuracy", "zeros")

    def __init__(
        self,
        path: Path,
        phase: Phase,
        zeros: Callable[[], float] | None,
        scalars: Scalars | None = None,
    ) -> None:
        super().__init__()
        self.path, self.phase, self.zeros, self.scalars = path, phase, zeros, scalars

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        logs = logs or {}
        values = {name: f"{logs[name]:.6f}" for name in self.COLUMNS if name in logs}
        row = {"phase": self.phase.name, "epoch": str(epoch + 1), **values}
        row["zeros"] = f"{self.zeros():.6f}" if self.zeros else ""
        if self.scalars:
            self.scalars.add(
                epoch + 1, {name: float(row[name]) for name in self.COLUMNS[2:] if row.get(name)}
            )
        rows = [r for r in read_history(self.path) if not self._is_later(r, epoch + 1)] + [row]
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, self.COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
        files.write_text(self.path, text.getvalue())

    def _is_later(self, row: dict[str, str], epoch: int) -> bool:
        return row["phase"] == self.phase.name and int(row["epoch"]) >= epoch


def read_history(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(newline="", errors="replace") as file:
        rows = list(csv.DictReader(file))
    return [row for row in rows if (row.get("epoch") or "").isdigit() and row.get("phase")]


def train(
    door: Keras3,
    model: Any,
    data: TaskData,
    phase: Phase,
    *,
    batch_size: int,
    steps_per_epoch: int,
    seed: int,
    output_dir: Path,
    ternary: bool,
    jit_compile: bool,
    distil: Distillation | None = None,
    mixup: float = 0.0,
    verbose: int = 1,
    tensorboard: bool = False,
) -> None:
    """Run a phase from its latest checkpoint, or from its start where there is none."""
    if distil or mixup:
        temperature = distil.temperature if distil else 1.0
        loss: Any = functools.partial(targets.loss, temperature=temperature)
        metric = door.keras.metrics.MeanMetricWrapper(targets.accuracy, name="accuracy")
    else:
        loss, metric = _objective(door, classifies=data.classifies)
    rate = optimiser(door, phase, steps_per_epoch)
    door.compile(model, rate, loss, metric, jit_compile=jit_compile)
    model.optimizer.build(model.trainable_variables)
    checkpoints = Checkpoints(output_dir / "checkpoints" / phase.name, model)
    done = checkpoints.restore()
    if done >= phase.epochs:
        if phase.ema:  # fit takes the average after the last checkpoint
            model.optimizer.finalize_variable_values(model.trainable_variables)
        return
    if done:
        print(f"{phase.name}: resuming after epoch {done} of {phase.epochs}")
    batches = data.training(
        batch_size=batch_size,
        steps=steps_per_epoch,
        seed=seed,
        first_epoch=done,
        last_epoch=phase.epochs,
    )
    first_step = done * steps_per_epoch
    if mixup:
        batches = mixing.mixup(batches, mixup, seed=seed, first_step=first_step)
    model.fit(
        door.training(batches, distil, first_step=first_step),
        shuffle=False,  # they are shuffled
        steps_per_epoch=steps_per_epoch,
        initial_epoch=done,
        epochs=phase.epochs,
        validation_data=door.evaluation(data.evaluation(data.validation)),
        # The checkpoint comes last: an epoch that has one has its row in the history too.
        callbacks=[
            History(
                output_dir / "history.csv",
                phase,
                (lambda: zeros(model)) if ternary else None,
                Scalars(output_dir / "tensorboard" / phase.name) if tensorboard else None,
            ),
            checkpoints,
        ],
        # A bar is for a terminal.
        verbose=2 if verbose == 1 and not sys.stdout.isatty() else verbose,
    )


def zeros(model: Any) -> float:
    """Share of zero weights inside all ternary layers together, as `summary` gives it."""
    codes = [one.assign().codes for one in ternary_layers(model) if one.method.is_ternary]
    return sum(int((one == 0).sum()) for one in codes) / max(1, sum(one.size for one in codes))


def _objective(door: Keras3, *, classifies: bool) -> tuple[Any, str | None]:
    """Loss and metric of Keras: of logits, or of a net that reproduces its inputs."""
    if not classifies:
        return "mse", None
    return door.keras.losses.SparseCategoricalCrossentropy(from_logits=True), "accuracy"


def compile_for_others(door: Keras3, model: Any, *, classifies: bool = True) -> None:
    """Leave nothing in the model that only this script knows: so it is saved."""
    loss, metric = _objective(door, classifies=classifies)
    door.compile(model, "sgd", loss, metric, jit_compile=False)


def accuracy(door: Keras3, model: Any, batches: Evaluation) -> float:
    """Top-1 of a model whose output is logits, 0 to 1."""
    compile_for_others(door, model)
    found = model.evaluate(door.evaluation(batches), verbose=0, return_dict=True)
    return float(found["accuracy"])


def outputs(door: Keras3, model: Any, batches: Evaluation) -> np.ndarray:
    """float32 (count, outputs) of all examples."""
    return np.asarray(model.predict(door.evaluation(batches), verbose=0))


def figure(door: Keras3, model: Any, data: TaskData) -> float:
    """The task's figure of a model on the test examples, 0 to 1: top-1 accuracy, or AUC."""
    return data.figure(outputs(door, model, data.evaluation(data.test)), data.test)


def write_json(path: Path, content: dict) -> None:
    files.write_text(path, json.dumps(content, indent=2) + "\n")
