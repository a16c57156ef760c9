"""One run of the script: float net, ternary net, evaluation, export, report."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

import ec2t_tf
from ec2t_tf import files, onednn
from ec2t_tf.methods import TernaryMethod
from ec2t_tf.summary import Summary, summary
from ec2t_tf.supernet import compound_scale
from ec2t_tf.train import distillation, mixing, paired, recipe, tasks, zoo
from ec2t_tf.train.distillation import Distillation
from ec2t_tf.train.doors import Keras3, open_door
from ec2t_tf.train.finish import finish, int8_of_float
from ec2t_tf.train.record import record
from ec2t_tf.train.warm_start import begin_from
from ec2t_tf.train.zoo.published import load_weights

STATISTICS = 1024  # examples that batch normalisation has its first averages of, behind a file


@dataclasses.dataclass(frozen=True)
class Settings:
    """The script's flags; see `python -m ec2t_tf.train --help`."""

    dataset: str
    tfds_dir: str | None
    data_dir: str | None
    image_size: tuple[int, int] | None
    split: str
    apart: str | None
    leave_out: str | None
    model: str
    depth: float
    width: float
    phi: float
    epochs: int
    float_epochs: int
    float_weights: str | None
    ternary_start: str | None
    seed: int
    batch_size: int
    float_learning_rate: float
    float_weight_decay: float
    learning_rate: float
    sparsity_ramp: float
    distill: float
    distill_temperature: float
    validation_fraction: float
    jit_compile: bool
    verbose: int
    steps_per_epoch: int | None
    method: TernaryMethod
    output_dir: Path
    door: str = "keras"
    distribute: str | None = None
    precision: str = "float32"
    policy: ec2t_tf.Policy | None = None
    tensorboard: bool = False
    distill_end: float | None = None
    teacher: str | None = None
    teacher_weights: str | None = None
    cycles: int = 1
    ema: float = 0.0
    recalibrate: bool = True
    cutout: int = 0
    mixup: float = 0.0
    augment: bool = True
    copies: bool = True
    flags: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    hashes: Mapping[str, str] = dataclasses.field(default_factory=dict)  # of files that flags name


BUILT = ("door", "flags", "hashes", "image_size", "method", "output_dir", "policy")  # made of flags
SETTINGS = [f.name for f in dataclasses.fields(Settings) if f.name not in BUILT]


def run(settings: Settings) -> dict:
    """Train, evaluate, export and verify; returns what metrics.json holds.

    Writes into `output_dir`: settings.json, history.csv, metrics.json, report.txt, model.keras,
    float.weights.h5, model.tflite, plots (.png) and checkpoints/.

    Raises:
      ValueError: a setting or the data set cannot be used, or not on this processor.
      FileNotFoundError: --float_weights, --teacher_weights or --ternary_start names no file.
    """
    ternary_phase(settings)  # what cannot be is refused before the float net is trained
    check_teacher(settings)
    door = open_door(settings.door, distribute=settings.distribute)
    print(f"seed {settings.seed}, {door.describe()}")
    door.keras.utils.set_random_seed(settings.seed)
    data = load_data(settings)
    with door.scope():
        teacher = None
        if settings.teacher and settings.teacher_weights:
            teacher = distillation.net_of(settings.teacher, settings.teacher_weights, data, door)
        metrics = _train_both(door, settings, data, teacher)
    # A model of its own: the weights of a distributed one live on several devices.
    door.keras.utils.set_random_seed(settings.seed)  # files do not hold those of random layers
    model = ec2t_tf.load_model(settings.output_dir / "model.keras")
    if settings.recalibrate:
        recalibrate(settings, data, model)
    metrics["trained_accuracy"] = recipe.figure(door, model, data)
    metrics["repeat"] = {
        "flags": dict(settings.flags),
        "policy": settings.policy.to_json() if settings.policy else None,
        "sha256": dict(settings.hashes),
    }
    metrics["made_by"] = record()
    return finish(model, data, metrics, title=title(settings), folder=settings.output_dir)


def title(settings: Settings) -> str:
    """The net, the data, the method with the options that are not its own defaults, the seed."""
    usual = type(settings.method)().get_config()
    options = [
        f"{name}={value}"
        for name, value in settings.method.get_config().items()
        if value is not None and value != usual.get(name)
    ]
    method = " ".join([settings.method.name, *options])
    return f"{settings.model} on {settings.dataset}, {method}, seed {settings.seed}"


