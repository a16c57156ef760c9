"""After training: the file, its verification, the report, the plots."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import confusion_matrix

from ec2t_tf import export, files
from ec2t_tf.callbacks import ternary_layers
from ec2t_tf.export.integer import NotExactError
from ec2t_tf.export.verification import run as run_file
from ec2t_tf.summary import summary
from ec2t_tf.train import page, plots, recipe
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
    file = export.report(path)
    metrics = {
        **metrics,
        "ternary_accuracy": exact_accuracy(model, data) or metrics["trained_accuracy"],
        "tflite_accuracy": float((outputs.argmax(axis=1) == data.test.labels).mean()),
        "tflite_bytes": file.file_bytes,
        "tflite_zipped_bytes": file.zipped_bytes,
        "verified_images": check.inputs,
        "largest_difference_in_output_steps": check.largest_difference,
        "top1_agreement": check.agreement,
    }
    recipe.write_json(folder / "metrics.json", metrics)
    text = report_text(title, metrics, str(summary(model)), str(file), str(check))
    files.write_text(folder / "report.txt", text + "\n")
    history = recipe.read_history(folder / "history.csv")
    plots.history(history, metrics, title, folder / "history.png")
    plots.layers(ternary_layers(model), title, folder / "layers.png")
    plots.sparsity(summary(model), title, folder / "sparsity.png")
    page.write(
        folder,
        title=title,
        metrics=metrics,
        history=history,
        ternary=ternary_layers(model),
        confusion=confusion_matrix(
            data.test.labels, outputs.argmax(axis=1), labels=range(data.classes)
        ),
        labels=data.labels,
        file=file,
        verdict=str(check),
    )
    print("\n" + text)
    print(f"\nwritten to {folder}: report.html shows all of it")
    return metrics


def exact_accuracy(model: Any, data: TaskData) -> float | None:
    """Top-1 of the net in exact integers, computed by Keras; None where a part of it is float."""
    try:
        exact = export.exact(model, rounding="xnnpack")
    except NotExactError:
        return None
    return recipe.accuracy(Keras3(), exact, data.evaluation(data.test))


def report_text(title: str, metrics: dict, table: str, file: str, check: str) -> str:
    """The report that the script prints and leaves in report.txt."""
    accuracies = [
        ("float", metrics["float_accuracy"]),
        ("ternary, Keras", metrics["ternary_accuracy"]),
        ("ternary, .tflite", metrics["tflite_accuracy"]),
    ]
    sizes = [
        ("float32 weights", metrics["float_bytes"]),
        (".tflite", metrics["tflite_bytes"]),
        (".tflite zipped", metrics["tflite_zipped_bytes"]),
        ("ternary weights at their entropy", round(metrics["entropy_bytes"])),
    ]
    lines = [title, "", "top-1 on the test images"]
    lines += [f"  {name:<34}{100 * value:>9.2f} %" for name, value in accuracies]
    lines += ["zeros in ternary layers"]
    lines += [
        f"  {'at the start of ternary training':<34}{100 * metrics['zeros_at_start']:>9.2f} %"
    ]
    lines += [f"  {'at the end':<34}{100 * metrics['zeros']:>9.2f} %"]
    lines += ["bytes"]
    lines += [f"  {name:<34}{value:>9,}" for name, value in sizes]
    return "\n".join([*lines, "", table, "", file, "", "Keras against the file: " + check])
