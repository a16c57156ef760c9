"""Pack a layer into a blob and back (FORMAT.md, version 1). NumPy only."""

from __future__ import annotations

import math

import numpy as np

from . import encodings
from .encodings import BlobError, Encoding
from .header import (
    CHANNEL_VALUES,
    HAS_BIAS,
    HEADER_SIZE,
    LAYER_REQUANTISATION,
    MAGIC,
    SIGN_FLIPS,
    VERSION,
    Header,
    check_header,
    damaged,
    read_header,
    with_header,
)
from .layer import FixedPoint, Layer, Operator, Padding, Scales, check_layer, most_weights, require
from .ternary import ternary_codes


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
    check_layer(layer)
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
            flags |= CHANNEL_VALUES
            sections.append(codes.values.tobytes())
        else:
            values = codes.layer_values
            if codes.flips.any():
                flags |= SIGN_FLIPS
                sections.append(np.packbits(codes.flips, bitorder="little").tobytes())
    if layer.bias is not None:
        flags |= HAS_BIAS
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
        flags |= LAYER_REQUANTISATION
    sections.append(stream)

    if isinstance(layer.padding, str):
        padding, pads = ("VALID", "SAME").index(layer.padding), (0, 0, 0, 0)
    else:
        (top, bottom), (left, right) = layer.padding
        padding, pads = 2, (top, bottom, left, right)
    body = b"".join(map(_padded, sections))
    most = most_weights(HEADER_SIZE + len(body))
    require(
        layer.weights.size <= most,
        f"a blob of {HEADER_SIZE + len(body)} bytes holds at most {most} weights",
        f"{layer.weights.size} in the encoding {encoding.name.lower()}",
        'Take the encoding "bitmap"',
    )

    header = Header(
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
    return with_header(header, body)


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


def unpack(blob: bytes) -> Layer:
    """The layer in `blob`, weights decoded to int8.

    Raises:
        BlobError: if the bytes are not a valid blob.
    """
    blob = bytes(blob)
    header = read_header(blob)
    check_header(header)
    channels, flags = header.output_channels, header.flags
    kernel = (header.kernel_height, header.kernel_width)
    shape = (channels, *kernel, header.input_channels // header.groups)
    count = math.prod(shape)

    sections = _Sections(blob)
    values = np.full((channels, 2), (header.value_plus, header.value_minus), np.int8)
    if flags & CHANNEL_VALUES:
        values = np.frombuffer(sections.take(2 * channels, "values"), np.int8).reshape(-1, 2)
    damaged(values.min() >= -127, "a value")
    if flags & SIGN_FLIPS:
        bits = np.frombuffer(sections.take(-(-channels // 8), "flips"), np.uint8)
        flips = np.unpackbits(bits, bitorder="little")
        damaged(not flips[channels:].any(), "an unused flip")
        values = values * (1 - 2 * flips[:channels, None].astype(np.int8))
    bias = None
    if flags & HAS_BIAS:
        bias = np.frombuffer(sections.take(4 * channels, "bias"), "<i4").astype(np.int32)
    rows = 1 if flags & LAYER_REQUANTISATION else channels
    requantisation: Scales | FixedPoint
    if header.fixed_point:
        damaged(header.input_scale == 0 and header.output_scale == 0, "a scale")
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
        damaged(int(np.count_nonzero(weights)) == header.nonzeros, "the number of non-zeros")
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
        check_layer(layer)
    except ValueError as error:
        raise BlobError(f"the blob holds an impossible layer: {error}") from error
    return layer
