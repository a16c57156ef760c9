"""Pack a layer into a blob and back (FORMAT.md, version 1). NumPy only."""

from __future__ import annotations

import dataclasses
import enum
import math
import struct
import zlib
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from . import encodings
from .encodings import BlobError, Encoding
from .ternary import ternary_codes

Padding = Literal["VALID", "SAME"] | tuple[tuple[int, int], tuple[int, int]]

MAGIC = b"EC2T"
VERSION = 1
_HEADER = struct.Struct("<4sHBBIIII6H H4H H I 4b 2b BB II ff I")
HEADER_SIZE = _HEADER.size
LARGEST_TAPS = 65535
LARGEST_CHANNELS = 1 << 20
LARGEST_WEIGHTS = 1 << 28
_FREE_WEIGHTS = 1 << 16
_WEIGHTS_PER_BYTE = 2048
LARGEST_EXTENT = 4095
_HAS_BIAS, _CHANNEL_VALUES, _SIGN_FLIPS, _LAYER_REQUANTISATION = 1, 2, 4, 8


class _Header(NamedTuple):
    """The 80 bytes in front, field by field as in FORMAT.md."""

    magic: bytes
    version: int
    operator: int
    encoding: int
    blob_size: int
    checksum: int
    output_channels: int
    input_channels: int
    kernel_height: int
    kernel_width: int
    stride_vertical: int
    stride_horizontal: int
    dilation_vertical: int
    dilation_horizontal: int
    padding: int
    pad_top: int
    pad_bottom: int
    pad_left: int
    pad_right: int
    flags: int
    groups: int
    input_zero_point: int
    output_zero_point: int
    output_smallest: int
    output_largest: int
    value_plus: int
    value_minus: int
    fixed_point: int
    parameter: int
    nonzeros: int
    stream_size: int
    input_scale: float
    output_scale: float
    reserved: int


class Operator(enum.IntEnum):
    """The kind of layer; the number is the one in the file."""

    CONV_2D = 1
    DEPTHWISE_CONV_2D = 2
    FULLY_CONNECTED = 3


@dataclasses.dataclass(frozen=True)
class Scales:
    """Requantisation by real scales; serves `tflite` and `fp32` mode.

    Attributes:
        input: scale of the input tensor.
        output: scale of the output tensor.
        weights: float32 of shape [output channels], or [1] for one scale for all of them.
    """

    input: float
    output: float
    weights: npt.NDArray[np.float32]


@dataclasses.dataclass(frozen=True)
class FixedPoint:
    """Requantisation by TensorFlow Lite's multiplier and shift; serves `tflite` mode only.

    Attributes:
        multiplier: int32 of shape [output channels] or [1], 0 to 2^31 - 1.
        shift: int8 of the same shape, -31 to 30; positive shifts left.
    """

    multiplier: npt.NDArray[np.int32]
    shift: npt.NDArray[np.int8]


@dataclasses.dataclass(frozen=True, eq=False)
class Layer:
    """One quantised layer, in the terms of TensorFlow Lite.

    Attributes:
        operator: what kind of layer.
        weights: int8 of shape [output channels, kernel height, kernel width, input channels /
            groups]. A depthwise convolution has last axis 1 and `groups` input channels; a fully
            connected layer is [units, 1, 1, inputs].
        requantisation: `Scales` or `FixedPoint`.
        bias: int32 of shape [output channels], or None.
        strides, dilations: vertical, horizontal.
        padding: "VALID", "SAME", or ((top, bottom), (left, right)).
        groups: number of groups.
        input_zero_point, output_zero_point: int8 zero points.
        output_range: smallest and largest int8 the fused activation lets through.
    """

    operator: Operator
    weights: npt.NDArray[np.int8]
    requantisation: Scales | FixedPoint
    bias: npt.NDArray[np.int32] | None = None
    strides: tuple[int, int] = (1, 1)
    dilations: tuple[int, int] = (1, 1)
    padding: Padding = "VALID"
    groups: int = 1
    input_zero_point: int = 0
    output_zero_point: int = 0
    output_range: tuple[int, int] = (-128, 127)

    @property
    def output_channels(self) -> int:
        return int(self.weights.shape[0])

    @property
    def input_channels(self) -> int:
        return int(self.weights.shape[3]) * self.groups

    @property
    def taps(self) -> int:
        """Weights per output channel."""
        return math.prod(self.weights.shape[1:])


def most_weights(size: int) -> int:
    """How many weights a blob of `size` bytes may hold: what reading it costs follows from that."""
    return min(LARGEST_WEIGHTS, _FREE_WEIGHTS + _WEIGHTS_PER_BYTE * size)


