"""Watching a ternary training. Nothing depends on these callbacks: training is the same without.

>>> model.fit(data, callbacks=[ec2t_tf.callbacks.TensorBoard("logs"), ...])
"""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path
from typing import Any

import keras
import numpy as np

from ec2t_tf import doors, files
from ec2t_tf.methods import EC2T, Assignment

COLUMNS = (
    *("zeros", "entropy", "w_n", "w_p", "threshold_n", "threshold_p", "entropy_gain", "changed"),
)


def ternary_layers(model: Any) -> list[Any]:
    """Those of a model that `apply` made, of either library; empty for any other model."""
    if doors.is_keras_3(model):
        from ec2t_tf import quantisation

        return quantisation.ternary_layers(model)
    from ec2t_tf.tfmot import quantize_config

    return quantize_config.ternary_layers(model)


class OfEpochs(keras.callbacks.Callback):
    """A callback without batches, for `fit` of either Keras."""

    # What tf_keras asks of its own callbacks.
    def _implements_train_batch_hooks(self) -> bool:
        return False

    _implements_test_batch_hooks = _implements_train_batch_hooks
    _implements_predict_batch_hooks = _implements_train_batch_hooks


class _Watch(OfEpochs):
    """Measures every ternary (or pruned) layer at the end of each epoch."""

    def on_train_begin(self, logs: dict | None = None) -> None:
        if not ternary_layers(self.model):
            raise ValueError(
                "This callback watches models that ec2t_tf.apply made. "
                f"Received: '{self.model.name}', which has no ternary layer."
            )
        self._codes = {layer.name: layer.assign().codes for layer in ternary_layers(self.model)}

    def measure(self) -> dict[str, dict[str, float]]:
        """Layer name -> what `COLUMNS` name. Also remembers the codes, for the next `changed`."""
        found = {}
        for layer in ternary_layers(self.model):
            found[layer.name], self._codes[layer.name] = _measure(layer, self._codes[layer.name])
        return found


def _measure(layer: Any, before: np.ndarray) -> tuple[dict[str, float], np.ndarray]:
    assignment: Assignment = layer.assign()
    latent, codes = keras.ops.convert_to_numpy(layer.latent), assignment.codes
    missing = float("nan")
    ternary = layer.method.is_ternary
    row = {
        "zeros": assignment.sparsity,
        "entropy": assignment.entropy,
        "w_n": assignment.scale_neg if ternary else missing,
        "w_p": assignment.scale_pos if ternary else missing,
        # Where the boundaries lie in effect: the innermost weights that are not zero.
        "threshold_n": float(-latent[codes < 0].max()) if (codes < 0).any() else missing,
        "threshold_p": float(latent[codes > 0].min()) if (codes > 0).any() else missing,
        # The one in force: a schedule or a target sparsity moves it.
        "entropy_gain": (
            float(layer.method.current_gain(layer.state))
            if isinstance(layer.method, EC2T)
            else missing
        ),
        "changed": float(np.mean(codes != before)),
    }
    return row, codes


class CSVLogger(_Watch):
    """A row for each layer and epoch: epoch, layer, and the columns of `COLUMNS`.

    `zeros` and `changed` (since the epoch before) are shares, `entropy` bits per weight, `w_n`,
    `w_p` and the thresholds magnitudes in the unit of the weights; nan where a method has no such
    value.

    Args:
      path: file to write; an existing one is replaced.

    Raises:
      OSError: the file cannot be written (when training begins).
      ValueError: the model has no ternary layer (when training begins).
    """

    def __init__(self, path: str | os.PathLike) -> None:
        super().__init__()
        self.path = Path(path)

    def on_train_begin(self, logs: dict | None = None) -> None:
        super().on_train_begin(logs)
        self._text = io.StringIO(newline="")
        self._write([["epoch", "layer", *COLUMNS]])

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        rows = self.measure().items()
        self._write([[epoch, name, *(row[column] for column in COLUMNS)] for name, row in rows])

    def _write(self, rows: list[list]) -> None:
        """The file anew with more rows: it is small, and so it is whole at any moment."""
        csv.writer(self._text).writerows(rows)
        files.write_text(self.path, self._text.getvalue())


class TensorBoard(_Watch):
    """The columns of `CSVLogger` as scalars, and a histogram of each layer's latent weights.

    TensorFlow writes the files, on every backend.

    Args:
      log_dir: folder for the event files, created if missing.

    Raises:
      ValueError: the model has no ternary layer (when training begins).
    """

    def __init__(self, log_dir: str | os.PathLike) -> None:
        super().__init__()
        self.log_dir = os.fspath(log_dir)

    def on_train_begin(self, logs: dict | None = None) -> None:
        super().on_train_begin(logs)
        import tensorflow as tf

        self._writer = tf.summary.create_file_writer(self.log_dir)

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        rows = self.measure()
        with self._writer.as_default():
            for layer in ternary_layers(self.model):
                for column, value in rows[layer.name].items():
                    if np.isfinite(value):
                        _write(f"{layer.name}/{column}", value, plugin="scalars", step=epoch)
                latent = keras.ops.convert_to_numpy(layer.latent)
                _histogram(f"{layer.name}/latent", latent, step=epoch)

    def on_train_end(self, logs: dict | None = None) -> None:
        self._writer.close()


def _histogram(name: str, values: np.ndarray, *, step: int, buckets: int = 30) -> None:
    """A histogram as TensorBoard's plugin reads it: rows of (left, right, count)."""
    counts, edges = np.histogram(values.astype(np.float64), bins=buckets)
    table = np.stack([edges[:-1], edges[1:], counts], axis=1)
    _write(name, table, plugin="histograms", step=step)


def _write(name: str, value: float | np.ndarray, *, plugin: str, step: int) -> None:
    """What `tf.summary.scalar` and `histogram` write, which ask for TensorBoard to be installed."""
    import tensorflow as tf

    metadata = tf.compat.v1.SummaryMetadata()
    metadata.plugin_data.plugin_name = plugin
    tf.summary.write(name, np.asarray(value), step=step, metadata=metadata)
