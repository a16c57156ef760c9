"""How the script trains: optimisers, checkpoints after every epoch, and what is recorded."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Callable
from pathlib import Path

import tensorflow as tf
import tf_keras

from ec2t_tf import files
from ec2t_tf.summary import summary
from ec2t_tf.train import distillation
from ec2t_tf.train.distillation import Distillation
from ec2t_tf.train.tasks import TaskData


@dataclasses.dataclass(frozen=True)
class Phase:
    """One training phase, resumable at the granularity of an epoch.

    Attributes:
      name: folder name of its checkpoints and the word in history.csv.
      epochs: number of epochs.
      learning_rate: peak; it rises over the first epoch and falls to zero as a cosine.
      optimiser: "sgd" (Nesterov momentum 0.9, weight decay) or "adam" (no weight decay).
    """

    name: str
    epochs: int
    learning_rate: float
    optimiser: str
    weight_decay: float = 0.0


def optimiser(phase: Phase, steps_per_epoch: int) -> tf_keras.optimizers.Optimizer:
    warm_up = steps_per_epoch if phase.epochs > 1 else 0
    rate = tf_keras.optimizers.schedules.CosineDecay(
        0.0 if warm_up else phase.learning_rate,
        phase.epochs * steps_per_epoch - warm_up,
        warmup_target=phase.learning_rate if warm_up else None,
        warmup_steps=warm_up,
    )
    if phase.optimiser == "sgd":
        return tf_keras.optimizers.SGD(
            rate, momentum=0.9, nesterov=True, weight_decay=phase.weight_decay or None
        )
    return tf_keras.optimizers.Adam(rate, epsilon=1e-8)


class History(tf_keras.callbacks.Callback):
    """Appends one row an epoch to history.csv; rows of epochs that are run again are replaced."""

    COLUMNS = ("phase", "epoch", "loss", "accuracy", "val_loss", "val_accuracy", "zeros")

    def __init__(self, path: Path, phase: Phase, zeros: Callable[[], float] | None) -> None:
        super().__init__()
        self.path, self.phase, self.zeros = path, phase, zeros

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        logs = logs or {}
        values = {name: f"{logs[name]:.6f}" for name in self.COLUMNS if name in logs}
        row = {"phase": self.phase.name, "epoch": str(epoch + 1), **values}
        row["zeros"] = f"{self.zeros():.6f}" if self.zeros else ""
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


class Checkpoints(tf_keras.callbacks.Callback):
    """Model and optimiser after every epoch; the two latest are kept."""

    def __init__(self, folder: Path, model: tf_keras.Model) -> None:
        super().__init__()
        self.epoch = tf.Variable(0, dtype=tf.int64)
        self._checkpoint = tf.train.Checkpoint(
            model=model, optimizer=model.optimizer, epoch=self.epoch
        )
        self._manager = tf.train.CheckpointManager(self._checkpoint, str(folder), max_to_keep=2)

    def restore(self) -> int:
        """Load the latest checkpoint that is whole, if there is one: number of epochs done.

        Raises:
          ValueError: there are checkpoints, and none can be read.
        """
        reasons = []
        for path in self._paths():
            try:
                self._checkpoint.restore(path).assert_consumed()
            except Exception as error:  # OpError, IndexError, DecodeError: as the damage is
                reason = f"'{path}' cannot be read ({str(error).splitlines()[0]})"
                print(f"{reason}; trying the checkpoint before it")
                reasons.append(reason)
            else:
                return int(self.epoch.numpy())
        if reasons:
            raise ValueError(
                f"A whole checkpoint is required. Received: {'; '.join(reasons)}. Delete the "
                "folder to start this phase anew."
            )
        return 0

    def _paths(self) -> list[str]:
        """The checkpoints that lie in the folder, the latest first: its list may be damaged."""
        found = Path(self._manager.directory).glob("ckpt-*.index")
        numbers = sorted((int(p.stem.removeprefix("ckpt-")) for p in found), reverse=True)
        return [f"{self._manager.directory}/ckpt-{number}" for number in numbers]

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self.epoch.assign(epoch + 1)
        self._manager.save()


def train(
    model: tf_keras.Model,
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
    verbose: int = 1,
) -> None:
    """Run a phase from its latest checkpoint, or from its start where there is none."""
    cross_entropy = tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(
        optimiser(phase, steps_per_epoch),
        distil.loss if distil else cross_entropy,
        metrics=[
            tf_keras.metrics.MeanMetricWrapper(distillation.accuracy, name="accuracy")
            if distil
            else "accuracy"
        ],
        jit_compile=jit_compile,
    )
    model.optimizer.build(model.trainable_variables)
    checkpoints = Checkpoints(output_dir / "checkpoints" / phase.name, model)
    done = checkpoints.restore()
    if done >= phase.epochs:
        return
    if done:
        print(f"{phase.name}: resuming after epoch {done} of {phase.epochs}")
    zeros = (lambda: summary(model).zeros) if ternary else None
    batches = data.training(
        batch_size=batch_size,
        steps=steps_per_epoch,
        seed=seed,
        first_epoch=done,
        last_epoch=phase.epochs,
    )
    model.fit(
        distil.attach(batches) if distil else batches,
        steps_per_epoch=steps_per_epoch,
        initial_epoch=done,
        epochs=phase.epochs,
        validation_data=data.evaluation(data.validation),
        # The checkpoint comes last: an epoch that has one has its row in the history too.
        callbacks=[History(output_dir / "history.csv", phase, zeros), checkpoints],
        verbose=verbose,
    )


def write_json(path: Path, content: dict) -> None:
    files.write_text(path, json.dumps(content, indent=2) + "\n")