def _check(condition: bool, required: str, received: str, advice: str) -> None:
    if not condition:
        raise ValueError(f"{required}. Received: {received}. {advice}.")


def _check_layer(layer: Layer) -> None:
    """What FORMAT.md allows; one message for one mistake."""
    weights = layer.weights
    _check(
        isinstance(weights, np.ndarray) and weights.dtype == np.int8 and weights.ndim == 4,
        "weights are an int8 array [outputs, kernel height, kernel width, inputs per group]",
        f"{getattr(weights, 'dtype', type(weights))} of shape {getattr(weights, 'shape', None)}",
        "Quantise and transpose them first",
    )
    _check(weights.size > 0, "a layer has weights", f"shape {weights.shape}", "Leave it out")
    _check(
        int(weights.min()) >= -127,
        "int8 weights are symmetric, -127 to 127",
        "-128",
        "Quantise with a narrow range, as TensorFlow Lite does",
    )
    _check(
        layer.taps <= LARGEST_TAPS,
        f"an output channel has at most {LARGEST_TAPS} weights",
        f"{layer.taps}",
        "Keep this layer as plain int8",
    )
    channels = layer.output_channels
    _check(
        weights.size <= LARGEST_WEIGHTS,
        f"a layer has at most {LARGEST_WEIGHTS} weights",
        f"{weights.size}",
        "Keep this layer as plain int8",
    )
    _check(
        layer.groups >= 1 and channels % layer.groups == 0,
        "groups divide the output channels",
        f"groups={layer.groups}, {channels} output channels",
        "Correct `groups`",
    )
    _check(
        max(channels, layer.input_channels) <= LARGEST_CHANNELS,
        f"a layer has at most {LARGEST_CHANNELS} channels",
        f"{layer.input_channels} -> {channels}",
        "Keep this layer as plain int8",
    )
    extents = (*weights.shape[1:3], *layer.strides, *layer.dilations)
    _check(
        all(1 <= extent <= LARGEST_EXTENT for extent in extents),
        f"kernel, strides and dilations are 1 to {LARGEST_EXTENT}",
        f"kernel={weights.shape[1:3]}, strides={layer.strides}, dilations={layer.dilations}",
        "Keep this layer as plain int8",
    )
    if layer.operator == Operator.DEPTHWISE_CONV_2D:
        _check(
            weights.shape[3] == 1,
            "a depthwise convolution has groups = input channels and one input per group",
            f"shape {weights.shape}, groups={layer.groups}",
            "Transpose TensorFlow Lite's [1, h, w, channels] to [channels, h, w, 1]",
        )
    if layer.operator == Operator.FULLY_CONNECTED:
        plain = (layer.strides, layer.dilations, layer.padding, layer.groups, weights.shape[1:3])
        _check(
            plain == ((1, 1), (1, 1), "VALID", 1, (1, 1)),
            "a fully connected layer has a 1x1 kernel and no stride, dilation, padding or groups",
            f"strides, dilations, padding, groups, kernel = {plain}",
            "Use CONV_2D",
        )
    if layer.bias is not None:
        _check(
            layer.bias.dtype == np.int32 and layer.bias.shape == (channels,),
            f"the bias is int32 of shape ({channels},)",
            f"{layer.bias.dtype} of shape {layer.bias.shape}",
            "Quantise it with scale input * weight",
        )
    low, high = layer.output_range
    _check(
        -128 <= low <= high <= 127,
        "output_range is (smallest, largest) within int8",
        f"{layer.output_range}",
        "Clip it to (-128, 127)",
    )
    _check(
        all(-128 <= z <= 127 for z in (layer.input_zero_point, layer.output_zero_point)),
        "zero points are int8",
        f"input {layer.input_zero_point}, output {layer.output_zero_point}",
        "Quantise the activations to int8",
    )
    if not isinstance(layer.padding, str):
        pads = [pad for pair in layer.padding for pad in pair]
        _check(
            all(0 <= pad <= LARGEST_EXTENT for pad in pads),
            f"explicit padding is 0 to {LARGEST_EXTENT} on each side",
            f"{layer.padding}",
            "Pad with a separate operator",
        )
    else:
        _check(
            layer.padding in ("VALID", "SAME"),
            'padding is "VALID", "SAME" or ((top, bottom), (left, right))',
            repr(layer.padding),
            "Choose one of these",
        )
    _check_requantisation(layer.requantisation, channels)


