"""`--supernet`: train float nets of growing depth and width, keep a row each, choose one."""

from __future__ import annotations

import dataclasses
import functools

import keras

from ec2t_tf import files, supernet
from ec2t_tf.train import recipe, run, zoo
from ec2t_tf.train.doors import Keras3


def search(
    settings: run.Settings, kind: str, *, target_accuracy: float | None, phis: list[float]
) -> supernet.SearchResult:
    """Search (d, w) or phi with --float_epochs of training a net, judged on validation images.

    Writes supernet.csv (a row a net), supernet.txt (the table) and supernet.png into `output_dir`;
    resumes from them, and from the last epoch of the net that was being trained.

    Args:
      settings: the script's flags.
      kind: "depth_width" or "phi".
      target_accuracy: validation accuracy that phi has to reach, 0 to 1.
      phis: values of phi to try; the published ones if empty.

    Raises:
      ValueError: a setting or the data set cannot be used.
    """
    if not settings.float_epochs:
        raise ValueError("--supernet requires --float_epochs of at least 1. Received: 0.")
    zoo.require_scalable(settings.model, "depth", "width")
    print(f"seed {settings.seed}")
    data = run.load_data(settings)
    if not data.classifies:
        raise ValueError(
            "--supernet compares accuracies of classes. Received: "
            f"--leave_out={settings.leave_out} too. Leave one of them out."
        )
    door = Keras3()
    trained_as = ""

    def build(*, depth: float, width: float) -> keras.Model:
        nonlocal trained_as
        trained_as = f"depth{depth:.4f}_width{width:.4f}"
        keras.utils.set_random_seed(settings.seed)
        return zoo.build(
            settings.model,
            input_shape=data.input_shape,
            classes=data.classes,
            depth=depth,
            width=width,
        )

    def evaluate(model: keras.Model) -> float:
        print(f"{trained_as}: {model.count_params():,} parameters")
        folder = settings.output_dir / trained_as
        folder.mkdir(exist_ok=True)
        own = dataclasses.replace(settings, output_dir=folder)
        run.train(door, model, data, run.float_phase(own), own, ternary=False)
        return recipe.accuracy(door, model, data.evaluation(data.validation))

    rows = settings.output_dir / "supernet.csv"
    if kind == "depth_width":
        result = supernet.search_depth_width(build, evaluate, rows=rows)
    else:
        find = functools.partial(
            supernet.search_phi,
            build,
            evaluate,
            depth=settings.depth,
            width=settings.width,
            target_accuracy=target_accuracy or 0.0,
            rows=rows,
        )
        result = find(phis=phis) if phis else find()
    text = result.table()
    best = result.best
    flags = f"--depth={best.depth:g} --width={best.width:g} --phi={best.phi:g}"
    if result.reached:
        text += f"\nchosen: --model={settings.model} {flags}"
    else:
        text += (
            f"\nno net reached {100 * (target_accuracy or 0):.2f} %; the most accurate: {flags}. "
            "Try larger --phis or more --float_epochs."
        )
    files.write_text(settings.output_dir / "supernet.txt", text + "\n")
    result.plot(settings.output_dir / "supernet.png")
    print(text)
    return result
