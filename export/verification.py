"""Does the file say what training said? The same inputs through Keras, LiteRT and our runtime."""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ec2t_tf import files, progress

from . import running
from .file_formats import plain, runtimes_of, unpack
from .file_formats.download import is_download
from .file_formats.packed import is_packed, layer_of
from .graph import Graph
from .graph.ternary import kernel_of
from .tflite.reader import read

if TYPE_CHECKING:
    import tf_keras

# Where bits are not promised: the share of values, and of inputs, that must agree.
SHARE = 0.99


@dataclasses.dataclass(frozen=True)
class Difference:
    """One output of two nets.

    Attributes:
      steps: histogram {difference in output steps: number of output values}; one step is the
        quantisation step of the file's output.
      step: size of one output step in the output's unit.
      agreement: share of inputs with the same largest output (top-1), 0 to 1.
      clear_agreement: the same, with inputs whose two largest outputs are one step apart or less
        counted as agreeing.
    """

    steps: dict[int, int]
    step: float
    agreement: float
    clear_agreement: float

    def share_within(self, steps: int) -> float:
        """Share of values at most `steps` off."""
        near = sum(count for step, count in self.steps.items() if step <= steps)
        return near / sum(self.steps.values())


@dataclasses.dataclass(frozen=True)
class Verification:
    """Two nets, over all outputs of all inputs.

    Attributes:
      inputs: number of inputs compared.
      outputs: by name of the output.
      exact: whether the two promise the same bits: files of one net in interpreters that round
        alike. A Keras model and its file promise to be close.
      instead: why exact integers stand for the runtime of the file; "" where it ran.
    """

    inputs: int
    outputs: dict[str, Difference]
    exact: bool = False
    instead: str = ""

    @property
    def steps(self) -> dict[int, int]:
        """Histogram of differences over all outputs."""
        total: dict[int, int] = {}
        for output in self.outputs.values():
            for step, count in output.steps.items():
                total[step] = total.get(step, 0) + count
        return dict(sorted(total.items()))

    @property
    def agreement(self) -> float:
        """Share of inputs with the same largest output, of the output that agrees least."""
        return min(output.agreement for output in self.outputs.values())

    @property
    def step(self) -> float:
        """Step of the first output."""
        return next(iter(self.outputs.values())).step

    @property
    def largest_difference(self) -> int:
        """Largest difference, in output steps."""
        return max(self.steps)

    def passes(self, *, most_steps: int = 1) -> bool:
        """Whether the two agree as they promise: in all bits; or else, in each output, in 99 % of
        the values (at most `most_steps` off) and of the inputs' clear top-1."""
        if self.exact:
            return self.largest_difference == 0
        return all(
            output.share_within(most_steps) >= SHARE and output.clear_agreement >= SHARE
            for output in self.outputs.values()
        )

    def __str__(self) -> str:
        computed = f" (computed in {running.EXACT}: {self.instead})" if self.instead else ""
        if self.exact and self.largest_difference == 0:
            return f"{self.inputs} inputs: equal bit for bit, as promised{computed}"
        promise = "; the same bits are promised" if self.exact else ""
        parts = [_in_words(name, one) for name, one in self.outputs.items()]
        if len(parts) == 1:
            parts = [parts[0].partition(": ")[2]]
        return f"{self.inputs} inputs: " + " | ".join(parts) + promise + computed


def _in_words(name: str, output: Difference) -> str:
    values = sum(output.steps.values())
    shown = {str(n): output.steps.get(n, 0) for n in range(3)}
    shown["more"] = values - sum(shown.values())
    shares = ", ".join(f"{n} off: {100 * c / values:.3f} %" for n, c in shown.items() if c)
    return (
        f"{name}: at most {max(output.steps)} output steps of {output.step:.6g} off ({shares}); "
        f"top-1 agreement {100 * output.agreement:.2f} %"
    )


def compare(expected: np.ndarray, actual: np.ndarray, step: float | None) -> Difference:
    """Two arrays of float32 outputs (count, ...), their difference in steps.

    Args:
      step: of the output; None for a 255th of the range of `expected`.

    Raises:
      ValueError: the shapes differ, or an output is not a number.
    """
    if expected.shape != actual.shape:
        raise ValueError(
            f"outputs of one shape are required. Received: {expected.shape} and {actual.shape}."
        )
    if not (np.isfinite(expected).all() and np.isfinite(actual).all()):
        raise ValueError("outputs must be numbers. Received: NaN or infinity.")
    if not step:
        step = float(np.ptp(expected)) / 255 or 1.0
    # The interpreter's outputs are whole steps; so are Keras's, up to the rounding of floats.
    difference = np.rint(np.abs(expected.astype(np.float64) - actual) / step).astype(np.int64)
    steps, counts = np.unique(difference, return_counts=True)
    first, second = (array.reshape(len(array), -1) for array in (expected, actual))
    top = first.argmax(axis=1)
    same = top == second.argmax(axis=1)
    behind = second.max(axis=1) - second[np.arange(len(second)), top]
    return Difference(
        steps=dict(zip(steps.tolist(), counts.tolist(), strict=True)),
        step=step,
        agreement=float(same.mean()),
        clear_agreement=float((same | (behind <= 1.5 * step)).mean()),
    )


