"""Is a graph well-formed? What this module has let through, the other rooms need not ask again."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from . import limits
from .errors import FileError
from .graph import Graph, Operator, Tensor
from .shapes import ShapeError, output_shapes

# Types of tensors, and NumPy's; None for one that has no values.
NUMPY: dict[str, np.dtype | None] = {
    **{
        name: np.dtype(name)
        for name in (
            *("bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"),
            *("float16", "float32", "float64"),
        )
    },
    "resource": None,
}
WORDS = {
    "resource": "streaming state",
    "string": "text",
    "variant": "lists of tensors",
    "complex64": "complex numbers",
    "complex128": "complex numbers",
    "bfloat16": "floats that NumPy does not have",
}
_CODES = {"int8": (-128, 127), "uint8": (0, 255), "int16": (-(1 << 15), (1 << 15) - 1)}
_STATE = ("VAR_HANDLE", "READ_VARIABLE", "ASSIGN_VARIABLE", "CALL_ONCE")
# Operators without inputs, or without outputs; every other has both.
_NO_INPUTS = ("VAR_HANDLE", "CALL_ONCE")
_NO_OUTPUTS = ("ASSIGN_VARIABLE", "CALL_ONCE")
_ACTIVATIONS = ("none", "relu", "relu6", "relu_n1_to_1", "tanh", "sign_bit")
_WINDOWED = ("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "AVERAGE_POOL_2D", "MAX_POOL_2D")
# Fewest inputs, most inputs, outputs.
_COUNTS: dict[str, tuple[int, int, int]] = {
    "CONV_2D": (2, 3, 1),
    "DEPTHWISE_CONV_2D": (2, 3, 1),
    "TRANSPOSE_CONV": (3, 4, 1),
    "FULLY_CONNECTED": (2, 3, 1),
    "BATCH_MATMUL": (2, 2, 1),
    **dict.fromkeys(("AVERAGE_POOL_2D", "MAX_POOL_2D", "SOFTMAX", "LOGISTIC", "TANH"), (1, 1, 1)),
    **dict.fromkeys(("QUANTIZE", "DEQUANTIZE", "DENSIFY", "SHAPE", "RSQRT"), (1, 1, 1)),
    **dict.fromkeys(("ADD", "SUB", "MUL", "DIV", "MAXIMUM", "MINIMUM"), (2, 2, 1)),
    **dict.fromkeys(("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN", "PAD", "TRANSPOSE"), (2, 2, 1)),
    "SQUARED_DIFFERENCE": (2, 2, 1),
    "RESHAPE": (1, 2, 1),
    "STRIDED_SLICE": (4, 4, 1),
    "CONCATENATION": (1, limits.TENSORS, 1),
    "PACK": (1, limits.TENSORS, 1),
    "VAR_HANDLE": (0, 0, 1),
    "READ_VARIABLE": (1, 1, 1),
    "ASSIGN_VARIABLE": (2, 2, 0),
    "CALL_ONCE": (0, 0, 0),
    "UNIDIRECTIONAL_SEQUENCE_LSTM": (20, 24, 1),
}
_NEEDED: dict[str, tuple[int, ...]] = {"TRANSPOSE_CONV": (0, 1, 2), "STRIDED_SLICE": (0, 1, 2, 3)}


def check(graph: Graph) -> None:
    """Raises unless `graph` is well-formed and within `limits`.

    Every tensor but the declared state (variables and resources) is written once, before it is
    used, and no constant or input of the net is written. Types, shapes, scales, zero points,
    strides, dilations and numbers of inputs and outputs are in bounds, and where the shape of an
    output follows from its operator, it is the one that the tensor has.

    Raises:
      FileError: naming the tensor or the operator, what was required and what was received.
    """
    check_structure(graph)
    for number, operator in enumerate(graph.operators):
        _check_shapes(graph, number, operator)
    if graph.initial is not None:
        check(graph.initial)


def check_structure(graph: Graph) -> None:
    """`check`, but for the shapes that follow from operators.

    Raises:
      FileError: as `check`.
    """
    _check_counts(graph)
    for index, tensor in enumerate(graph.tensors):
        _check_tensor(index, tensor)
    for operator in graph.operators:
        _check_operator(graph, operator)
    _check_ends(graph)
    _check_scales(graph)
    _check_order(graph)
    _check_state(graph)


def type_name(dtype: str) -> str:
    """A type of tensors for people: "RESOURCE (streaming state)"."""
    words = WORDS.get(dtype)
    return dtype.upper() + (f" ({words})" if words else "")


def label(graph: Graph, index: int) -> str:
    """A tensor for people: its number and its name."""
    return f"tensor {index} {graph.tensors[index].name[:120]!r}"


def _operator_label(graph: Graph, number: int) -> str:
    operator = graph.operators[number]
    outputs = [index for index in operator.outputs if 0 <= index < len(graph.tensors)]
    name = f" ({graph.tensors[outputs[0]].name[:120]!r})" if outputs else ""
    return f"operator {number} {operator.kind}{name}"


def _check_counts(graph: Graph) -> None:
    for what, count, most in (
        ("tensors", len(graph.tensors), limits.TENSORS),
        ("operators", len(graph.operators), limits.OPERATORS),
    ):
        if count > most:
            raise FileError(f"a net must have at most {most:,} {what}. Received: {count:,}.")
    elements = sum(
        math.prod(tensor.shape) for tensor in graph.tensors if tensor.data is None and tensor.shape
    )
    if elements > limits.ALL_ELEMENTS:
        raise FileError(
            f"a net must compute at most {limits.ALL_ELEMENTS:,} values in one run. "
            f"Received: {elements:,}."
        )


def _check_tensor(index: int, tensor: Tensor) -> None:
    who = f"tensor {index} {tensor.name[:120]!r}"
    shape = tensor.shape
    if len(shape) > limits.RANK or min(shape, default=0) < 0:
        raise FileError(
            f"{who} must have at most {limits.RANK} axes of fixed sizes. Received: shape "
            f"{shape[:16]}. Convert the model with fixed sizes."
        )
    if math.prod(shape) > limits.ELEMENTS:
        raise FileError(
            f"{who} must have at most {limits.ELEMENTS:,} elements. Received: shape {shape}."
        )
    if tensor.dtype not in NUMPY:
        raise FileError(
            f"{who} must be of a type among {', '.join(sorted(NUMPY)).upper()}. "
            f"Received: {type_name(tensor.dtype)}."
        )
    dtype = NUMPY[tensor.dtype]
    data = tensor.data
    if data is not None and (data.shape != shape or data.dtype != dtype or tensor.variable):
        raise FileError(
            f"{who} of type {type_name(tensor.dtype)} and shape {shape} must hold such values "
            f"and be no variable. Received: {data.dtype}, shape {data.shape}."
        )
    if tensor.storage not in ("dense", "sparse", "int4", "int2"):
        raise FileError(f"{who} must be stored dense, sparse, int4 or int2, not {tensor.storage}.")
    _check_quantisation(who, tensor)


def _check_quantisation(who: str, tensor: Tensor) -> None:
    scale, zero_point = np.asarray(tensor.scale), np.asarray(tensor.zero_point)
    if scale.ndim != 1 or zero_point.shape != scale.shape:
        raise FileError(
            f"{who} must have as many zero points as scales. "
            f"Received: {zero_point.size} and {scale.size}. Export the file again."
        )
    if not scale.size:
        return
    if scale.size > 1 and not (
        0 <= tensor.axis < len(tensor.shape) and tensor.shape[tensor.axis] == scale.size
    ):
        raise FileError(
            f"{who} of shape {tensor.shape} must have one scale, or one a slice of its axis "
            f"{tensor.axis}. Received: {scale.size} scales."
        )
    if not np.isfinite(scale).all():
        raise FileError(f"{who} must have finite scales. Received: {scale[~np.isfinite(scale)][0]}")
    low, high = _CODES.get(tensor.dtype, (-(1 << 31), (1 << 31) - 1))
    if zero_point.min() < low or zero_point.max() > high:
        outside = zero_point[(zero_point < low) | (zero_point > high)][0]
        raise FileError(
            f"{who} of type {type_name(tensor.dtype)} must have zero points from {low} to {high}. "
            f"Received: {outside}."
        )


def _check_indices(graph: Graph, indices: Iterable[int], who: str, lowest: int = 0) -> None:
    count = len(graph.tensors)
    for index in indices:
        if not lowest <= index < count:
            raise FileError(f"{who} names tensor {index}, there are {count}. Export it again.")


def _check_operator(graph: Graph, operator: Operator) -> None:
    who = f"operator {operator.kind}"
    _check_indices(graph, operator.inputs, who, lowest=-1)
    _check_indices(graph, (*operator.outputs, *operator.intermediates), who)
    kind, inputs, outputs = operator.kind, operator.inputs, operator.outputs
    if operator.custom is None:
        if (not inputs and kind not in _NO_INPUTS) or (not outputs and kind not in _NO_OUTPUTS):
            raise FileError(
                f"{who} must have inputs and outputs. Received: {len(inputs)} and {len(outputs)}."
            )
        least, most, count = _COUNTS.get(kind, (0, limits.TENSORS, len(outputs)))
        if not least <= len(inputs) <= most or len(outputs) != count:
            many = f"{least}" if least == most else f"{least} to {most}"
            raise FileError(
                f"{who} must have {many} inputs and {count} outputs. "
                f"Received: {len(inputs)} and {len(outputs)}."
            )
        if any(inputs[place] < 0 for place in _NEEDED.get(kind, range(min(least, 2)))):
            raise FileError(f"{who} lacks an input that it cannot do without.")
    else:
        return
    if kind in _WINDOWED:
        _check_window(who, operator)
    activation = operator.options.get("activation", "none")
    if activation not in _ACTIVATIONS:
        raise FileError(
            f"{who} must have a fused activation among {', '.join(_ACTIVATIONS)}. "
            f"Received: {activation!r}."
        )


def _check_window(who: str, operator: Operator) -> None:
    options = operator.options
    pool = operator.kind.endswith("POOL_2D")
    pairs = ["stride", *(["size"] if pool else [])]
    if operator.kind in ("CONV_2D", "DEPTHWISE_CONV_2D"):
        pairs.append("dilation")
    for name in pairs:
        pair = options.get(name)
        if pair is None or len(pair) != 2 or not all(1 <= n <= limits.WINDOW for n in pair):
            raise FileError(
                f"{who} must have a {name} of two numbers from 1 to {limits.WINDOW}. "
                f"Received: {pair}."
            )
    if options.get("padding") not in ("same", "valid"):
        raise FileError(
            f"{who} must have padding 'same' or 'valid'. Received: {options.get('padding')!r}."
        )


def _check_ends(graph: Graph) -> None:
    for what, indices in (("inputs", graph.inputs), ("outputs", graph.outputs)):
        _check_indices(graph, indices, f"the list of {what}")
        if len(set(indices)) < len(indices) and what == "inputs":
            raise FileError(f"the net's inputs must be different tensors. Received: {indices}.")
    for index in graph.inputs:
        if graph.tensors[index].is_constant or graph.tensors[index].variable:
            raise FileError(f"{label(graph, index)} must not be an input: it holds values already.")
    for signature in graph.signatures:
        for names in (signature.inputs, signature.outputs):
            _check_indices(graph, names.values(), f"signature {signature.key!r}")


def _check_scales(graph: Graph) -> None:
    """What is computed has scales above 0; weights, also decoded ones, may be mirrored."""
    computed = {*graph.inputs}
    for operator in graph.operators:
        if operator.custom is None:
            computed.update(operator.outputs)
    for index in computed:
        tensor = graph.tensors[index]
        if tensor.dtype in _CODES and not (tensor.scale > 0).all():
            raise FileError(
                f"{label(graph, index)} must have scales above 0. Received: {tensor.scale.min()}."
            )


def _check_order(graph: Graph) -> None:
    """Every tensor is written once, before it is used; state may be used at any time."""
    ready = [tensor.is_constant or tensor.variable for tensor in graph.tensors]
    for index in graph.inputs:
        ready[index] = True
    for number, operator in enumerate(graph.operators):
        for index in operator.inputs:
            if index >= 0 and not ready[index]:
                raise FileError(
                    f"{label(graph, index)} must be written before it is used. Received: "
                    f"{_operator_label(graph, number)}, which comes first. Export the file again."
                )
        for index in operator.outputs:
            if ready[index]:
                raise FileError(
                    f"{label(graph, index)} must not be written by "
                    f"{_operator_label(graph, number)}: it is {_holder(graph, index)}. "
                    "Export the file again."
                )
            ready[index] = True
    for index in graph.outputs:
        if not ready[index]:
            raise FileError(f"{label(graph, index)} is an output that no operator writes.")


def _holder(graph: Graph, index: int) -> str:
    tensor = graph.tensors[index]
    if tensor.is_constant:
        return "a constant"
    if tensor.variable:
        return "state that its operator keeps by itself"
    if index in graph.inputs:
        return "an input of the net"
    return "written already"


def _check_state(graph: Graph) -> None:
    """Handles of state come from VAR_HANDLE; what sets them at the start is a graph of such."""
    for number, operator in enumerate(graph.operators):
        handles = operator.kind in _STATE
        for index in (*operator.inputs, *operator.outputs):
            if index >= 0 and graph.tensors[index].dtype == "resource" and not handles:
                raise FileError(
                    f"{_operator_label(graph, number)} must not take {label(graph, index)}: only "
                    f"{', '.join(_STATE)} take a RESOURCE (streaming state)."
                )
        if handles and operator.kind != "CALL_ONCE":
            made = operator.kind == "VAR_HANDLE"
            handle = operator.outputs[0] if made else operator.inputs[0]
            if graph.tensors[handle].dtype != "resource":
                raise FileError(
                    f"{_operator_label(graph, number)} must name a RESOURCE (streaming state). "
                    f"Received: {label(graph, handle)}, {type_name(graph.tensors[handle].dtype)}."
                )
    calls = sum(operator.kind == "CALL_ONCE" for operator in graph.operators)
    if calls != (graph.initial is not None):
        raise FileError(
            "a net must have one CALL_ONCE where a graph sets its state at the start, else none. "
            f"Received: {calls}."
        )
    if graph.initial is not None:
        if graph.initial.initial is not None:
            raise FileError("the graph that sets the state at the start must not call another.")
        check_structure(graph.initial)


def _check_shapes(graph: Graph, number: int, operator: Operator) -> None:
    try:
        expected = output_shapes(graph, operator)
    except (KeyError, TypeError, ValueError) as error:
        reason = str(error) if isinstance(error, ShapeError) else f"its options lack {error}"
        raise FileError(
            f"{_operator_label(graph, number)}: {reason}. Export the file again."
        ) from error
    if expected is None:
        return
    for index, shape in zip(operator.outputs, expected, strict=True):
        if graph.tensors[index].shape != shape:
            raise FileError(
                f"{_operator_label(graph, number)} must write {label(graph, index)} of shape "
                f"{shape}. Received: shape {graph.tensors[index].shape}. Export the file again."
            )
