"""Train a network into a sparse ternary one: float training, ternary training, export, report."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import app

from ec2t_tf import files, quiet
from ec2t_tf.train import command_line, record
from ec2t_tf.train.method_flags import METHOD_FLAGS, flags_of
from ec2t_tf.train.options import FLAGS, IDENTITY, SECTIONS
from ec2t_tf.train.zoo import NARROW_SHORTCUTS

if TYPE_CHECKING:
    from ec2t_tf import Policy, methods

ALSO_REPEATED = ("tfds_dir", "jit_compile", "distribute")
ABOUT = (
    "Trains a float net (or loads it), makes it ternary with ec2t_tf.apply, trains on, evaluates, "
    "exports an int8 .tflite file, verifies it, and writes a report into --output_dir."
)


def require_run(folder: Path) -> None:
    """Raise app.UsageError unless a run has begun in the folder."""
    if not (folder / "settings.json").exists():
        raise app.UsageError(
            f"--resume requires the folder of a run, with its settings.json. Received: '{folder}', "
            "which holds none. Name the run's folder with --output_dir, or leave --resume out."
        )


def prepare_output(folder: Path) -> list[Path]:
    """Create the folder and its settings.json, or check them against a run to resume.

    Returns:
      What it made, in the order in which `withdraw` removes it; nothing of a run to resume.
    """
    missing = [one for one in (folder, *folder.parents) if not one.exists()]
    identity = list(dict.fromkeys([*IDENTITY, *METHOD_FLAGS[FLAGS.method].values()]))
    settings = {**{name: FLAGS[name].value for name in identity}, "door": door()}
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
        if _holds(folder, "checkpoints", "supernet.csv"):
            raise app.UsageError(
                f"--output_dir must not hold another run. Received: '{folder}', which does. "
                "Pass --resume to continue it, or name another folder."
            )
        files.write_text(path, json.dumps(settings, indent=2) + "\n")
        return [path, *missing]
    require_run(folder)  # that of this worker
    before = files.read_json(path)
    if not isinstance(before, dict):
        raise ValueError(f"An object of settings is required. Received: '{path}' without one.")
    # A flag that is newer than the run had its default, but the script trained in tf_keras.
    defaults = {**{name: FLAGS[name].default for name in identity}, "door": "tfmot"}
    before = defaults | before
    changed = [name for name in settings if before[name] != settings[name]]
    left = ("checkpoints", "supernet.csv", "float.weights.h5", "metrics.json")
    if changed and not _holds(folder, *left):  # it failed at once, by its flags perhaps
        files.write_text(path, json.dumps(settings, indent=2) + "\n")
    elif changed:
        raise app.UsageError(
            "--resume requires the settings of the run that it continues. Received others for "
            + ", ".join(f"--{n}={settings[n]} (was {before[n]})" for n in changed)
            + ". Name another --output_dir for these."
        )
    return []


def withdraw(made: Sequence[Path]) -> None:
    """Remove what `prepare_output` made, if nothing has come to lie beside it: a refused run."""
    if not made:
        return
    settings, *folders = made
    if list(settings.parent.iterdir()) == [settings]:
        settings.unlink()
        with contextlib.suppress(OSError):  # another run has begun in a folder above
            for folder in folders:
                folder.rmdir()


def _holds(folder: Path, *names: str) -> bool:
    return any((folder / name).exists() for name in names)


def check_folders() -> None:
    """Raise app.UsageError for a folder of data that does not exist."""
    if FLAGS.tfds_dir is not None and not Path(FLAGS.tfds_dir).expanduser().is_dir():
        raise app.UsageError(
            f"--tfds_dir must be a folder of TFDS data that exists. Received: '{FLAGS.tfds_dir}'. "
            f"Create it to have '{FLAGS.dataset}' downloaded there."
        )
    is_file = FLAGS.dataset == "arrays"
    if FLAGS.data_dir is not None and is_file and not Path(FLAGS.data_dir).expanduser().is_file():
        raise app.UsageError(
            "--data_dir must be a .npz file for --dataset=arrays. "
            f"Received: '{FLAGS.data_dir}', which is none."
        )
    if FLAGS.data_dir is not None and not (is_file or Path(FLAGS.data_dir).expanduser().is_dir()):
        raise app.UsageError(
            "--data_dir must be a folder with a folder for each class. "
            f"Received: '{FLAGS.data_dir}', which is none."
        )


def check_flags(method: str) -> None:
    """Raise app.UsageError for a flag that was given and belongs to another method."""
    own = flags_of(method)
    for other in METHOD_FLAGS:
        for flag in sorted(flags_of(other) - own):
            if FLAGS[flag].present:
                raise app.UsageError(
                    f"--{flag} belongs to --method={other}. Received: --method={method}, which "
                    f"takes {', '.join(f'--{name}' for name in sorted(own)) or 'no flags'} of its "
                    f"own. Leave --{flag} out, or choose --method={other}."
                )


def door() -> str:
    """The door that trains."""
    return "tfmot" if FLAGS.distribute and not FLAGS["door"].present else FLAGS.door


def load_backend() -> None:
    """Load Keras without the lines that TensorFlow prints, and no TensorFlow if nothing needs it.

    With another backend Keras imports it for small things wherever it is installed: seconds and
    hundreds of megabytes.
    """
    # oneDNN's convolutions train faster (docs/training.md); TensorFlow turns them on only where a
    # CPU has more than AVX2. It looks when it is imported.
    narrow = FLAGS.supernet or min(FLAGS.width, FLAGS.phi) < 1
    wrong = narrow and FLAGS.model in NARROW_SHORTCUTS  # onednn.py
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0" if wrong else "1")
    backend = quiet.load_keras()
    from ec2t_tf.train import tasks

    if backend != "tensorflow" and door() == "keras" and FLAGS.dataset in tasks.OWN:
        sys.modules.setdefault("tensorflow", None)  # type: ignore[arg-type]  # not to be found


def build_method() -> methods.TernaryMethod:
    """The method of the flags, with its own knobs."""
    if FLAGS.method not in METHOD_FLAGS:
        raise app.UsageError(
            f"--method must be one of {sorted(METHOD_FLAGS)}. Received: '{FLAGS.method}'."
        )
    check_flags(FLAGS.method)
    load_backend()
    from ec2t_tf import methods

    chosen = METHOD_FLAGS[FLAGS.method]
    options = {option: FLAGS[flag].value for option, flag in chosen.items()}
    if options.get("mode") == "learned":  # which has no ramp
        if FLAGS["sr_ramp_until"].present:
            raise app.UsageError("--sr_ramp_until belongs to --sr_mode=ramp.")
        options["ramp_until"] = None
    try:
        return methods.METHODS[FLAGS.method](**options)
    except ValueError as error:
        raise app.UsageError(str(error)) from error


def read_repeat() -> str | None:
    """Give the flags that were not given the values of the run of --repeat.

    Returns:
      The JSON of that run's policy, if it had one and --policy names no other.
    """
    if FLAGS.repeat is None:
        return None
    try:
        wanted = files.read_json(FLAGS.repeat)["repeat"]
        for name, value in wanted["flags"].items():
            if not FLAGS[name].present:
                FLAGS[name].value = None if value is None else FLAGS[name].parser.parse(value)
        before = dict(wanted.get("sha256", {}))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise app.UsageError(
            "--repeat must be the metrics.json of a run of this version or a later one. "
            f"Received: '{FLAGS.repeat}' ({type(error).__name__}: {error})."
        ) from error
    now = record.hashes({name: FLAGS[name].value for name in record.FILES})
    for name, value in before.items():
        if name in record.FILES and not FLAGS[name].present and now.get(name) != value:
            found = "another content" if name in now else "no file there"
            raise app.UsageError(
                f"--repeat requires the file of --{name} that the run had, "
                f"'{FLAGS[name].value}' with the SHA-256 {value[:16]}. Received: {found}. Put it "
                f"back, or name one with --{name}."
            )
    return None if FLAGS["policy"].present else wanted.get("policy")


def given_flags() -> dict[str, Any]:
    """The flags that make a run what it is, by name."""
    identity = dict.fromkeys([*IDENTITY, *METHOD_FLAGS[FLAGS.method].values(), *ALSO_REPEATED])
    return {**{name: FLAGS[name].value for name in identity}, "door": door()}


def build_policy(text: str | None = None) -> Policy | None:
    """The policy of JSON, or of --policy."""
    from ec2t_tf import Policy

    if text is not None:
        return Policy.from_json(text)
    if FLAGS.policy is None:
        return None
    try:
        return Policy.from_json(Path(FLAGS.policy).read_text())
    except (OSError, ValueError) as error:
        raise app.UsageError(
            f"--policy must be a JSON file of rules. Received: '{FLAGS.policy}': {error}"
        ) from error


def image_size() -> tuple[int, int] | None:
    if FLAGS.image_size is None:
        return None
    try:
        height, width = (int(size) for size in FLAGS.image_size)
        if min(height, width) < 1:
            raise ValueError
    except ValueError as error:
        raise app.UsageError(
            "--image_size must be height,width in pixels, such as 64,64. "
            f"Received: {','.join(FLAGS.image_size)}."
        ) from error
    return height, width


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"No arguments but flags are taken. Received: {argv[1:]}.")
    folder = Path(FLAGS.output_dir)
    if FLAGS.resume:
        require_run(folder)
    repeated = read_repeat()
    check_folders()
    size = image_size()
    method = build_method()
    policy = build_policy(repeated)
    before = files.read_json(FLAGS.repeat).get("made_by", {}) if FLAGS.repeat else {}
    if before and (other := record.differences(before)):
        print(f"not as in the run that is repeated, so weights may differ: {'; '.join(other)}")
    if FLAGS.supernet == "phi" and FLAGS.target_accuracy is None:
        raise app.UsageError("--supernet=phi requires --target_accuracy. Received none.")
    if FLAGS.supernet and door() == "tfmot":
        raise app.UsageError(
            "--supernet searches in Keras 3. Received: --door=tfmot or --distribute too."
        )
    if FLAGS.distribute and door() != "tfmot":
        raise app.UsageError("--distribute needs --door=tfmot. Received: --door=keras.")
    from ec2t_tf.train import distribute, run, supernet_search

    try:
        folder = distribute.output_dir(FLAGS.distribute, folder)
    except ValueError as error:
        raise app.UsageError(str(error)) from error
    try:
        made = prepare_output(folder)
    except ValueError as error:
        raise app.UsageError(f"--resume: {error}") from error
    flags = given_flags()
    settings = run.Settings(
        **{name: FLAGS[name].value for name in run.SETTINGS},
        door=door(),
        image_size=size,
        method=method,
        policy=policy,
        flags=flags,
        hashes=record.hashes(flags),
        output_dir=folder,
    )
    try:
        if FLAGS.supernet:
            supernet_search.search(
                settings,
                FLAGS.supernet,
                target_accuracy=FLAGS.target_accuracy,
                phis=[float(phi) for phi in FLAGS.phis],
            )
        else:
            run.run(settings)
    except (ValueError, FileNotFoundError) as error:
        withdraw(made)
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def command(argv: Sequence[str]) -> int:
    """Runs the script; `argv` has the program's name first. Returns the exit code."""
    return command_line.run(main, argv, about=ABOUT, sections=SECTIONS)


if __name__ == "__main__":
    sys.exit(command(["python -m ec2t_tf.train", *sys.argv[1:]]))
