"""Train a network into a sparse ternary one: float training, ternary training, export, report."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from absl import app, flags

if TYPE_CHECKING:  # TensorFlow takes seconds to load: not for --help
    from ec2t_tf.methods import TernaryMethod

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

FLAGS = flags.FLAGS

flags.DEFINE_string(
    "dataset", "digits", "'digits' (inside scikit-learn) or a TFDS image classification set"
)
flags.DEFINE_string("tfds_dir", None, "TFDS data folder; default: TFDS's own")
flags.DEFINE_enum("model", "resnet8", ["lenet5", "resnet8", "resnet20"], "network")
flags.DEFINE_string("method", "ec2t", "ternary method")
flags.DEFINE_integer("epochs", 15, "epochs of ternary training", lower_bound=1)
flags.DEFINE_integer("float_epochs", 15, "epochs of float training before it", lower_bound=0)
flags.DEFINE_string("float_weights", None, "weights to start from (.npz, .h5) instead of random")
flags.DEFINE_integer("seed", 1, "seed of initial weights, order and augmentation")
flags.DEFINE_string("output_dir", "runs/latest", "where everything is written")
flags.DEFINE_bool("resume", False, "continue the run in --output_dir after its last epoch")
flags.DEFINE_integer("batch_size", 128, "images per step", lower_bound=1)
flags.DEFINE_float("float_learning_rate", 0.1, "peak of the float phase (SGD)", lower_bound=0.0)
flags.DEFINE_float(
    "float_weight_decay", 5e-3, "decoupled; times the learning rate", lower_bound=0.0
)
flags.DEFINE_float("learning_rate", 2e-3, "peak of the ternary phase (Adam)", lower_bound=0.0)
flags.DEFINE_float("validation_fraction", 0.1, "training images held out for validation")
flags.DEFINE_bool("jit_compile", False, "compile training steps with XLA")
flags.DEFINE_integer("verbose", 1, "1: progress bars, 2: a line an epoch", lower_bound=0)
# Knobs of --method=ec2t
flags.DEFINE_float("centroid_scale", 0.3, "EC2T: initial centroid / largest weight")
flags.DEFINE_float("entropy_gain", 0.1, "EC2T: strength of the entropy constraint, 0 to 1")
flags.DEFINE_float("centroid_learning_rate", 0.1, "EC2T: relative to --learning_rate")
flags.DEFINE_bool("reference_sign", False, "EC2T: the published code's sign of w_n's gradient")

METHOD_FLAGS = {
    "ec2t": ("centroid_scale", "entropy_gain", "centroid_learning_rate", "reference_sign"),
}
# What must not change between a run and its resumption.
IDENTITY = (
    "dataset",
    "model",
    "method",
    "epochs",
    "float_epochs",
    "float_weights",
    "seed",
    "batch_size",
    "float_learning_rate",
    "float_weight_decay",
    "learning_rate",
    "validation_fraction",
    "centroid_scale",
    "entropy_gain",
    "centroid_learning_rate",
    "reference_sign",
)


def prepare_output(folder: Path) -> None:
    """Create the folder and its settings.json, or check them against a run to resume."""
    settings = {name: FLAGS[name].value for name in IDENTITY}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        probe = folder / ".writable"
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise app.UsageError(
            f"--output_dir must be a folder that can be written. Received: '{folder}' ({error})."
        ) from error
    path = folder / "settings.json"
    if not FLAGS.resume:
        if (folder / "checkpoints").exists():
            raise app.UsageError(
                f"--output_dir must not hold another run. Received: '{folder}', which does. "
                "Pass --resume to continue it, or name another folder."
            )
        path.write_text(json.dumps(settings, indent=2) + "\n")
        return
    if path.exists():
        before = json.loads(path.read_text())
        changed = [name for name in IDENTITY if before.get(name) != settings[name]]
        if changed:
            raise app.UsageError(
                "--resume requires the settings of the run that it continues. Received others for "
                + ", ".join(f"--{n}={settings[n]} (was {before.get(n)})" for n in changed)
            )
    else:
        path.write_text(json.dumps(settings, indent=2) + "\n")


def build_method() -> TernaryMethod:
    """The method of the flags, with its own knobs."""
    from ec2t_tf import methods

    if FLAGS.method not in METHOD_FLAGS:
        raise app.UsageError(
            f"--method must be one of {sorted(METHOD_FLAGS)}. Received: '{FLAGS.method}'."
        )
    options = {name: FLAGS[name].value for name in METHOD_FLAGS[FLAGS.method]}
    try:
        return methods.METHODS[FLAGS.method](**options)
    except ValueError as error:
        raise app.UsageError(str(error)) from error


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"No arguments but flags are taken. Received: {argv[1:]}.")
    folder = Path(FLAGS.output_dir)
    method = build_method()
    prepare_output(folder)
    from ec2t_tf.train import run

    try:
        run.run(
            run.Settings(
                **{name: FLAGS[name].value for name in run.SETTINGS},
                method=method,
                output_dir=folder,
            )
        )
    except (ValueError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    app.run(main)
