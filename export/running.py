"""Files run in interpreters: real inputs in, real outputs out, whatever types the file has."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ec2t_tf import progress, quiet

from . import integer
from .file_formats import plain
from .graph import Graph, Tensor
from .tflite.reader import read

RUNTIMES = ("LiteRT", "ec2t_tf")
EXACT = "exact integers"  # what takes the place of a runtime that is not here
_CODES = ("int8", "uint8", "int16")
Floats = npt.NDArray[np.float32]


@dataclasses.dataclass(frozen=True)
class Output:
    """One output of a net for all inputs.

    Attributes:
      name: of its tensor.
      values: float32 [count, ...].
      step: the size of one code of the output; None where the net computes it in float.
    """

    name: str
    values: Floats
    step: float | None


def run(content: bytes, inputs: Sequence[Floats], runtime: str = "LiteRT") -> list[Output]:
    """Outputs of a .tflite file for a list of inputs, in the file's order.

    State that an LSTM keeps is reset before each input; streaming state, in variables of the file,
    goes on from input to input as it would in use.

    Args:
      content: the file.
      inputs: for each input of the net float32 [count, *shape without the batch].
      runtime: "LiteRT" or "ec2t_tf"; "exact integers" computes the same bits without either, and
        does so for a runtime that is `missing`.

    Raises:
      ValueError: the file cannot be loaded, or the inputs do not fit it.
      NotExactError: without a runtime, an operator whose bits are not known.
    """
    graph = read(content)
    check_inputs(graph, inputs)
    interpreter = _interpreter(content, runtime, graph)
    entries, results = interpreter.get_input_details(), interpreter.get_output_details()
    resets = any(tensor.variable for tensor in graph.tensors)
    found: list[list[npt.NDArray[Any]]] = [[] for _ in results]
    for example in progress.bar(
        zip(*inputs, strict=True), f"running in {runtime}", total=len(inputs[0])
    ):
        if resets:
            interpreter.reset_all_variables()
        for entry, value in zip(entries, example, strict=True):
            interpreter.set_tensor(entry["index"], _coded(value[None], entry))
        try:
            interpreter.invoke()
        except RuntimeError as error:
            raise ValueError(
                "inputs that the net can take are required (tokens within its table, say). "
                f"{runtime} says of one: {str(error).splitlines()[0]}"
            ) from error
        for values, result in zip(found, results, strict=True):
            values.append(interpreter.get_tensor(result["index"])[0])
    return [
        _decoded(np.stack(values), result, _step(graph, index))
        for values, result, index in zip(found, results, graph.outputs, strict=True)
    ]


def check_inputs(graph: Graph, inputs: Sequence[Floats]) -> None:
    """Raises unless the inputs fit the net.

    Raises:
      ValueError: another number of inputs, other shapes, none at all, or NaN among them.
    """
    shapes = [graph.tensors[index].shape[1:] for index in graph.inputs]
    counts = {len(one) for one in inputs}
    if [tuple(one.shape[1:]) for one in inputs] != shapes or len(counts) != 1 or counts == {0}:
        wanted = ", ".join(str(("count", *shape)).replace("'", "") for shape in shapes)
        raise ValueError(
            f"data must have shape {wanted}, with at least one input. "
            f"Received: {', '.join(str(tuple(one.shape)) for one in inputs)}."
        )
    for one in inputs:  # no quantised net has a code for NaN
        bad = np.flatnonzero(~np.isfinite(one.reshape(len(one), -1)).all(axis=1))
        if len(bad):
            raise ValueError(
                f"data must be finite. Received: NaN or infinity in {len(bad)} of {len(one)} "
                f"inputs, the first one number {bad[0]}. Leave them out."
            )


def missing(runtime: str) -> str:
    """Why a runtime is not on this machine, in words; "" if it is."""
    try:
        importlib.import_module("ai_edge_litert.interpreter")
    except ImportError:
        return "LiteRT's interpreter cannot be imported here"
    if runtime == "ec2t_tf":
        from .litert import library

        try:
            library.path()
        except FileNotFoundError:
            return "the native library of ec2t_tf was not built"
    return ""


def _interpreter(content: bytes, runtime: str, graph: Graph) -> Any:
    if runtime == EXACT or missing(runtime):
        return _ExactIntegers(content)
    from ai_edge_litert import interpreter as litert

    from .litert import Interpreter
    from .litert.requirements import require_biases

    if runtime == "LiteRT":  # our Interpreter does so itself
        require_biases(graph)
    make = litert.Interpreter if runtime == "LiteRT" else Interpreter
    try:
        with quiet.starting():
            interpreter = make(model_content=content)
            interpreter.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"the file cannot be loaded by {runtime}: {error}") from error
    return interpreter


class _ExactIntegers:
    """`integer.Interpreter` in the words of LiteRT's, and in its default rounding."""

    def __init__(self, content: bytes) -> None:
        self._graph = read(plain(content))
        self._net = integer.Interpreter(self._graph, rounding="xnnpack")
        self._given: dict[int, npt.NDArray[Any]] = {}
        self._found: dict[int, npt.NDArray[Any]] = {}

    def get_input_details(self) -> list[dict[str, Any]]:
        return [self._details(index) for index in self._graph.inputs]

    def get_output_details(self) -> list[dict[str, Any]]:
        return [self._details(index) for index in self._graph.outputs]

    def _details(self, index: int) -> dict[str, Any]:
        tensor = self._graph.tensors[index]
        quantisation = (0.0, 0)
        if tensor.scale.size == 1:
            quantisation = (float(tensor.scale[0]), int(tensor.zero_point[0]))
        return {
            "index": index,
            "name": tensor.name,
            "dtype": np.dtype(tensor.dtype),
            "quantization": quantisation,
        }

    def reset_all_variables(self) -> None:
        self._net.reset()

    def set_tensor(self, index: int, value: npt.NDArray[Any]) -> None:
        shape = self._graph.tensors[index].shape
        self._given[index] = value if shape[:1] == (1,) else value.reshape(1, *shape)

    def invoke(self) -> None:
        values = self._net(*(self._given[index] for index in self._graph.inputs))
        values = values if isinstance(values, list) else [values]
        self._found = dict(zip(self._graph.outputs, values, strict=True))

    def get_tensor(self, index: int) -> npt.NDArray[Any]:
        return self._found[index].reshape(self._graph.tensors[index].shape)


