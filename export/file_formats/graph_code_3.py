"""A whole graph as one adaptive stream, as in version 3 of the download file: what version 4
(`graph_code`) has of it, too.

Written and read by the same functions, see `formats.number_coder`. Order, fields and words are a
format: what is here once does not change.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import formats
from ..formats.number_coder import Reader, Writer
from ..graph import Graph, Operator, Signature, Tensor, limits
from ..graph.ternary import channels_of, is_ternary
from ..tflite.options import usual_options
from .layers import CONV_2D, DEPTHWISE_CONV_2D, FULLY_CONNECTED, KINDS

Pen = Writer | Reader

WORDS = (
    *("", "main", "int8", "int32", "float32", "int64", "uint8", "bool", "int16", "dense", "int4"),
    *("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "ADD", "MUL", "SUB", "RESHAPE", "MEAN"),
    *("AVERAGE_POOL_2D", "MAX_POOL_2D", "QUANTIZE", "DEQUANTIZE", "SOFTMAX", "PAD", "LOGISTIC"),
    *("CONCATENATION", "TRANSPOSE", "STRIDED_SLICE", "SUM", "TANH", "RELU", "RELU6", "LEAKY_RELU"),
    *("stride", "dilation", "activation", "padding", "size", "new_shape", "keep_dims", "beta"),
    *("depth_multiplier", "pot_scale_int16", "axis", "quantized_bias_type", "weights_format"),
    *("same", "valid", "none", "relu", "relu6", "tanh", "relu_n1_to_1", "masks", "perm"),
    *("keep_num_dims", "asymmetric_quantize_inputs", "alpha", "half_pixel_centers"),
    *("serving_default", "resource", "HARD_SWISH", "ELU", "PACK", "SPLIT", "TRANSPOSE_CONV"),
)
_NONE, _NO, _YES, _WHOLE, _REAL, _TEXT, _MANY = range(7)
BIAS = 2  # the input of a layer
_NEAR = 3  # last places between a bias's scale and the product of two others


class NotCoded(ValueError):
    """The graph has something that the stream has no place for."""


def code_graph(
    pen: Pen,
    graph: Graph,
    coder_of: Callable[[Pen, Graph, int], GraphCoder],
    *,
    weights: int = 1 << 62,
    inner: bool = False,
) -> Graph:
    """A graph that is written, or filled by what is read.

    Args:
      coder_of: `GraphCoder`, or that of another version.
      weights: how many ternary ones may come.
      inner: it is the initial graph of another.
    """
    coder = coder_of(pen, graph, weights)
    coder.operators()
    coder.tensors()
    graph.inputs = coder.indices("inputs", graph.inputs)
    graph.outputs = coder.indices("outputs", graph.outputs)
    graph.name = pen.text("graph name", graph.name)
    graph.description = pen.text("description", graph.description)
    graph.signatures = _many(pen, "signatures", graph.signatures, lambda s: _signature(pen, s))
    metadata = _many(
        pen,
        "metadata",
        list(graph.metadata.items()),
        lambda entry: (
            pen.text("metadata name", entry[0] if entry else ""),
            pen.data("metadata", entry[1] if entry else b""),
        ),
    )
    graph.metadata = dict(metadata)
    if not inner and pen.flag("initial", graph.initial is not None):
        initial = graph.initial or Graph()
        graph.initial = code_graph(pen, initial, coder_of, weights=weights, inner=True)
    elif inner and graph.initial is not None:
        raise NotCoded("an initial graph inside another")
    return graph


def _many(pen: Pen, field: str, values: Sequence[Any], each: Any) -> list[Any]:
    """A list; `each` gets None where it reads."""
    count = pen.length(field, len(values))
    return [each(values[i] if not pen.reads else None) for i in range(count)]


def _signature(pen: Pen, signature: Signature | None) -> Signature:
    key = pen.text("signature", signature.key if signature else "")
    ends = [
        _many(
            pen,
            "signature ends",
            list(entries.items()),
            lambda entry: (
                pen.text("signature end", entry[0] if entry else ""),
                pen.number("signature tensor", entry[1] if entry else 0),
            ),
        )
        for entries in ((signature.inputs, signature.outputs) if signature else ({}, {}))
    ]
    return Signature(key, dict(ends[0]), dict(ends[1]))


class GraphCoder:
    """One graph, its operators first; as in version 3."""

    def __init__(self, pen: Pen, graph: Graph, weights: int) -> None:
        self.pen, self.graph = pen, graph
        self.weights = weights  # that may still come
        self.new = 0  # the first tensor that no operator has named
        self.roles: dict[int, tuple[Operator, int]] = {}  # tensor -> a layer, which input

    def indices(self, field: str, values: Sequence[int]) -> tuple[int, ...]:
        """Tensors, counted back from the first that was not named before; -1 for none."""
        found = []
        count = self.pen.length(field, len(values))
        for at in range(count):
            value = values[at] if at < len(values) else 0
            back = self.pen.signed(f"{field} {min(at, 3)}", self.new - value)
            value = max(-1, self.new - back)
            self.new = max(self.new, value + 1)
            found.append(value)
        return tuple(found)

    def operators(self) -> None:
        pen, given = self.pen, self.graph.operators
        count = pen.length("operators", len(given))
        if count > limits.OPERATORS:
            raise NotCoded(f"{count} operators")
        found = []
        for at in range(count):
            op = given[at] if not pen.reads else Operator("", (), ())
            kind = pen.text("kind", op.kind)
            custom = op.custom
            if pen.flag("custom", custom is not None):
                custom = pen.data("custom options", custom or b"")
            version = pen.number("version", 0 if op.version is None else op.version + 1)
            inputs = self.indices(f"{kind} inputs", op.inputs)
            outputs = self.indices("op outputs", op.outputs)
            intermediates = self.indices("intermediates", op.intermediates)
            options = {} if custom is not None else self.options(kind, op.options)
            op = Operator(
                *(kind, inputs, outputs, options, intermediates, custom),
                version=None if version == 0 else version - 1,
            )
            found.append(op)
            if kind in KINDS and custom is None:
                for place, index in enumerate(inputs[:3]):
                    if place:
                        self.roles.setdefault(index, (op, place))
        self.graph.operators = found

    def options(self, kind: str, given: dict[str, Any]) -> dict[str, Any]:
        """Those that an empty table does not have."""
        usual = usual_options(kind)
        if not self.pen.reads and set(usual) - set(given):
            raise NotCoded(f"{kind} lacks options")
        others = [
            (name, value)
            for name, value in given.items()
            if name not in usual or not _same(usual[name], value)
        ]
        found = dict(usual)
        for name, value in _many(self.pen, "options", others, self._option):
            found[name] = value
        return found

    def _option(self, entry: tuple[str, Any] | None) -> tuple[str, Any]:
        name = self.pen.text("option", entry[0] if entry else "")
        return name, self._value(name, entry[1] if entry else None)

    def _value(self, field: str, value: Any, depth: int = 0) -> Any:
        pen = self.pen
        kind = pen.choice(f"kind of {field}", _kind_of(value), 3)
        if kind == _WHOLE:
            return pen.signed(field, int(value or 0))
        if kind == _REAL:
            bits = np.array(value or 0.0, "<f8").view("<u8")
            return float(np.array(pen.plain(int(bits), 64), "<u8").view("<f8"))
        if kind == _TEXT:
            return pen.text(field, value or "")
        if kind == _MANY and depth < 2:
            values = _many(
                pen, field, value or (), lambda one: self._value(f"{field}[]", one, depth + 1)
            )
            return tuple(values)
        if kind not in (_NONE, _NO, _YES):
            raise NotCoded(f"option {field} is of kind {kind}")
        return (None, False, True)[kind]

    def tensors(self) -> None:
        pen, given = self.pen, self.graph.tensors
        count = pen.length("tensors", len(given))
        if count > limits.TENSORS:
            raise NotCoded(f"{count} tensors")
        empty = Tensor("", (), "", np.zeros(0, np.float32), np.zeros(0, np.int64))
        found: list[Tensor] = []
        for at in range(count):
            before = found[-1].shape if found else ()
            found.append(self._tensor(at, given[at] if not pen.reads else empty, before))
        self.graph.tensors = found
        # Scales of biases follow from others, which stand behind them at times.
        for index, (op, place) in self.roles.items():
            if place == BIAS and 0 <= index < count:
                tensor = given[index] if not pen.reads else empty
                found[index].scale = self._bias_scale(op, len(found[index].scale), tensor.scale)
                self._finish_bias(found[index], op, tensor)

    def _finish_bias(self, bias: Tensor, op: Operator, given: Tensor) -> None:
        """What of a bias follows from other tensors than those before it, besides its scale."""

    def _tensor(self, index: int, tensor: Tensor, before: tuple[int, ...]) -> Tensor:
        pen = self.pen
        if tensor.storage == "sparse" or tensor.sparsity is not None:
            raise NotCoded("a sparse tensor")
        op, place = self.roles.get(index, (None, 0))
        role = f"{op.kind} {place}" if op is not None and place != BIAS else f"{place}"
        name = pen.text("name", tensor.name)
        dtype = pen.text(f"type {place}", tensor.dtype)
        shape = self._shape(tensor.shape, before, place)
        result = Tensor(name, shape, dtype, tensor.scale, tensor.zero_point)
        result.variable = pen.flag("variable", tensor.variable)
        if pen.flag("other storage", tensor.storage != "dense"):
            result.storage = pen.text("storage", tensor.storage)
        result.axis = pen.number(f"axis {role}", tensor.axis)
        result.scale = self._scales_of(result, tensor.scale, role, place)
        points = len(result.scale)
        if not pen.flag("a zero point a scale", len(tensor.zero_point) == points):
            points = pen.length("zero points", len(tensor.zero_point))
        result.zero_point = self._zero_points(points, tensor.zero_point, place)
        if pen.flag(f"constant {place}", tensor.data is not None):
            result.data = self._data(result, tensor.data, op, place)
        return result

    def _shape(
        self, given: tuple[int, ...], before: tuple[int, ...], place: int
    ) -> tuple[int, ...]:
        pen = self.pen
        if pen.flag("shape as before", given == before):
            return before
        sizes = _many(pen, "shape", given, lambda size: pen.number(f"size {place}", size or 0))
        return tuple(sizes)

    def _scales_of(
        self, tensor: Tensor, given: npt.NDArray[np.float32], role: str, place: int
    ) -> npt.NDArray[np.float32]:
        return self._scales(f"scale {role}", given, stored=place != BIAS)

    def _zero_points(
        self, count: int, given: npt.NDArray[np.int64], place: int
    ) -> npt.NDArray[np.int64]:
        if count == 0 or self.pen.flag(f"no zero point {place}", not given.any()):
            return np.zeros(count, np.int64)
        values = given.tolist() if not self.pen.reads else [0] * count
        return np.array([self.pen.signed(f"zero point {place}", v) for v in values], np.int64)

    def _scales(
        self, field: str, given: npt.NDArray[np.float32], *, stored: bool = True
    ) -> npt.NDArray[np.float32]:
        """Their number, and unless they are not `stored` here they themselves."""
        count = self.pen.length(f"{field}s", len(given))
        return self._floats(field, given if stored else None, count)

    def _floats(
        self, field: str, given: npt.NDArray[np.float32] | None, count: int
    ) -> npt.NDArray[np.float32]:
        """So many float32s; zeros without the coder's work where there are none to give."""
        if given is None:
            return np.zeros(count, np.float32)
        bits = np.asarray(given, "<f4").view("<u4").tolist() if not self.pen.reads else [0] * count
        found: list[int] = []
        for one in bits:
            again = bool(found) and self.pen.flag("scale as before", found[-1] == one)
            found.append(found[-1] if again else self.pen.float32(field, one))
        return np.array(found, "<u4").view("<f4").astype(np.float32)

    def _bias_scale(
        self, op: Operator, count: int, given: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.float32]:
        """Input scale times weight scale, where that is what it is."""
        tensors = self.graph.tensors
        parts = [tensors[i].scale for i in op.inputs[:2] if 0 <= i < len(tensors)]
        product = np.zeros(0, np.float32)
        if len(parts) == 2 and len(parts[0]) == 1:
            with np.errstate(all="ignore"):
                product = (parts[0] * parts[1]).astype(np.float32)
        far = [0] * count  # in units of the last place: the product was rounded elsewhere
        follows = count == len(product)
        if not self.pen.reads and follows:
            far = (float_bits(given) - float_bits(product)).tolist()
            follows = max(map(abs, far), default=0) <= _NEAR
        if not self.pen.flag("scale of a bias follows", follows) or count != len(product):
            return self._scales("scale of a bias", given)
        steps = [self.pen.signed("scale of a bias", step) for step in far]
        bits = np.clip(float_bits(product) + np.array(steps, np.int64), 0, 0xFFFFFFFF)
        return bits.astype("<u4").view("<f4").astype(np.float32)

    def _data(
        self, tensor: Tensor, data: npt.NDArray[Any] | None, op: Operator | None, place: int
    ) -> npt.NDArray[Any]:
        pen, shape = self.pen, tensor.shape
        count = math.prod(shape)
        if len(shape) > limits.RANK or count > limits.ELEMENTS:
            raise NotCoded(f"a constant of shape {shape}")
        layer = op is not None and place == 1 and tensor.dtype == "int8" and count > 0
        if op is not None and layer and len(shape) == (2 if op.kind == FULLY_CONNECTED else 4):
            axis = 3 if op.kind == DEPTHWISE_CONV_2D else 0
            fits = data is not None and op.kind in (CONV_2D, DEPTHWISE_CONV_2D, FULLY_CONNECTED)
            fits = fits and not (op.kind == DEPTHWISE_CONV_2D and shape[0] != 1)
            if pen.flag("ternary", fits and is_ternary(channels_of(np.asarray(data), axis))):
                return self._ternary(shape, axis, data)
        dtype = np.dtype(tensor.dtype if tensor.dtype != "string" else "V")  # raises TypeError
        pen.take(f"a constant of shape {shape}", count)
        if dtype.kind == "i":
            field = f"{tensor.dtype} {op.kind if op is not None else ''} {place}"
            return self._whole_numbers(field, dtype, data, shape)
        if dtype.kind not in "fub" or (data is not None and data.dtype != dtype):
            raise NotCoded(f"a constant of {tensor.dtype}")
        raw = np.asarray(data).astype(dtype.newbyteorder("<")).tobytes() if not pen.reads else b""
        raw = pen.data(f"bytes of {tensor.dtype}", raw)
        return np.frombuffer(raw, dtype.newbyteorder("<")).astype(dtype).reshape(shape)

    def _whole_numbers(
        self, field: str, dtype: np.dtype, data: npt.NDArray[Any] | None, shape: tuple[int, ...]
    ) -> npt.NDArray[Any]:
        pen, count = self.pen, math.prod(shape)
        values = np.asarray(data).reshape(-1).tolist() if not pen.reads else [0] * count
        values = [pen.signed(field, value) for value in values]
        return np.array(values, np.int64).astype(dtype).reshape(shape)

    def _ternary(
        self, shape: tuple[int, ...], axis: int, data: npt.NDArray[Any] | None
    ) -> npt.NDArray[np.int8]:
        pen = self.pen
        channels = shape[axis]
        self.weights -= math.prod(shape)
        if self.weights < 0:
            raise NotCoded("more weights than a stream of this length may hold")
        rows = np.zeros((channels, math.prod(shape) // channels), np.int8)
        codes = formats.ternary_codes(rows if data is None else channels_of(data, axis))
        shared = pen.flag("shared values", codes.layer_values is not None)
        if shared:
            pair = [pen.signed("value", v) for v in codes.layer_values or (0, 0)]
            turns = np.zeros(channels, np.int64)
            if pen.flag("turned channels", bool(codes.flips.any())):
                turns = np.array([pen.flag("turned", bool(f)) for f in codes.flips], np.int64)
            values = np.array(pair, np.int64)[None] * (1 - 2 * turns[:, None])
        else:
            given = codes.values.reshape(-1).tolist()
            values = np.array([pen.signed("value", v) for v in given]).reshape(-1, 2)
        if np.abs(values).max(initial=0) > 128:
            raise NotCoded("a weight beyond 8 bits")
        kernel = (*shape[:1], 1, 1, shape[1]) if len(shape) == 2 else shape
        if axis == 3:
            kernel = (shape[3], shape[1], shape[2], 1)
        symbols = pen.symbols(
            codes.symbols.reshape(-1), (kernel[0], kernel[1], kernel[2], kernel[3])
        ).reshape(channels, -1)
        weights = np.where(symbols > 0, values[:, :1], 0)
        weights = np.where(symbols < 0, values[:, 1:], weights).astype(np.int8)
        return np.ascontiguousarray(weights.T if axis == 3 else weights).reshape(shape)


def float_bits(values: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    return np.asarray(values, "<f4").view("<u4").astype(np.int64)


def _kind_of(value: Any) -> int:
    if value is None:
        return _NONE
    if isinstance(value, bool | np.bool_):
        return _YES if value else _NO
    if isinstance(value, int | np.integer):
        return _WHOLE
    if isinstance(value, float):
        return _REAL
    if isinstance(value, str):
        return _TEXT
    if isinstance(value, tuple | list):
        return _MANY
    raise NotCoded(f"an option of {type(value).__name__}")


def _same(usual: Any, value: Any) -> bool:
    return type(usual) is type(value) and bool(usual == value)