def _check_requantisation(requantisation: Scales | FixedPoint, channels: int) -> None:
    tiny = float(np.finfo(np.float32).tiny)
    if isinstance(requantisation, Scales):
        scales = np.asarray(requantisation.weights)
        _check(
            scales.dtype == np.float32 and scales.shape in ((channels,), (1,)),
            f"weight scales are float32 of shape ({channels},) or (1,)",
            f"{scales.dtype} of shape {scales.shape}",
            "Give one per output channel, or one in all",
        )
        both = np.array([requantisation.input, requantisation.output], np.float32)
        _check(
            bool(
                np.isfinite(scales).all()
                and ((scales >= tiny) | (scales == 0)).all()
                and np.isfinite(both).all()
                and (both >= tiny).all()
            ),
            "scales are finite, normal and positive float32 numbers (a weight scale may be 0)",
            f"input={requantisation.input}, output={requantisation.output}, "
            f"weights from {scales.min()} to {scales.max()}",
            "Calibrate the model again",
        )
    else:
        multiplier, shift = requantisation.multiplier, requantisation.shift
        _check(
            multiplier.dtype == np.int32
            and shift.dtype == np.int8
            and multiplier.shape in ((channels,), (1,))
            and shift.shape == multiplier.shape,
            f"multiplier (int32) and shift (int8) have shape ({channels},) or (1,)",
            f"{multiplier.dtype} {multiplier.shape}, {shift.dtype} {shift.shape}",
            "Use `quantize_multiplier` per output channel",
        )
        _check(
            bool((multiplier >= 0).all() and (shift >= -31).all() and (shift <= 30).all()),
            "a multiplier is not negative, a shift is -31 to 30",
            f"multiplier from {multiplier.min()}, shift {shift.min()} to {shift.max()}",
            "Use `quantize_multiplier`",
        )


def _padded(section: bytes) -> bytes:
    return section + bytes(-len(section) % 4)


def pack(layer: Layer, *, encoding: str | Encoding = Encoding.RICE) -> bytes:
    """The blob of `layer`.

    Args:
        layer: the layer.
        encoding: how the weights are stored; `choose_encoding` picks one by cost.

    Raises:
        ValueError: if the layer is not what FORMAT.md can hold, in particular if its weights are
            not ternary and `encoding` is not "int8".
    """
    encoding = Encoding.named(encoding)
    _check_layer(layer)
    flags = 0
    values = (0, 0)
    sections: list[bytes] = []
    nonzeros = int(np.count_nonzero(layer.weights))
    if encoding is Encoding.INT8:
        stream, parameter = layer.weights.tobytes(), 0
    else:
        codes = ternary_codes(layer.weights)
        stream, parameter = encodings.encode(codes.symbols.ravel(), encoding, layer.weights.shape)
        if codes.layer_values is None:
            flags |= _CHANNEL_VALUES
            sections.append(codes.values.tobytes())
        else:
            values = codes.layer_values
            if codes.flips.any():
                flags |= _SIGN_FLIPS
                sections.append(np.packbits(codes.flips, bitorder="little").tobytes())
    if layer.bias is not None:
        flags |= _HAS_BIAS
        sections.append(layer.bias.astype("<i4").tobytes())
    input_scale = output_scale = 0.0
    if isinstance(layer.requantisation, Scales):
        per_channel = len(layer.requantisation.weights)
        input_scale, output_scale = layer.requantisation.input, layer.requantisation.output
        sections.append(layer.requantisation.weights.astype("<f4").tobytes())
    else:
        per_channel = len(layer.requantisation.multiplier)
        sections.append(layer.requantisation.multiplier.astype("<i4").tobytes())
        sections.append(layer.requantisation.shift.tobytes())
    if per_channel == 1 and layer.output_channels != 1:
        flags |= _LAYER_REQUANTISATION
    sections.append(stream)

    if isinstance(layer.padding, str):
        padding, pads = ("VALID", "SAME").index(layer.padding), (0, 0, 0, 0)
    else:
        (top, bottom), (left, right) = layer.padding
        padding, pads = 2, (top, bottom, left, right)
    body = b"".join(map(_padded, sections))
    most = most_weights(HEADER_SIZE + len(body))
    _check(
        layer.weights.size <= most,
        f"a blob of {HEADER_SIZE + len(body)} bytes holds at most {most} weights",
        f"{layer.weights.size} in the encoding {encoding.name.lower()}",
        'Take the encoding "bitmap"',
    )

    header = _Header(
        magic=MAGIC,
        version=VERSION,
        operator=layer.operator,
        encoding=encoding,
        blob_size=HEADER_SIZE + len(body),
        checksum=0,
        output_channels=layer.output_channels,
        input_channels=layer.input_channels,
        kernel_height=layer.weights.shape[1],
        kernel_width=layer.weights.shape[2],
        stride_vertical=layer.strides[0],
        stride_horizontal=layer.strides[1],
        dilation_vertical=layer.dilations[0],
        dilation_horizontal=layer.dilations[1],
        padding=padding,
        pad_top=pads[0],
        pad_bottom=pads[1],
        pad_left=pads[2],
        pad_right=pads[3],
        flags=flags,
        groups=layer.groups,
        input_zero_point=layer.input_zero_point,
        output_zero_point=layer.output_zero_point,
        output_smallest=layer.output_range[0],
        output_largest=layer.output_range[1],
        value_plus=values[0],
        value_minus=values[1],
        fixed_point=int(isinstance(layer.requantisation, FixedPoint)),
        parameter=parameter,
        nonzeros=nonzeros,
        stream_size=len(stream),
        input_scale=input_scale,
        output_scale=output_scale,
        reserved=0,
    )
    checksum = zlib.crc32(_HEADER.pack(*header)[16:] + body)
    return _HEADER.pack(*header._replace(checksum=checksum)) + body


