"""A trained model to an int8 `.tflite` file, with its promises asserted on the result."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ec2t_tf import files, lazy, progress
from ec2t_tf.export.file_formats import FORMATS, plain
from ec2t_tf.export.graph import Graph, Operator, Signature, Tensor
from ec2t_tf.export.graph.ternary import is_ternary, kernel_of
from ec2t_tf.export.reports import layer_name
from ec2t_tf.export.tflite import read, write

if TYPE_CHECKING:
    import keras
    import tensorflow as tf
    import tf_keras

    from ec2t_tf.export.mcu import Report

FLOAT_DTYPES = ("float32", "float16", "float64")
IO_DTYPES = ("float32", "int8")


class ConversionError(RuntimeError):
    """The TensorFlow Lite converter made something else than was promised."""


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
) -> Path:
    """Write a model as a TensorFlow Lite file and check what was written.

    Weights and activations are int8, biases int32; batch normalisation is folded into the scale of
    each output channel, so a ternary layer keeps at most three codes a channel.

    Args:
      model: what `ec2t_tf.apply` returned, trained; or a plain model of Keras 3 or tf_keras such
        as `ec2t_tf.strip` returns, which needs `representative_data`. A Keras 3 model needs no
        TensorFlow.
      path: file to write.
      format: "int8"; or, written from that file after its check, another name of
        `ec2t_tf.export.file_formats.FORMATS`: "sparse" (TensorFlow Lite's sparse tensors), "int4"
        (weights of 4 bits; needs levels whose ratio is k/7), "packed" (operators of
        `ec2t_tf.export.Interpreter`), "download" (range-coded; `unpack` turns it back), "tflm"
        (weights behind TensorFlow Lite Micro's DECODE operators).
      representative_data: float32 arrays (one input each, with or without the batch axis), about
        100 of them, from which the ranges of activations are measured that training has not learnt.
      io_dtype: "float32" (the file quantises its input and dequantises its output) or "int8".
      allow_float: accept float operators of the layers that `apply` left float, and of no others.
        Of a Keras 3 model they are always accepted: `apply` said which.

    Returns:
      The path.

    Raises:
      ValueError: an option is unknown, `representative_data` is missing, or a weight, a range of
        activations or a statistic of the model is NaN or infinite.
      NoRuleError: a ValueError; a layer of a Keras 3 model has no rule that writes it.
      ConversionError: the converter made something else than promised of a tf_keras model; the
        message names the tensor. No file is written then.
      OSError: the file cannot be written.
    """
    if format not in FORMATS:
        raise ValueError(f"format must be one of {tuple(FORMATS)}. Received: format='{format}'.")
    if io_dtype not in IO_DTYPES:
        raise ValueError(f"io_dtype must be one of {IO_DTYPES}. Received: '{io_dtype}'.")
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(
            f"path must lie in an existing folder. Received: '{path}'. Create '{path.parent}'."
        )
    if hasattr(model, "weights"):
        _require_finite_variables(model)
    if _is_keras_3(model):
        from ec2t_tf.export.lower import graph_of

        with progress.working("converting"):
            graph = graph_of(model, representative_data=representative_data, io_dtype=io_dtype)
        files.write_bytes(path, FORMATS[format].write(write(graph))[0])
        return path
    with lazy.needed_by("ec2t_tf.export.to_tflite"):
        import tf_keras

        from ec2t_tf.tfmot import wrapper
        from ec2t_tf.tfmot.quantize_config import ternary_layers
    if not isinstance(model, tf_keras.Model) or not model.built:
        raise ValueError(
            "to_tflite requires a built model of Keras 3 or tf_keras. "
            f"Received: {type(model).__name__}."
        )
    trained_ranges = wrapper.is_quantised(model)
    if not trained_ranges and representative_data is None:
        raise ValueError(
            "A model without quantize-aware training needs representative_data, about 100 typical "
            f"inputs, to measure the ranges of its activations. Received: '{model.name}' and None. "
            "Pass the data, or export the model that ec2t_tf.apply returned."
        )
    with progress.working("converting"):
        content = write(_named(read(_convert(model, representative_data, io_dtype)), model))
    ternary = [layer for layer in ternary_layers(model) if layer.assign().levels.shape[-1] <= 3]
    left_float = wrapper.left_float(model) if allow_float else []
    check_int8(content, ternary_kernels=len(ternary), float_layers=left_float)
    files.write_bytes(path, FORMATS[format].write(content)[0])
    return path


def _is_keras_3(model: Any) -> bool:
    keras = sys.modules.get("keras")
    return keras is not None and isinstance(model, keras.Model)


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
      ConversionError: see `to_tflite`.
    """
    from ec2t_tf.export import mcu

    if not isinstance(model, bytes | str | os.PathLike):
        with tempfile.TemporaryDirectory() as scratch:
            file = Path(scratch, "int8.tflite")
            to_tflite(model, file, representative_data=representative_data, io_dtype="int8")
            content = file.read_bytes()
    else:
        content = plain(model if isinstance(model, bytes) else Path(model).read_bytes())
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


def _require_finite_variables(model: keras.Model | tf_keras.Model) -> None:
    """NaN has no code, and the converter crashes; one NaN pixel in training is enough."""
    for variable in model.weights:
        values = np.asarray(variable)
        if values.dtype.kind not in "iub" and not np.isfinite(values.astype(np.float64)).all():
            raise ValueError(
                "to_tflite requires finite weights, ranges and statistics. Received: "
                f"{np.isnan(values.astype(np.float64)).sum()} NaN and "
                f"{np.isinf(values.astype(np.float64)).sum()} infinite of {values.size} values in "
                f"'{variable.name}'. Train from a checkpoint before it, without the inputs that "
                "hold NaN."
            )


def _convert(
    model: tf_keras.Model, representative_data: RepresentativeData | None, io_dtype: str
) -> bytes:
    import tensorflow as tf

    from ec2t_tf.tfmot import scheme
    from ec2t_tf.tfmot.exporting import constant_weights

    model = scheme.in_float32(model)
    # The converter sorts inputs and outputs by name.
    signature = [
        tf.TensorSpec((1, *x.shape[1:]), x.dtype, name=f"input_{number:04d}")
        for number, x in enumerate(model.inputs)
    ]
    if any(None in spec.shape for spec in signature):
        raise ValueError(
            "to_tflite requires a model whose inputs have fixed sizes. "
            f"Received: '{model.name}' with inputs {[tuple(x.shape) for x in model.inputs]}."
        )

    @tf.function
    def inference(*inputs: tf.Tensor) -> dict[str, tf.Tensor]:
        outputs = model(inputs[0] if len(inputs) == 1 else list(inputs), training=False)
        return {f"output_{n:04d}": one for n, one in enumerate(tf.nest.flatten(outputs))}

    with constant_weights():
        concrete = inference.get_concrete_function(*signature)
    # A bare holder of the variables: given the model, the converter would trace every layer again.
    variables = tf.Module()
    variables.held = model.variables
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete], variables)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.inference_input_type = converter.inference_output_type = getattr(tf, io_dtype)
    if representative_data is not None:
        converter.representative_dataset = lambda: _batches_of_one(representative_data, signature)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    return converter.convert()