def _coded(value: Floats, entry: dict[str, Any]) -> npt.NDArray[Any]:
    """A real value as the type of an input."""
    dtype = np.dtype(entry["dtype"])
    scale, zero_point = entry["quantization"]
    if np.issubdtype(dtype, np.integer) and scale:
        limits = np.iinfo(dtype)
        value = np.clip(np.rint(value / np.float32(scale)) + zero_point, limits.min, limits.max)
    return value.astype(dtype)


def _decoded(values: npt.NDArray[Any], result: dict[str, Any], step: float | None) -> Output:
    scale, zero_point = result["quantization"]
    if np.issubdtype(values.dtype, np.integer) and scale:
        values = (values.astype(np.float32) - zero_point) * np.float32(scale)
        step = float(scale)
    elif values.dtype == bool or np.issubdtype(values.dtype, np.integer):
        step = 1.0
    return Output(result["name"], values.astype(np.float32), step)


def _step(graph: Graph, output: int) -> float | None:
    """Step of the int8 tensor that the final DEQUANTIZE reads."""
    for operator in graph.operators:
        if operator.kind == "DEQUANTIZE" and operator.outputs[0] == output:
            source = graph.tensors[operator.inputs[0]]
            return float(source.scale[0]) if source.scale.size == 1 else None
    return None


def input_codes(graph: Graph, count: int, *, seed: int = 0) -> list[Floats]:
    """Random inputs that reach all codes of a net's inputs, each as often: float32 [count, ...].

    An input in float is drawn from the codes of the QUANTIZE that reads it; without one it is
    normally distributed.
    """
    rng = np.random.default_rng(seed)
    return [_drawn(graph, index, count, rng) for index in graph.inputs]


def _table_rows(graph: Graph, index: int) -> int | None:
    """How many rows the table has that an input of tokens is looked up in."""
    for operator in graph.operators:
        if operator.kind == "GATHER" and operator.inputs[1] == index:
            return graph.tensors[operator.inputs[0]].shape[operator.options.get("axis", 0)]
        if operator.kind in ("CAST", "RESHAPE") and operator.inputs[0] == index:
            return _table_rows(graph, operator.outputs[0])
    return None