def verify(
    model: tf_keras.Model,
    path: str | os.PathLike,
    data: Any = None,
    *,
    inputs: int = 64,
    batch_size: int = 256,
) -> Verification:
    """Compare a Keras model with its file in an interpreter: LiteRT, or ours for packed files.

    Where that interpreter cannot be had, the file is computed in exact integers, which give the
    same bits; the result says so.

    Args:
      model: the model that was exported.
      path: the file, of any format; of "tflm" what its streams decode to is run in LiteRT.
      data: inputs as the model takes them: an array (count, *input_shape); a list of arrays for
        several inputs, in the model's order; a list of examples; a tf.data.Dataset, with labels or
        not. None for random ones that reach every code of the file's inputs.
      inputs: how many random ones.

    Raises:
      ValueError: no data, or of another shape than the file's inputs.
      TypeError: `model` is no model; files are compared by `verify_files`.
    """
    if not hasattr(model, "predict"):
        is_file = isinstance(model, bytes | str | os.PathLike)
        raise TypeError(
            "verify(model, path) requires a Keras model. "
            f"Received: {'a file' if is_file else type(model).__name__}. "
            "Compare files with export.verify_files(reference, [path, ...])."
        )
    content = _runnable(files.content(path, needed_by="verify"))
    graph = read(content)
    drawn = _inputs(graph, data, inputs)
    running.check_inputs(graph, drawn)
    runtime, instead = next(iter(_runtimes(content).items()))
    expected = _predicted(model, drawn, batch_size)
    actual = running.run(content, drawn, runtime)
    return dataclasses.replace(_compared(expected, actual, exact=False), instead=instead)


class Verifications(dict[str, Verification]):
    """What was compared, by name; printed as `ec2t verify` prints it."""

    def __str__(self) -> str:
        return "\n".join(f"{name}: {result}" for name, result in self.items())


def verify_files(
    reference: tf_keras.Model | str | os.PathLike,
    paths: Sequence[str | os.PathLike] | str | os.PathLike,
    data: Any = None,
    *,
    inputs: int = 64,
) -> Verifications:
    """Compare files of one net, in every runtime that takes them, with a model or another file.

    Args:
      reference: a Keras model, or a file.
      paths: one file or several, of any format; of "tflm" what their streams decode to is run.
      data: see `verify`; None for random inputs that reach every code of the first file's inputs,
        which tell whether the arithmetic agrees but nothing about accuracy.
      inputs: how many random ones.

    Returns:
      By file and runtime, a line each where they are printed: "LiteRT" (not for custom operators)
      and "ec2t_tf"; or "exact integers", where one of them cannot be had.

    Raises:
      ValueError: a file cannot be loaded, or the data does not fit.
      TypeError: something else than a model or files was given.
    """
    is_file = isinstance(reference, str | os.PathLike)
    if not (is_file or hasattr(reference, "predict")):
        raise TypeError(
            "verify_files requires a Keras model or the path of a file to compare with. "
            f"Received: {type(reference).__name__}."
        )
    if isinstance(paths, str | os.PathLike):
        paths = [paths]
    if not paths:
        raise ValueError("verify_files requires at least one file. Received: no paths.")
    sources = [reference, *paths] if is_file else list(paths)
    contents = [_runnable(files.content(path, needed_by="verify_files")) for path in sources]
    graphs = [read(content) for content in contents]
    drawn = _inputs(graphs[0], data, inputs)
    running.check_inputs(graphs[0], drawn)
    if is_file:
        first, *contents = contents
        original, *graphs = graphs
        runtime = next(iter(_runtimes(first)))
        expected: Sequence[Any] = running.run(first, drawn, runtime)
    else:
        expected = _predicted(reference, drawn, 256)
    results = Verifications()
    for path, content, graph in zip(paths, contents, graphs, strict=True):
        exact = is_file and same_net(original, graph)
        for runtime, instead in _runtimes(content).items():
            actual = running.run(content, drawn, runtime)
            compared = _compared(expected, actual, exact=exact)
            results[f"{path} in {runtime}"] = dataclasses.replace(compared, instead=instead)
    return results