class _Sections:
    """Cuts a blob into sections; every cut is checked against the end."""

    def __init__(self, blob: bytes) -> None:
        self._blob = blob
        self._at = HEADER_SIZE

    def take(self, size: int, name: str) -> bytes:
        end = self._at + size
        padded_end = end + -size % 4
        if padded_end > len(self._blob):
            raise BlobError(
                f"the {name} section of a blob ends at byte {padded_end}. "
                f"Received: a blob of {len(self._blob)} bytes. Fetch or export the file again."
            )
        if any(self._blob[end:padded_end]):
            raise BlobError(f"the {name} section of a blob is not filled with zeros")
        section = self._blob[self._at : end]
        self._at = padded_end
        return section

    def finish(self) -> None:
        if self._at != len(self._blob):
            raise BlobError(
                f"a blob of this header has {self._at} bytes. Received: {len(self._blob)} bytes. "
                "The file is damaged: export it again."
            )


def _damaged(condition: bool, what: str) -> None:
    if not condition:
        raise BlobError(f"{what} of the blob is not allowed. The file is damaged: export it again.")


def stream_size(blob: bytes) -> int:
    """Bytes of the weight stream alone, as the header states them."""
    return _read_header(blob).stream_size


def _read_header(blob: bytes) -> _Header:
    if len(blob) < HEADER_SIZE or blob[:4] != MAGIC:
        raise BlobError(
            f"a layer blob starts with {MAGIC!r} and has at least {HEADER_SIZE} bytes. "
            f"Received: {len(blob)} bytes starting with {bytes(blob[:4])!r}. "
            'Only files written by ec2t_tf with format="packed" or "download" hold blobs.'
        )
    header = _Header._make(_HEADER.unpack(blob[:HEADER_SIZE]))
    if header.version != VERSION:
        raise BlobError(
            f"this version of ec2t_tf reads blobs of version {VERSION}. "
            f"Received: version {header.version}. Install the matching ec2t_tf or export again."
        )
    if header.blob_size != len(blob):
        raise BlobError(
            f"the header says that the blob has {header.blob_size} bytes. "
            f"Received: {len(blob)} bytes. Fetch or export the file again."
        )
    if zlib.crc32(blob[16:]) != header.checksum:
        raise BlobError("the checksum of the blob is wrong. Fetch or export the file again.")
    return header