def _named(graph: Graph, model: tf_keras.Model) -> Graph:
    """The converter's graph with inputs and outputs in the model's order, and by its names."""
    names = (list(model.input_names), list(model.output_names))
    found = [(one.inputs, one.outputs) for one in graph.signatures]
    if len(found) != 1 or [len(ends) for ends in found[0]] != [len(ends) for ends in names]:
        raise ConversionError(
            f"The file must have one signature with the model's inputs {names[0]} and outputs "
            f"{names[1]}. Received: {graph.signatures}."
        )
    ends = [tuple(indices[key] for key in sorted(indices)) for indices in found[0]]
    graph.inputs, graph.outputs = ends
    for named, indices in zip(names, ends, strict=True):
        for name, index in zip(named, indices, strict=True):
            graph.tensors[index].name = name
    graph.signatures = []
    if max(map(len, names)) > 1:
        maps = (dict(zip(n, i, strict=True)) for n, i in zip(names, ends, strict=True))
        graph.signatures = [Signature("serving_default", *maps)]
    return graph


def _batches_of_one(data: RepresentativeData, signature: list[tf.TensorSpec]) -> Iterable[list]:
    for example in data() if callable(data) else data:
        arrays = example if isinstance(example, list | tuple) else [example]
        if not all(np.isfinite(np.asarray(array, np.float32)).all() for array in arrays):
            raise ValueError("representative_data must be finite. Received: NaN or infinity in it.")
        yield [
            np.asarray(array, np.float32).reshape(spec.shape)
            for array, spec in zip(arrays, signature, strict=True)
        ]


