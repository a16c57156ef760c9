"""A trained model to an int8 `.tflite` file, or to C."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ec2t_tf import files, progress
from ec2t_tf.export.file_formats import FORMATS, plain
from ec2t_tf.export.tflite import write

if TYPE_CHECKING:
    import keras
    import tf_keras

    from ec2t_tf.export.mcu import Report

IO_DTYPES = ("float32", "int8")
Example = np.ndarray | Sequence[np.ndarray]
RepresentativeData = Iterable[Example] | Callable[[], Iterable[Example]]


def to_tflite(
    model: keras.Model | tf_keras.Model,
    path: str | os.PathLike,
    *,
    format: str = "int8",
    representative_data: RepresentativeData | None = None,
    io_dtype: str = "float32",
    allow_float: bool = False,
    **options: Any,
) -> Path:
    """Write a model as a TensorFlow Lite file.

    Weights and activations are int8, biases int32; batch normalisation is folded into the scale of
    each output channel, so a ternary layer keeps at most three codes a channel.

    Args:
      model: what `ec2t_tf.apply` returned, trained; or a plain model of Keras 3 or tf_keras such
        as `ec2t_tf.strip` returns, which needs `representative_data`.
      path: file to write.
      format: "int8"; or, written from that file, another name of
        `ec2t_tf.export.file_formats.FORMATS`: "sparse" (TensorFlow Lite's sparse tensors), "int4"
        (weights of 4 bits; needs levels whose ratio is k/7), "packed" (operators of
        `ec2t_tf.export.Interpreter`), "download" (range-coded; `unpack` turns it back), "tflm"
        (weights behind TensorFlow Lite Micro's DECODE operators).
      representative_data: float32 arrays (one input each, with or without the batch axis), about
        100 of them, from which the ranges of activations are measured that training has not learnt.
      io_dtype: "float32" (the file quantises its input and dequantises its output) or "int8".
      allow_float: deprecated; what `apply` left float, and said so, is float in the file.
      options: of the format. "packed" and "download" take `optimize`: "size" (the default) stores
        layers as streams that are expanded when the file is opened, "speed" as blobs that are read
        in place, "download" as streams whatever their size; and `names=False`, which leaves out
        the names of tensors and signatures. These two and "int8": `round_within`, how many steps
        of its output (1/256 to 1) a layer may be off: its scales and biases keep the digits that
        needs, and the file is smaller; without it all digits stay. "tflm": `streams` and
        `negative_scales` of `to_tflm`.

    Returns:
      The path.

    Raises:
      ValueError: an option is unknown, `representative_data` is missing, or a weight, a range of
        activations or a statistic of the model is NaN or infinite.
      NoRuleError: a ValueError; a layer has no rule that writes it. `apply` has said so before.
      OSError: the file cannot be written.
    """
    if format not in FORMATS:
        raise ValueError(f"format must be one of {tuple(FORMATS)}. Received: format='{format}'.")
    FORMATS[format].require_options(options)
    if io_dtype not in IO_DTYPES:
        raise ValueError(f"io_dtype must be one of {IO_DTYPES}. Received: '{io_dtype}'.")
    if not isinstance(path, str | os.PathLike):
        raise TypeError(
            "to_tflite(model, path) requires the path of the file to write. "
            f"Received: path of type {type(path).__name__}."
        )
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(
            f"path must lie in an existing folder. Received: '{path}'. Create '{path.parent}'."
        )
    if allow_float:
        warnings.warn(
            "allow_float goes with the next release: what apply left float is float in the file.",
            DeprecationWarning,
            stacklevel=2,
        )
    from ec2t_tf import doors

    if doors.of(model) is None or not model.built:
        raise ValueError(
            "to_tflite requires a built model of Keras 3 or tf_keras. "
            f"Received: {type(model).__name__}."
        )
    from ec2t_tf.export.lower import graph_of

    with progress.working("converting"):
        graph = graph_of(model, representative_data=representative_data, io_dtype=io_dtype)
    files.write_bytes(path, FORMATS[format].write(write(graph), **options)[0])
    return path


def to_c(
    model: keras.Model | tf_keras.Model | bytes | str | os.PathLike,
    folder: str | os.PathLike,
    *,
    representative_data: RepresentativeData | None = None,
    core: str = "generic",
    name: str = "model",
    optimize: str = "balanced",
    example: bool = False,
    measure: bool = False,
    stream: bool = False,
    board: str | None = None,
) -> Report:
    """Write a net as freestanding C for a microcontroller: a model, or an int8 .tflite file.

    Args:
      model: what `to_tflite` takes, or the bytes or path of a file of any of the file formats.
      folder: where to write; made if missing.
      representative_data: as in `to_tflite`, of which a file has no need.
      core, name, optimize, example, measure, stream, board: see `ec2t_tf.export.mcu.to_c`.

    Returns:
      What was written: layers, bytes of constants, bytes of arena. Prints as a table.

    Raises:
      ValueError: an option is unknown, or the net holds something the exporter does not support.
    """
    from ec2t_tf.export import mcu

    if not isinstance(model, bytes | str | os.PathLike):
        with tempfile.TemporaryDirectory() as scratch:
            file = Path(scratch, "int8.tflite")
            to_tflite(model, file, representative_data=representative_data, io_dtype="int8")
            content = file.read_bytes()
    else:
        content = plain(files.content(model, needed_by="to_c"))
    return mcu.to_c(
        content,
        folder,
        core=core,
        name=name,
        optimize=optimize,
        example=example,
        measure=measure,
        stream=stream,
        board=board,
    )
