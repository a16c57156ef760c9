"""The compact blob: a layer as one adaptive stream (FORMAT.md, "The compact blob"). NumPy only.

Half the bytes of a blob beside its weights: scales and zero points that the operator's tensors have
are not in it, numbers go through `number_coder`.
"""

from __future__ import annotations

import dataclasses
import math
import zlib

import numpy as np
import numpy.typing as npt

from ec2t_tf.export.graph.ternary import is_ternary

from . import layer_numbers
from .encodings import BlobError
from .layer import Layer, Operator, Scales, check_layer, most_weights
from .number_coder import Reader, StreamError, Writer
from .range_coder import QUICK, STEADY, encode_range
from .ternary import ternary_codes

Pen = Writer | Reader
VERSION, ROUNDED = 2, 3  # versions: numbers as they are; of which the last digits are zero
_HEADER = 3  # bytes: version, lower half of the stream's CRC-32
_LARGEST_SIZE = 1 << 20  # channels
_LARGEST_WINDOW = 4095  # kernels, strides, dilations
_LONGEST = 32  # bits of a number


@dataclasses.dataclass(frozen=True)
class Ends:
    """Scales and zero points of an operator's input and output.

    Attributes:
      input_scale, output_scale: float32s.
      input_zero_point, output_zero_point: -128 to 127.
    """

    input_scale: float
    input_zero_point: int
    output_scale: float
    output_zero_point: int


def ends_of(layer: Layer) -> Ends:
    """What the tensors around a layer say."""
    scales = layer.requantisation
    assert isinstance(scales, Scales), "a layer without scales has no compact blob"
    return Ends(scales.input, layer.input_zero_point, scales.output, layer.output_zero_point)


def fits_compact(layer: Layer) -> bool:
    """Whether a compact blob has words for all of a layer."""
    return isinstance(layer.requantisation, Scales) and isinstance(layer.padding, str)


def is_compact(blob: bytes) -> bool:
    """Whether bytes start as a compact blob does."""
    return blob[:1] in (bytes([VERSION]), bytes([ROUNDED]))


def pack_compact(layer: Layer) -> bytes:
    """The compact blob of `layer`, of version 3 where that is smaller: its scales or biases end in
    zeros.

    Raises:
        ValueError: if it is no layer, `fits_compact` says no, or its biases are too far from what
            its weights let expect.
    """
    check_layer(layer)
    if not fits_compact(layer):
        raise ValueError(
            "a compact blob has scales and a padding of SAME or VALID. "
            f"Received: {type(layer.requantisation).__name__}, padding {layer.padding}."
        )
    versions = (VERSION, ROUNDED) if _is_rounded(layer) else (VERSION,)
    blob = min((_packed(layer, version) for version in versions), key=len)
    if layer.weights.size > most_weights(len(blob)):
        raise ValueError(
            f"a compact blob of {len(blob)} bytes holds at most {most_weights(len(blob))} weights. "
            f"Received: {layer.weights.size}. Store the layer with `pack`."
        )
    unpack_compact(blob, ends_of(layer))  # a number of more than 32 bits would be refused
    return blob


def unpack_compact(blob: bytes, ends: Ends) -> Layer:
    """The layer in `blob`, weights decoded to int8.

    Args:
        blob: what `pack_compact` gave.
        ends: what the operator's input and output say.

    Raises:
        BlobError: if the bytes are not a valid compact blob.
    """
    blob = bytes(blob)
    stream = blob[_HEADER:]
    if not is_compact(blob) or blob[1:_HEADER] != _check(stream):
        raise BlobError(
            f"a compact blob starts with version {VERSION} or {ROUNDED} and the checksum of what "
            "follows. "
            f"Received: {len(blob)} bytes that start {blob[:_HEADER].hex()}. Export the file again."
        )
    pen = Reader(stream, rates=STEADY, most=0, longest=_LONGEST)
    try:
        most = most_weights(len(blob))
        layer = _layer(pen, None, ends, rounded=blob[0] == ROUNDED, most=most)
        check_layer(layer)
    except BlobError:
        raise
    except ValueError as error:
        raise BlobError(f"the compact blob holds an impossible layer: {error}") from error
    if not pen.ended():
        raise BlobError("the compact blob goes on behind its last number")
    return layer


def range_stream(weights: npt.NDArray[np.int8]) -> bytes:
    """What ternary weights [outputs, height, width, inputs] take by themselves."""
    symbols = ternary_codes(weights).symbols.ravel()
    shape = weights.shape
    return min((encode_range(symbols, shape, rates) for rates in (QUICK, STEADY)), key=len)


def _check(stream: bytes) -> bytes:
    return (zlib.crc32(stream) & 0xFFFF).to_bytes(2, "little")


def _is_rounded(layer: Layer) -> bool:
    scales = layer.requantisation
    assert isinstance(scales, Scales)
    biases = [] if layer.bias is None else layer.bias.tolist()
    return layer_numbers.are_rounded(_scale_bits(scales), biases)


def _packed(layer: Layer, version: int) -> bytes:
    pen = Writer(rates=STEADY)
    _layer(pen, layer, ends_of(layer), rounded=version == ROUNDED)
    stream = pen.finish()
    return bytes([version]) + _check(stream) + stream