def _require_bias_that_fits(
    graph: Graph, operator: Operator, kernel: str, channels: np.ndarray
) -> None:
    """The converter saturates a bias beyond int32, and kernels do not look for overflows."""
    bias = graph.tensors[operator.inputs[2]] if len(operator.inputs) > 2 else None
    if bias is None or operator.inputs[2] < 0 or bias.data is None or bias.dtype != "int32":
        return
    products = 255 * np.abs(channels.astype(np.int64)).sum(axis=1)
    sums = np.abs(bias.data.reshape(-1).astype(np.int64)) + products
    if sums.max() >= 2**31:
        channel = int(sums.argmax())
        unit = float(bias.scale[min(channel, len(bias.scale) - 1)])
        raise ConversionError(
            f"The bias of layer '{layer_name(kernel)}' does not fit into its int32 sum. Received: "
            f"{int(bias.data.reshape(-1)[channel]) * unit:.6g} or beyond in output channel "
            f"{channel}, where a step is {unit:.6g}. Train on with smaller biases, or scale the "
            "layer's input."
        )


def check_int8(content: bytes, *, ternary_kernels: int, float_layers: Sequence[str] = ()) -> None:
    """Assert that every weight is int8, nothing inside is float, and ternary layers are ternary.

    Args:
      ternary_kernels: how many kernels must be ternary, see `is_ternary`.
      float_layers: names of the Keras layers whose operators and weights may be float.

    Raises:
      ConversionError: naming the first tensor that is not as promised.
      FileError: the file is damaged.
    """
    graph = read(content)

    def tensors_of(operator: Operator) -> list[Tensor]:
        return [graph.tensors[i] for i in (*operator.inputs, *operator.outputs) if i >= 0]

    def may_be_float(operator: Operator) -> bool:
        floats = [tensor for tensor in tensors_of(operator) if tensor.dtype in FLOAT_DTYPES]
        parts = re.split("[/;]", ";".join(tensor.name for tensor in floats))
        return operator.kind in ("QUANTIZE", "DEQUANTIZE") or bool({*parts} & {*float_layers})

    for operator in graph.operators:
        for tensor in tensors_of(operator):
            if tensor.dtype in FLOAT_DTYPES and not may_be_float(operator):
                raise ConversionError(
                    f"An int8 file must have no float operator inside. Received: {operator.kind} "
                    f"with the {tensor.dtype.upper()} tensor '{tensor.name}'. The converter could "
                    "not quantise that layer: replace it, or pass allow_float=True if apply left "
                    "it float."
                )
    _check_kernels(graph, ternary_kernels, may_be_float)


def _check_kernels(
    graph: Graph, ternary_kernels: int, may_be_float: Callable[[Operator], bool]
) -> None:
    dense, ternary = [], 0
    for operator in graph.operators:
        found = kernel_of(graph, operator)
        if found is None:
            continue
        _, tensor, channels = found
        if tensor.dtype != "int8" and not may_be_float(operator):
            raise ConversionError(
                f"Every weight must be int8. Received: {tensor.dtype.upper()} in '{tensor.name}'."
            )
        _require_bias_that_fits(graph, operator, tensor.name, channels)
        if is_ternary(channels):
            ternary += 1
        else:
            dense.append(tensor.name)
    if ternary < ternary_kernels:
        raise ConversionError(
            f"{ternary_kernels} kernels must have at most three codes in each output channel, one "
            f"of them zero. Received {ternary}; more codes are in {dense}."
        )