def _check_header(header: _Header) -> None:
    """The table of FORMAT.md, before anything is allocated."""
    _damaged(header.operator in set(Operator), f"operator {header.operator}")
    _damaged(header.encoding in set(Encoding), f"encoding {header.encoding}")
    is_int8 = header.encoding == Encoding.INT8
    _damaged(header.flags < 16 and header.flags & 6 != 6, "a flag")
    _damaged(not is_int8 or not header.flags & 6, "a flag of an int8 stream")
    _damaged(header.padding <= 2 and header.fixed_point <= 1, "padding or requantisation")
    pads = (header.pad_top, header.pad_bottom, header.pad_left, header.pad_right)
    _damaged(header.reserved == 0 and (header.padding == 2 or not any(pads)), "an unused field")
    channels, inputs, groups = header.output_channels, header.input_channels, header.groups
    extents = header[8:14]
    _damaged(
        1 <= channels <= LARGEST_CHANNELS
        and 1 <= inputs <= LARGEST_CHANNELS
        and groups >= 1
        and inputs % groups == 0
        and channels % groups == 0
        and all(1 <= extent <= LARGEST_EXTENT for extent in extents),
        "the geometry",
    )
    taps = header.kernel_height * header.kernel_width * (inputs // groups)
    _damaged(
        taps <= LARGEST_TAPS and taps * channels <= most_weights(header.blob_size),
        "the number of weights",
    )
    _damaged(header.nonzeros <= taps * channels, "the number of non-zero weights")
    is_rice = header.encoding == Encoding.RICE
    _damaged(
        header.parameter <= (encodings.LARGEST_RICE_PARAMETER if is_rice else 0),
        "the stream parameter",
    )
    _damaged(
        (not is_int8 and not header.flags & _CHANNEL_VALUES)
        or (header.value_plus == 0 and header.value_minus == 0),
        "a value in the header",
    )
    _damaged(min(header.value_plus, header.value_minus) >= -127, "a value in the header")


def unpack(blob: bytes) -> Layer:
    """The layer in `blob`, weights decoded to int8.

    Raises:
        BlobError: if the bytes are not a valid blob.
    """
    blob = bytes(blob)
    header = _read_header(blob)
    _check_header(header)
    channels, flags = header.output_channels, header.flags
    kernel = (header.kernel_height, header.kernel_width)
    shape = (channels, *kernel, header.input_channels // header.groups)
    count = math.prod(shape)

    sections = _Sections(blob)
    values = np.full((channels, 2), (header.value_plus, header.value_minus), np.int8)
    if flags & _CHANNEL_VALUES:
        values = np.frombuffer(sections.take(2 * channels, "values"), np.int8).reshape(-1, 2)
    _damaged(values.min() >= -127, "a value")
    if flags & _SIGN_FLIPS:
        bits = np.frombuffer(sections.take(-(-channels // 8), "flips"), np.uint8)
        flips = np.unpackbits(bits, bitorder="little")
        _damaged(not flips[channels:].any(), "an unused flip")
        values = values * (1 - 2 * flips[:channels, None].astype(np.int8))
    bias = None
    if flags & _HAS_BIAS:
        bias = np.frombuffer(sections.take(4 * channels, "bias"), "<i4").astype(np.int32)
    rows = 1 if flags & _LAYER_REQUANTISATION else channels
    requantisation: Scales | FixedPoint
    if header.fixed_point:
        _damaged(header.input_scale == 0 and header.output_scale == 0, "a scale")
        requantisation = FixedPoint(
            np.frombuffer(sections.take(4 * rows, "multipliers"), "<i4").astype(np.int32),
            np.frombuffer(sections.take(rows, "shifts"), np.int8),
        )
    else:
        requantisation = Scales(
            header.input_scale,
            header.output_scale,
            np.frombuffer(sections.take(4 * rows, "weight scales"), "<f4").astype(np.float32),
        )
    stream = sections.take(header.stream_size, "stream")
    sections.finish()

    if header.encoding == Encoding.INT8:
        if len(stream) != count:
            raise BlobError(
                f"an int8 stream of this layer has {count} bytes. Received: {len(stream)}."
            )
        weights = np.frombuffer(stream, np.int8).reshape(shape)
        _damaged(int(np.count_nonzero(weights)) == header.nonzeros, "the number of non-zeros")
    else:
        symbols = encodings.decode(
            stream, Encoding(header.encoding), shape, header.nonzeros, header.parameter
        )
        symbols = symbols.reshape(channels, -1)
        weights = np.where(symbols > 0, values[:, :1], 0) + np.where(symbols < 0, values[:, 1:], 0)
        weights = weights.astype(np.int8).reshape(shape)
    explicit = ((header.pad_top, header.pad_bottom), (header.pad_left, header.pad_right))
    paddings: tuple[Padding, ...] = ("VALID", "SAME", explicit)
    layer = Layer(
        operator=Operator(header.operator),
        weights=weights,
        requantisation=requantisation,
        bias=bias,
        strides=(header.stride_vertical, header.stride_horizontal),
        dilations=(header.dilation_vertical, header.dilation_horizontal),
        padding=paddings[header.padding],
        groups=header.groups,
        input_zero_point=header.input_zero_point,
        output_zero_point=header.output_zero_point,
        output_range=(header.output_smallest, header.output_largest),
    )
    try:
        _check_layer(layer)
    except ValueError as error:
        raise BlobError(f"the blob holds an impossible layer: {error}") from error
    return layer