def _layer(
    pen: Pen, given: Layer | None, ends: Ends, *, rounded: bool, most: int = 1 << 62
) -> Layer:
    """Writes a layer, or reads one: C does the same in kernels/portable/compact.c."""
    known = given or _NOTHING
    operator = pen.choice("operator", int(known.operator), 2)
    if operator not in (1, 2, 3):
        raise StreamError(f"operator {operator} of a compact blob")
    ternary = pen.flag("ternary", given is not None and _is_ternary(known))
    outputs = _size(pen, len(known.weights))
    inputs = _size(pen, known.input_channels)
    windows = [*known.weights.shape[1:3], *known.strides, *known.dilations]
    padding, groups = int(known.padding == "SAME"), 1
    if operator == Operator.FULLY_CONNECTED:
        windows = [1] * 6
    else:
        windows = [_window(pen, window) for window in windows]
        padding = int(pen.flag("padding", bool(padding)))
        groups = inputs
        if operator == Operator.CONV_2D:
            groups = _size(pen, known.groups)
    if inputs % groups:
        raise StreamError(f"{groups} groups of {inputs} channels")
    shape = (outputs, windows[0], windows[1], inputs // groups)
    count = math.prod(shape)
    if count > most or count // outputs > 65535:
        raise StreamError(f"{count:,} weights")
    lowest, highest = _range(pen, known.output_range, ends.output_zero_point)
    has_bias = pen.flag("bias", known.bias is not None)
    weights = _ternary(pen, known.weights, shape) if ternary else _int8(pen, known.weights, shape)
    scales = _scales(pen, known, ends, outputs, rounded)
    bias = None
    if has_bias:
        sums = weights.reshape(outputs, -1).astype(np.int64).sum(1).tolist()
        values = [] if known.bias is None else known.bias.tolist()
        found = layer_numbers.code_biases(pen, values, sums, rounded=rounded)
        bias = np.array(found, np.int32)
    return Layer(
        operator=Operator(operator),
        weights=weights,
        requantisation=scales,
        bias=bias,
        strides=(windows[2], windows[3]),
        dilations=(windows[4], windows[5]),
        padding="SAME" if padding else "VALID",
        groups=groups,
        input_zero_point=ends.input_zero_point,
        output_zero_point=ends.output_zero_point,
        output_range=(lowest, highest),
    )


_NOTHING = Layer(
    operator=Operator.CONV_2D,
    weights=np.zeros((1, 1, 1, 1), np.int8),
    requantisation=Scales(1.0, 1.0, np.ones(1, np.float32)),
)


def _is_ternary(layer: Layer) -> bool:
    rows = layer.weights.reshape(len(layer.weights), -1)
    return bool(is_ternary(rows)) and bool((rows != -128).all())


def _size(pen: Pen, value: int) -> int:
    size = pen.number("size", value - 1) + 1
    if size > _LARGEST_SIZE:
        raise StreamError(f"{size:,} channels, of at most {_LARGEST_SIZE:,}")
    return size


def _window(pen: Pen, value: int) -> int:
    window = pen.number("window", value - 1) + 1
    if window > _LARGEST_WINDOW:
        raise StreamError(f"a window of {window}, of at most {_LARGEST_WINDOW}")
    return window


def _range(pen: Pen, given: tuple[int, int], zero_point: int) -> tuple[int, int]:
    """The smallest and largest output: that of an activation is often one of the usual ones."""
    lowest, highest = given
    if pen.flag("from zero", lowest == zero_point):
        lowest = zero_point
    else:
        lowest = pen.number("value", lowest + 128) - 128
    highest = 127 - pen.number("value", 127 - highest)
    if lowest > 127 or highest < -128:
        raise StreamError(f"outputs from {lowest} to {highest}")
    return lowest, highest


def _value(pen: Pen, sign: int, value: int) -> int:
    """What a symbol stands for: near the end of the codes, as a rule."""
    found = sign * (127 - pen.number("value", 127 - sign * value))
    if not -127 <= found <= 127:
        raise StreamError(f"the value {found} of a symbol")
    return found


def _ternary(
    pen: Pen, given: npt.NDArray[np.int8], shape: tuple[int, int, int, int]
) -> npt.NDArray[np.int8]:
    outputs = shape[0]
    codes = ternary_codes(given if not pen.reads else np.zeros((outputs, 1), np.int8))
    if pen.flag("shared", codes.layer_values is not None):
        plus, minus = codes.layer_values or (0, 0)
        pair = [_value(pen, 1, plus), _value(pen, -1, minus)]
        values = np.tile(np.array(pair, np.int64), (outputs, 1))
        if pen.flag("flips", bool(codes.flips.any())):
            flips = [pen.flag("flip", bool(flip)) for flip in codes.flips.tolist()]
            values[np.array(flips)] *= -1
    else:
        found = [
            (_value(pen, 1, plus), _value(pen, -1, minus)) for plus, minus in codes.values.tolist()
        ]
        values = np.array(found, np.int64)
    empty = np.zeros(math.prod(shape), np.int8)
    symbols = pen.symbols(empty if pen.reads else codes.symbols.reshape(-1), shape)
    rows = symbols.reshape(outputs, -1)
    weights = np.where(rows > 0, values[:, :1], 0)
    return np.where(rows < 0, values[:, 1:], weights).astype(np.int8).reshape(shape)


def _int8(
    pen: Pen, given: npt.NDArray[np.int8], shape: tuple[int, int, int, int]
) -> npt.NDArray[np.int8]:
    count = math.prod(shape)
    return layer_numbers.code_int8(pen, given.reshape(-1), count).reshape(shape)


def _scale_bits(scales: Scales) -> list[int]:
    bits: list[int] = np.asarray(scales.weights, "<f4").view("<u4").tolist()
    return bits


def _scales(pen: Pen, known: Layer, ends: Ends, outputs: int, rounded: bool) -> Scales:
    given = known.requantisation
    assert isinstance(given, Scales)
    single = pen.flag("one requantisation", len(given.weights) == 1 and outputs > 1)
    count = 1 if single else outputs
    found = layer_numbers.code_scales(pen, _scale_bits(given), count, rounded=rounded)
    weights = np.array(found, "<u4").view("<f4").astype(np.float32)
    return Scales(ends.input_scale, ends.output_scale, weights)