def _drawn(graph: Graph, index: int, count: int, rng: np.random.Generator) -> Floats:
    rows = _table_rows(graph, index)
    if rows is not None:
        return rng.integers(0, rows, (count, *graph.tensors[index].shape[1:])).astype(np.float32)
    tensor = _coded_input(graph, index)
    shape = (count, *graph.tensors[index].shape[1:])
    if tensor is None:
        return rng.normal(size=shape).astype(np.float32)
    limits = np.iinfo(tensor.dtype)
    codes = rng.integers(limits.min, limits.max, shape, endpoint=True).astype(np.float32)
    if not tensor.scale.size:
        return codes
    return (codes - np.float32(tensor.zero_point[0])) * tensor.scale[0]


def _coded_input(graph: Graph, index: int) -> Tensor | None:
    """The tensor of codes that an input is, or becomes first of all."""
    if graph.tensors[index].dtype in _CODES:
        return graph.tensors[index]
    for operator in graph.operators:
        if operator.kind == "QUANTIZE" and operator.inputs[0] == index:
            tensor = graph.tensors[operator.outputs[0]]
            return tensor if tensor.dtype in _CODES else None
    return None


def examples(data: Any, count: int, names: Sequence[str] = ()) -> list[Floats]:
    """Data of many kinds as one float32 array [examples, ...] an input.

    Args:
      data: an array; a list or tuple of arrays, one an input of the net, or, for one input, one an
        example; a dict of arrays by the names of inputs; a tf.data.Dataset (or another iterable) of
        examples, batches, or pairs with labels.
      count: how many inputs the net has.
      names: of its inputs, in its order.
    """
    if isinstance(data, dict):
        return [np.asarray(one, np.float32) for one in _by_name(data, names)]
    if isinstance(data, np.ndarray) or hasattr(data, "__array__"):
        return [np.asarray(data, np.float32)]
    if isinstance(data, list | tuple) and count > 1 and len(data) == count:
        return [np.asarray(one, np.float32) for one in data]
    if isinstance(data, list | tuple):
        return _gathered(data, count, names)
    iterate = getattr(data, "as_numpy_iterator", None)
    batched = len(getattr(_spec(data), "shape", ())) > 0 and _spec(data).shape[0] is None
    return _gathered(iterate() if iterate is not None else data, count, names, batched=batched)


def _by_name(data: dict[str, Any], names: Sequence[str]) -> list[Any]:
    """The values of the inputs of these names."""
    missing = [name for name in names if name not in data]
    if missing or not names:
        raise ValueError(
            f"data must have an entry for each of the inputs {', '.join(names)}. "
            f"Received: {', '.join(map(str, data))}."
        )
    return [data[name] for name in names]


def _spec(data: Any) -> Any:
    """The specification of a dataset's first component."""
    spec = getattr(data, "element_spec", None)
    while isinstance(spec, list | tuple | dict) and spec:
        spec = next(iter(spec.values())) if isinstance(spec, dict) else spec[0]
    return spec


def _gathered(
    data: Iterable[Any], count: int, names: Sequence[str], *, batched: bool = False
) -> list[Floats]:
    columns: list[list[Floats]] = [[] for _ in range(count)]
    for element in data:
        parts = element
        if isinstance(element, list | tuple):
            nested = isinstance(element[0], list | tuple | dict)
            parts = element[0] if count == 1 or nested else element
        if isinstance(parts, dict):
            parts = _by_name(parts, names)
            parts = parts[0] if count == 1 else parts
        values = [parts] if count == 1 else list(parts) if isinstance(parts, list | tuple) else []
        if len(values) != count:
            raise ValueError(
                f"data must be an array for each of the net's {count} inputs, or examples with so "
                f"many parts. Received: {type(data).__name__} of {type(element).__name__}."
            )
        for column, value in zip(columns, values, strict=True):
            column.append(np.asarray(value, np.float32))
    if not columns[0]:
        return [np.zeros((0,), np.float32) for _ in columns]
    return [np.concatenate(column) if batched else np.stack(column) for column in columns]
