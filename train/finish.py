"""After training: the file, its verification, the report, the plots."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import confusion_matrix

from ec2t_tf import export, files
from ec2t_tf.callbacks import ternary_layers
from ec2t_tf.export.integer import NotExactError
from ec2t_tf.export.verification import run as run_file
from ec2t_tf.summary import summary
from ec2t_tf.train import page, paired, plots, recipe
from ec2t_tf.train.doors import Keras3
from ec2t_tf.train.tasks import TaskData


def finish(model: Any, data: TaskData, metrics: dict, *, title: str, folder: Path) -> dict:
    """Export to `folder`/model.tflite, verify it on all test images and write the report.

    Args:
      metrics: holds float_accuracy, trained_accuracy, zeros, entropy_bytes, float_bytes.

    Returns:
      The metrics, completed; also written to metrics.json.
    """
    path = folder / "model.tflite"
    export.to_tflite(model, path)
    images = np.concatenate([x for x, _ in data.evaluation(data.test)])
    check = export.verify(model, path, images)
    outputs, _ = run_file(path, images)
    predicted = outputs.argmax(axis=1)
    if data.classifies:
        paired.save(folder, data.test, {"ternary": predicted})
    file = export.report(path)
    metrics = {
        **metrics,
        "figure": data.figure_name,
        "ternary_accuracy": exact_accuracy(model, data) or metrics["trained_accuracy"],
        "tflite_accuracy": data.figure(outputs, data.test),
        "tflite_bytes": file.file_bytes,
        "tflite_zipped_bytes": file.zipped_bytes,
        "verified_images": check.inputs,
        "largest_difference_in_output_steps": check.largest_difference,
        "top1_agreement": check.agreement,
    }
    recipe.write_json(folder / "metrics.json", metrics)
    layers = summary(model)
    text = report_text(title, metrics, str(layers), str(file), str(check))
    files.write_text(folder / "report.txt", text + "\n")
    history = recipe.read_history(folder / "history.csv")
    plots.history(history, metrics, title, folder / "history.png")
    if ternary_layers(model):  # else an int8 net: there is nothing to draw
        plots.layers(ternary_layers(model), title, folder / "layers.png")
        plots.sparsity(layers, title, folder / "sparsity.png")
    page.write(
        folder,
        title=title,
        accuracy=accuracies(metrics),
        metrics=metrics,
        history=history,
        layers=layers.table(),
        ternary=ternary_layers(model),
        confusion=(
            confusion_matrix(data.test.labels, predicted, labels=range(data.classes))
            if data.classifies
            else None
        ),
        labels=data.labels,
        file=file,
        verdict=str(check),
    )
    print("\n" + text)
    print(f"\nwritten to {folder}: report.html shows all of it")
    return metrics


def int8_of_float(
    model: Any, data: TaskData, folder: Path, predicted: dict[str, np.ndarray]
) -> dict[str, float]:
    """The float net as an int8 file, `folder`/float_int8.tflite: what a ternary net stands beside.

    Its ranges are measured on the first 200 training examples, which are drawn at random already.

    Args:
      predicted: takes its class of each test example, as "int8".

    Returns:
      `int8_accuracy` on the test examples and `int8_bytes`; nothing where there is no such file.
    """
    path = folder / "float_int8.tflite"
    (examples, _), *_ = data.evaluation(data.train, 200)
    try:
        export.to_tflite(model, path, representative_data=examples)
    except (ValueError, export.ConversionError) as error:
        print(f"no int8 file of the float net to compare with: {error}")
        return {}
    images = np.concatenate([x for x, _ in data.evaluation(data.test)])
    outputs, _ = run_file(path, images)
    predicted["int8"] = outputs.argmax(axis=1)
    return {
        "int8_accuracy": data.figure(outputs, data.test),
        "int8_bytes": path.stat().st_size,
    }


def accuracies(metrics: Mapping[str, Any]) -> list[tuple[str, float]]:
    """The task's figure on the test examples, by net."""
    named = {
        "float, Keras": "float_accuracy",
        "float net as int8 .tflite": "int8_accuracy",
        "ternary, Keras": "ternary_accuracy",
        "ternary, .tflite": "tflite_accuracy",
    }
    return [(label, metrics[name]) for label, name in named.items() if name in metrics]


def exact_accuracy(model: Any, data: TaskData) -> float | None:
    """Figure of the net in exact integers, computed by Keras; None where a part of it is float."""
    try:
        exact = export.exact(model, rounding="xnnpack")
    except NotExactError:
        return None
    return recipe.figure(Keras3(), exact, data)


def report_text(title: str, metrics: dict, table: str, file: str, check: str) -> str:
    """The report that the script prints and leaves in report.txt."""
    sizes = [
        ("float32 weights", metrics["float_bytes"]),
        *(
            [("float net as int8 .tflite", metrics["int8_bytes"])]
            if "int8_bytes" in metrics
            else []
        ),
        (".tflite", metrics["tflite_bytes"]),
        (".tflite zipped", metrics["tflite_zipped_bytes"]),
        ("ternary weights at their entropy", round(metrics["entropy_bytes"])),
    ]
    lines = [title, "", f"{metrics['figure']} on the test examples"]
    lines += [f"  {name:<34}{100 * value:>9.2f} %" for name, value in accuracies(metrics)]
    lines += ["zeros in ternary layers"]
    lines += [
        f"  {'at the start of ternary training':<34}{100 * metrics['zeros_at_start']:>9.2f} %"
    ]
    lines += [f"  {'at the end':<34}{100 * metrics['zeros']:>9.2f} %"]
    lines += ["bytes"]
    lines += [f"  {name:<34}{value:>9,}" for name, value in sizes]
    return "\n".join([*lines, "", table, "", file, "", "Keras against the file: " + check])