def run(
    path: str | os.PathLike, data: Any, runtime: str = "LiteRT"
) -> tuple[np.ndarray, float | None]:
    """First output of a `.tflite` file as float32 (count, *output_shape), and the size of one step.

    Args:
      runtime: "LiteRT", "ec2t_tf" or "exact integers", which also stand for one that is missing.

    Raises:
      ValueError: the file cannot be loaded, or the data does not fit its input.
    """
    content = Path(path).read_bytes()
    output = running.run(content, _inputs(read(content), data, 0), runtime)[0]
    return output.values, output.step


def _runnable(content: bytes) -> bytes:
    """A file that an interpreter here takes; of one for TensorFlow Lite Micro what it decodes."""
    if is_download(content):
        return unpack(content, to="packed")
    return content if _runtimes(content) else plain(content)


def _runtimes(content: bytes) -> dict[str, str]:
    """What runs a file here, and for exact integers which runtime's place they take, and why."""
    found: dict[str, str] = {}
    for name in running.RUNTIMES:
        if name in runtimes_of(content):
            why = running.missing(name)
            found.setdefault(running.EXACT if why else name, why)
    return found


def _inputs(graph: Graph, data: Any, count: int) -> list[np.ndarray]:
    if data is None:
        return running.input_codes(graph, count)
    names = [graph.tensors[index].name for index in graph.inputs]
    if isinstance(data, list | tuple) and len(data) == len(names) == 1:
        of_batch = len(graph.tensors[graph.inputs[0]].shape)
        data = data[0] if np.ndim(data[0]) == of_batch else data  # as `fit` takes it
    return running.examples(data, len(names), names)


def _predicted(model: Any, inputs: list[np.ndarray], batch_size: int) -> list[np.ndarray]:
    keras = sys.modules.get("keras")
    functional = keras is not None and isinstance(model, keras.Model) and hasattr(model, "inputs")
    given: Any = inputs[0] if len(inputs) == 1 else inputs
    # Inputs may be a dict; a Sequential that was never called has no `input`, and one of them.
    if (
        keras is not None
        and functional
        and model.inputs
        and not isinstance(model, keras.Sequential)
    ):
        given = keras.tree.pack_sequence_as(model.input, inputs)
    with progress.working("running in Keras"):
        outputs = model.predict(given, batch_size=batch_size, verbose=0)
    if keras is not None and functional:
        return list(keras.tree.flatten(outputs))
    if isinstance(outputs, dict):
        outputs = [outputs[name] for name in getattr(model, "output_names", outputs)]
    return list(outputs) if isinstance(outputs, list | tuple) else [outputs]


def _compared(
    expected: Sequence[running.Output | np.ndarray], actual: list[running.Output], *, exact: bool
) -> Verification:
    """Outputs of a model (arrays) or of a file, and of a file."""
    if len(expected) != len(actual):
        raise ValueError(
            f"nets of as many outputs are required. Received: {len(expected)} and {len(actual)}."
        )
    outputs: dict[str, Difference] = {}
    for one, other in zip(expected, actual, strict=True):
        values = one.values if isinstance(one, running.Output) else np.asarray(one, np.float32)
        name = other.name if other.name not in outputs else f"{other.name} ({len(outputs)})"
        outputs[name] = compare(values, other.values, other.step)
    return Verification(len(actual[0].values), outputs, exact)


def same_net(first: Graph, second: Graph) -> bool:
    """Whether two files hold the same weights: then they are one net, stored in two ways."""
    pairs = zip(_kernels(first), _kernels(second), strict=False)
    return (
        sum(1 for _ in _kernels(first)) == sum(1 for _ in _kernels(second))
        and [_outside(first, i) for i in first.inputs]
        == [_outside(second, i) for i in second.inputs]
        and all(np.array_equal(one, other) for one, other in pairs)
    )


def _outside(graph: Graph, index: int) -> tuple[Any, ...]:
    """What an input looks like from outside."""
    tensor = graph.tensors[index]
    return tensor.shape, tensor.dtype, tensor.scale.tolist(), tensor.zero_point.tolist()


def _kernels(graph: Graph) -> Iterator[np.ndarray]:
    """Codes of the kernels, [channels, weights], in the order in which they run."""
    produced = {index: one for one in graph.operators for index in one.outputs}
    for operator in graph.operators:
        if is_packed(operator):
            weights = layer_of(graph, operator).weights
            yield weights.reshape(len(weights), -1)
            continue
        found = kernel_of(graph, operator)
        if found is not None:
            yield found[2]
        elif len(operator.inputs) > 1 and operator.inputs[1] in produced:
            densify = produced[operator.inputs[1]]
            data = graph.tensors[densify.inputs[0]].data if densify.kind == "DENSIFY" else None
            if data is not None:
                axis = data.ndim - 1 if operator.kind == "DEPTHWISE_CONV_2D" else 0
                yield np.moveaxis(data, axis, 0).reshape(data.shape[axis], -1)
