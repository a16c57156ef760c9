"""Does the file say what training said? The same inputs through Keras, LiteRT and our runtime."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import tf_keras


@dataclasses.dataclass(frozen=True)
class Verification:
    """Keras against the interpreter, over all outputs of all inputs.

    Attributes:
      inputs: number of inputs compared.
      steps: histogram {difference in output steps: number of output values}; one step is the
        quantisation step of the file's output.
      agreement: share of inputs with the same largest output (top-1), 0 to 1.
      step: size of one output step in the output's unit.
    """

    inputs: int
    steps: dict[int, int]
    agreement: float
    step: float

    @property
    def largest_difference(self) -> int:
        """Largest difference, in output steps."""
        return max(self.steps)

    def __str__(self) -> str:
        values = sum(self.steps.values())
        shown = {str(n): self.steps.get(n, 0) for n in range(3)}
        shown["more"] = values - sum(shown.values())
        shares = ", ".join(f"{n} off: {100 * c / values:.3f} %" for n, c in shown.items() if c)
        return (
            f"{self.inputs} inputs: at most {self.largest_difference} output steps of "
            f"{self.step:.6g} off ({shares}); top-1 agreement {100 * self.agreement:.2f} %"
        )


def verify(
    model: tf_keras.Model, path: str | os.PathLike, data: np.ndarray, *, batch_size: int = 256
) -> Verification:
    """Compare a Keras model with its `.tflite` file in the ai-edge-litert interpreter.

    Args:
      model: the model that was exported; one input, one output of shape (batch, classes).
      path: the file.
      data: float32 (count, *input_shape), inputs as the model takes them.

    Raises:
      ValueError: no data, or of another shape than the file's input.
    """
    data = np.asarray(data, np.float32)
    expected = model.predict(data, batch_size=batch_size, verbose=0) if len(data) else data
    actual, step = run(path, data)
    return compare(expected, actual, step)


def compare(expected: np.ndarray, actual: np.ndarray, step: float) -> Verification:
    """Two arrays of float32 outputs (count, ...), their difference in steps."""
    # The interpreter's outputs are whole steps; so are Keras's, up to the rounding of floats.
    difference = np.rint(np.abs(expected - actual) / step).astype(np.int64)
    steps, counts = np.unique(difference, return_counts=True)
    flat = (len(expected), -1)
    same = expected.reshape(flat).argmax(axis=1) == actual.reshape(flat).argmax(axis=1)
    return Verification(
        inputs=len(expected),
        steps=dict(zip(steps.tolist(), counts.tolist(), strict=True)),
        agreement=float(same.mean()),
        step=step,
    )


def verify_files(
    reference: tf_keras.Model | str | os.PathLike,
    paths: Sequence[str | os.PathLike],
    data: np.ndarray | None = None,
    *,
    inputs: int = 64,
) -> dict[str, Verification]:
    """Compare files of one net, in every runtime that takes them, with a model or another file.

    Args:
      reference: a Keras model, or a `.tflite` file for the stock interpreter.
      paths: `.tflite` files and files of format "download".
      data: float32 (count, *input_shape); None for random inputs, which tell whether the arithmetic
        agrees but nothing about accuracy.
      inputs: how many random ones.

    Returns:
      By file and runtime: "LiteRT" (not for custom operators) and "ec2t_tf".

    Raises:
      ValueError: a file cannot be loaded, or the data does not fit.
    """
    from ec2t_tf.export.tflite import unpack
    from ec2t_tf.export.tflite.download import is_download

    if isinstance(reference, str | os.PathLike):
        if data is None:
            shape = _interpreter(reference, "LiteRT").get_input_details()[0]["shape"][1:]
            data = _random_inputs(inputs, shape)
        expected, _ = run(reference, data)
    else:
        if data is None:
            data = _random_inputs(inputs, reference.input_shape[1:])
        expected = reference.predict(data, batch_size=256, verbose=0)
    results = {}
    for path in paths:
        content = Path(path).read_bytes()
        with tempfile.TemporaryDirectory() as folder:
            file = Path(path)
            if is_download(content):
                file = Path(folder) / "unpacked.tflite"
                file.write_bytes(unpack(content, to="packed"))
            custom = b"EC2T." in file.read_bytes()
            for runtime in ("ec2t_tf",) if custom else RUNTIMES:
                results[f"{path} in {runtime}"] = compare(expected, *run(file, data, runtime))
    return results


def _random_inputs(count: int, shape: Sequence[int]) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, *shape)).astype(np.float32)


RUNTIMES = ("LiteRT", "ec2t_tf")


def _interpreter(path: str | os.PathLike, runtime: str) -> Any:
    from ai_edge_litert import interpreter as litert

    from ec2t_tf.export.litert import Interpreter

    make = litert.Interpreter if runtime == "LiteRT" else Interpreter
    try:
        interpreter = make(model_path=str(path))
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"'{path}' cannot be loaded by the interpreter: {error}") from error
    return interpreter


def run(
    path: str | os.PathLike, data: np.ndarray, runtime: str = "LiteRT"
) -> tuple[np.ndarray, float]:
    """Outputs of a `.tflite` file as float32 (count, *output_shape), and the size of one step.

    Args:
      runtime: "LiteRT" or "ec2t_tf".

    Raises:
      ValueError: the file cannot be loaded, or the data does not fit its input.
    """
    interpreter = _interpreter(path, runtime)
    (entry,), (result,) = interpreter.get_input_details(), interpreter.get_output_details()
    shape = tuple(entry["shape"][1:])
    if len(data) == 0 or tuple(data.shape[1:]) != shape:
        raise ValueError(
            f"data must have shape (count, {', '.join(map(str, shape))}) with at least one input. "
            f"Received: {tuple(data.shape)}."
        )
    outputs = []
    for example in data:
        value = example[None]
        if entry["dtype"] == np.int8:
            scale, zero_point = entry["quantization"]
            value = np.clip(np.rint(value / np.float32(scale)) + zero_point, -128, 127)
        interpreter.set_tensor(entry["index"], value.astype(entry["dtype"]))
        interpreter.invoke()
        outputs.append(interpreter.get_tensor(result["index"])[0])
    stacked = np.stack(outputs)
    if result["dtype"] == np.int8:
        scale, zero_point = result["quantization"]
        return (stacked.astype(np.float32) - zero_point) * np.float32(scale), float(scale)
    return stacked, _output_step(path, result["index"])


def _output_step(path: str | os.PathLike, output: int) -> float:
    """Step of the int8 tensor that the final DEQUANTIZE reads."""
    from ec2t_tf.export.tflite_file import TFLiteFile

    for operator in TFLiteFile(Path(path).read_bytes()).operators:
        if operator.name == "DEQUANTIZE" and operator.outputs[0].index == output:
            return float(operator.inputs[0].scales[0])
    raise ValueError(
        f"'{path}' must end in an int8 tensor or its DEQUANTIZE. Received: a float output."
    )