def load_data(settings: Settings) -> tasks.TaskData:
    """The data set of --dataset and of the flags that belong to it."""
    data = tasks.load(
        settings.dataset,
        tfds_dir=settings.tfds_dir,
        data_dir=settings.data_dir,
        image_size=settings.image_size,
        split=settings.split,
        apart=settings.apart,
        leave_out=settings.leave_out,
        validation_fraction=settings.validation_fraction,
    )
    if not data.classifies and (settings.distill or settings.mixup):
        raise tasks.DataError(
            "--distill and --mixup need classes. Received: --leave_out="
            f"{settings.leave_out}, --distill={settings.distill:g}, --mixup={settings.mixup:g}."
        )
    augment = data.augment if settings.augment else tasks.unchanged
    if settings.cutout:
        if len(data.input_shape) != 3:
            raise tasks.DataError(
                "--cutout requires images (height, width, channels). "
                f"Received: {data.name} with inputs {data.input_shape}."
            )
        augment = mixing.then(augment, mixing.cutout(settings.cutout, data.mean * data.full_scale))
    return dataclasses.replace(
        data, augment=augment, variants=data.variants if settings.copies else ()
    )


def _train_both(door: Keras3, settings: Settings, data: tasks.TaskData, teacher: Any) -> dict:
    """The float phase, the ternary phase and what they came to; leaves model.keras.

    The float net teaches where `teacher` is None.
    """
    float_model = door.own(build(settings, data))
    if settings.float_weights:
        load_weights(float_model, settings.float_weights)
    if settings.float_epochs:
        ternary_model(settings, data, float_model, verbose=0)  # what cannot be is refused now
        train(door, float_model, data, float_phase(settings), settings, ternary=False)
    with files.replacing(settings.output_dir / "float.weights.h5") as fresh:
        float_model.save_weights(str(fresh))
    # The one place where the test images are used, and finish.
    outputs = recipe.outputs(door, float_model, data.evaluation(data.test))
    predicted = {"float": outputs.argmax(axis=-1)}
    int8 = int8_of_float(float_model, data, settings.output_dir, predicted)
    if data.classifies:
        paired.save(settings.output_dir, data.test, predicted)

    model = ternary_model(settings, data, float_model)
    zeros_at_start = summary(model).zeros
    distil = distillation_of(settings, teacher or float_model, data)
    phase = ternary_phase(settings)
    train(door, model, data, phase, settings, ternary=True, distil=distil)
    metrics = {
        "seed": settings.seed,
        "float_accuracy": data.figure(outputs, data.test),
        **int8,
        "float_bytes": 4 * float_model.count_params(),
        "normalised_by": {"mean": data.mean.tolist(), "std": data.std.tolist()},
        "zeros_at_start": zeros_at_start,
        **measures(summary(model)),
    }
    recipe.compile_for_others(door, model, classifies=data.classifies)
    with files.replacing(settings.output_dir / "model.keras") as fresh:
        model.save(fresh)
    return metrics


def ternary_model(
    settings: Settings, data: tasks.TaskData, float_model: Any, *, verbose: int = 1
) -> Any:
    """The model of the ternary phase, before its first step.

    Raises:
      ValueError: the net has a layer that `apply` refuses, or --ternary_start is of another net.
      FileNotFoundError: --ternary_start names no file.
    """
    method = method_for(settings, data)
    model = ec2t_tf.apply(float_model, method, policy=settings.policy, verbose=verbose)
    if settings.ternary_start:
        examples = data.train.inputs[:STATISTICS]
        begin_from(model, settings.ternary_start, np.asarray(data.normalise(examples)))
    return model


def recalibrate(settings: Settings, data: tasks.TaskData, model: Any) -> None:
    """Averages of batch normalisation lag behind the weights: set by an epoch not trained on."""
    batches = data.training(
        batch_size=settings.batch_size,
        seed=settings.seed,
        first_epoch=settings.epochs,
        last_epoch=settings.epochs + 1,
    )
    ec2t_tf.recalibrate(model, batches)
    with files.replacing(settings.output_dir / "model.keras") as fresh:
        model.save(fresh)


def check_teacher(settings: Settings) -> None:
    """Raise ValueError unless --teacher, --teacher_weights and --distill go together."""
    if settings.teacher is None and settings.teacher_weights is None:
        return
    if not (settings.teacher and settings.teacher_weights and settings.distill):
        raise ValueError(
            "--teacher needs --teacher_weights, its weights, and --distill, its share of the loss. "
            f"Received: --teacher={settings.teacher}, --teacher_weights="
            f"{settings.teacher_weights}, --distill={settings.distill:g}."
        )


def build(settings: Settings, data: tasks.TaskData) -> keras.Model:
    """The network of --model, scaled by --depth, --width and --phi, with layers of --precision.

    Raises:
      ValueError: TensorFlow would train it wrongly on this processor.
    """
    policy = keras.config.dtype_policy()
    if settings.precision != "float32":
        keras.config.set_dtype_policy(f"mixed_{settings.precision}")
    try:
        net = compound_scale(
            functools.partial(zoo.build, settings.model),
            depth=settings.depth,
            width=settings.width,
            phi=settings.phi,
            input_shape=data.input_shape,
            classes=data.outputs,
        )
        onednn.require_right_gradients(net)
        return net
    finally:
        keras.config.set_dtype_policy(policy)


def method_for(settings: Settings, data: tasks.TaskData) -> TernaryMethod:
    """The method, told how many steps it has; a target sparsity rises over --sparsity_ramp."""
    config = settings.method.get_config()
    steps = settings.epochs * steps_per_epoch(settings, data)
    if "total_steps" in config:
        config["total_steps"] = steps
    if settings.sparsity_ramp and config.get("target_sparsity") is not None:
        config["schedule"] = ec2t_tf.PolynomialDecay(
            initial_sparsity=0.0,
            final_sparsity=config.pop("target_sparsity"),
            begin_step=0,
            end_step=max(1, round(settings.sparsity_ramp * steps)),
            frequency=1,
        )
    return type(settings.method)(**config)


def distillation_of(settings: Settings, teacher: Any, data: tasks.TaskData) -> Distillation | None:
    """How a net teaches in the ternary phase; None where none does."""
    if not settings.distill:
        return None
    steps = settings.epochs * steps_per_epoch(settings, data)
    comes_again = data.augment is tasks.unchanged and not data.variants and not settings.mixup
    pays = steps * settings.batch_size > len(data.train)
    return Distillation(
        teacher,
        settings.distill,
        settings.distill_temperature,
        settings.distill_end,
        steps,
        examples=data.evaluation(data.train) if comes_again and pays else None,
    )


def steps_per_epoch(settings: Settings, data: tasks.TaskData) -> int:
    """Those of --steps_per_epoch, or of all training images.

    Raises:
      DataError: there are not so many images.
    """
    every = data.steps_per_epoch(settings.batch_size)
    wanted = settings.steps_per_epoch or every
    if wanted > every:
        raise tasks.DataError(
            f"--steps_per_epoch must be at most {every}: so many batches of {settings.batch_size} "
            f"the {len(data.train)} training examples of '{data.name}' give. Received: {wanted}."
        )
    return wanted


def float_phase(settings: Settings) -> recipe.Phase:
    return recipe.Phase(
        "float",
        settings.float_epochs,
        settings.float_learning_rate,
        "sgd",
        settings.float_weight_decay,
    )


def ternary_phase(settings: Settings) -> recipe.Phase:
    if settings.epochs % settings.cycles:
        raise ValueError(
            "--epochs must be a multiple of --cycles. "
            f"Received: --epochs={settings.epochs}, --cycles={settings.cycles}."
        )
    return recipe.Phase(
        "ternary",
        settings.epochs,
        settings.learning_rate,
        "adam",
        cycles=settings.cycles,
        ema=settings.ema,
    )


def train(
    door: Keras3,
    model: Any,
    data: tasks.TaskData,
    phase: recipe.Phase,
    settings: Settings,
    *,
    ternary: bool,
    distil: Distillation | None = None,
) -> None:
    recipe.train(
        door,
        model,
        data,
        phase,
        batch_size=settings.batch_size,
        steps_per_epoch=steps_per_epoch(settings, data),
        seed=settings.seed,
        output_dir=settings.output_dir,
        ternary=ternary,
        jit_compile=settings.jit_compile,
        distil=distil,
        mixup=settings.mixup,
        verbose=settings.verbose,
        tensorboard=settings.tensorboard,
    )


def measures(table: Summary) -> dict:
    return {
        "zeros": table.zeros,
        "ternary_weights": sum(row.weights for row in table.ternary),
        "entropy_bytes": table.entropy_bytes,
        "layers": [
            dataclasses.asdict(row) | {"treatment": row.treatment.value} for row in table.rows
        ],
    }
