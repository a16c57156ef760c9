"""`format="download"`: one small file that `from_download` turns back into `int8` or `packed`.

A file that our writer wrote is stored as its graph (version 4, or 5 where numbers were rounded;
version 3 coded it less well). All numbers are little-endian:

    magic "EC2D", u16 version, u8 goal of the packed file, u8 0, u32 CRC-32 of the stream,
    the stream of `graph_code`

Any other file, and one of very many int8 weights, is stored as it is (version 2): the int8 .tflite
file with its ternary weights taken out (zeros in their place, and the bias scales
that follow from the other two scales) goes through LZMA; the weights go through the adaptive
range coder of export/formats:

    magic, version, goal, u8 0 as above,
    u32 size and u32 CRC-32 of the int8 file, u32 0 (version 1: CRC-32 of the packed file),
    u32 size of the LZMA data, u32 number of layers, the LZMA data (raw LZMA2, preset 9),
    then for each layer: u16 0, u32 operator, u32 non-zero weights, u32 stream size,
    u8 flags (1 sign flips, 2 values per channel), i8 value of +1, i8 value of -1,
    with flag 1 a bit a channel, with flag 2 two i8 a channel, and the stream.

Version 1 changed the scales of a bias once for each tensor, version 2 once for each place in the
file: tensors may share their scales.

    from ec2t_tf.export import unpack
    unpack(Path("model.ec2d").read_bytes(), to="packed")
"""

from __future__ import annotations

import contextlib
import dataclasses
import lzma
import math
import struct
import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from .. import formats
from ..formats.choose import Goal
from ..formats.layer import most_weights
from ..formats.range_coder import QUICK, STEADY, Rates, decode_range, encode_range
from ..graph import FileError, Graph, check
from ..graph.checking import check_structure
from ..tflite.reader import Layout, layout, read
from ..tflite.writer import write
from .graph_code import NotCoded, from_stream, plain_elements, to_stream, version_of
from .layers import (
    DEPTHWISE_CONV_2D,
    FULLY_CONNECTED,
    KINDS,
    TernaryLayer,
    find_layers,
    nameless,
)

MAGIC = b"EC2D"
VERSION = 5
_AS_IT_IS = 2  # and all versions below; above, a graph
GOALS: tuple[Goal, ...] = ("size", "speed", "download")
_HEADER = struct.Struct("<4sHBBIIIII")
_GRAPH_HEADER = struct.Struct("<4sHBBI")
_MOST_CODED = 1 << 17  # elements that are no ternary weights; a second for 30,000
_LAYER = struct.Struct("<HIIIBbb")
_SIGN_FLIPS, _CHANNEL_VALUES = 1, 2
_FILTERS: list[dict[str, int]] = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME}]
# Bits of the byte before, and of the place, that tell LZMA what comes next. Tables are made of
# 32-bit numbers; LZMA's own choice is for text. The stream says which one it was made with.
_CONTEXTS = ({"lc": 0, "lp": 2}, {"lc": 1, "lp": 2}, {"lc": 0, "lp": 0}, {"lc": 3, "lp": 0})
_MOST_EXPANSION = 1024  # int8 bytes a byte of the file
_DAMAGE = (
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    TypeError,
    ValueError,
    lzma.LZMAError,
    struct.error,
)


class _Header(NamedTuple):
    magic: bytes
    version: int
    goal: int
    reserved: int
    int8_size: int
    int8_checksum: int
    packed_checksum: int
    compressed_size: int
    layers: int


def is_download(file: bytes) -> bool:
    """Whether `file` starts as `to_download` writes it."""
    return file[:4] == MAGIC


def _weights_shape(kind: str, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """Outputs, kernel height, kernel width, inputs of a weight tensor's rows."""
    if kind == FULLY_CONNECTED:
        return shape[0], 1, 1, shape[1]
    if kind == DEPTHWISE_CONV_2D:
        return shape[0] * shape[3], shape[1], shape[2], 1
    return shape[0], shape[1], shape[2], shape[3]


class _Skeleton:
    """The int8 file as bytes that can be changed in place, its length kept."""

    def __init__(self, content: bytes) -> None:
        self.places: Layout = layout(content)
        check_structure(self.places.graph)
        self.bytes = np.frombuffer(content, np.uint8).copy()

    def weights(self, operator: int) -> np.ndarray:
        """The bytes of a layer's weights: a view."""
        start, size = self.places.data[self.places.graph.operators[operator].inputs[1]]
        return self.bytes[start : start + size]

    def toggle_bias_scales(self, layers: list[TernaryLayer], version: int) -> None:
        """Exclusive-or with input scale times weight scale: zeros where the converter did that."""
        done: set[Any] = set()
        for layer in layers:
            bias, tensor = layer.bias, (*layer.operator.inputs, -1, -1)[2]
            if bias is None or not min(layer.input.scale.size, bias.scale.size):
                continue
            start, count = self.places.scales[tensor]
            if (key := tensor if version == 1 else start) in done:
                continue
            done.add(key)
            if count == layer.weights.scale.size and layer.input.scale.size == 1:
                product = (layer.input.scale * layer.weights.scale).astype("<f4")
                stored = self.bytes[start : start + 4 * count]
                stored ^= product.view(np.uint8)


def to_download(int8_file: bytes, *, optimize: Goal = "size", names: bool = True) -> bytes:
    """The smallest file that holds an int8 .tflite file.

    Args:
        int8_file: a .tflite file; its ternary int8 layers become much smaller, the rest as small as
            LZMA makes it.
        optimize: how `from_download(..., to="packed")` will encode the weights, see `to_packed`.
        names: keep the names of tensors and signatures and what the file says about itself; without
            them that file comes back.

    Returns:
        The bytes of the file.

    Raises:
        FileError: the file is damaged.
        ValueError: `optimize` is not one of the goals.
    """
    if optimize not in GOALS:
        raise ValueError(f"optimize must be one of {GOALS}. Received: optimize={optimize!r}")
    if not names:
        int8_file = write(nameless(read(int8_file)))
    files = [_as_it_is(int8_file, optimize), _as_graph(int8_file, optimize)]
    return min((file for file in files if file is not None), key=len)


def _as_graph(int8_file: bytes, optimize: Goal) -> bytes | None:
    """Version 4 or 5, or None where the file would not come back bit for bit."""
    graph = read(int8_file)
    if plain_elements(graph) > _MOST_CODED or write(graph) != int8_file:
        return None
    version = version_of(graph)
    try:
        stream = to_stream(graph, version=version)
    except NotCoded:
        return None
    header = _GRAPH_HEADER.pack(MAGIC, version, GOALS.index(optimize), 0, zlib.crc32(stream))
    file = header + stream
    try:
        return file if from_download(file) == int8_file else None
    except FileError:  # too many weights for its length
        return None


def _graph_of(file: bytes) -> Graph:
    """The graph in a file of version 3, 4 or 5."""
    if len(file) < _GRAPH_HEADER.size:
        raise FileError("the download file is cut short: fetch it again")
    _, _, _, _, checksum = _GRAPH_HEADER.unpack_from(file)
    stream = file[_GRAPH_HEADER.size :]
    if zlib.crc32(stream) != checksum:
        raise FileError("the checksum of the download file is wrong: fetch it again")
    with _damage_is_said(file):
        graph = from_stream(stream, version=_version(file))
        check(graph)
        return graph


def _as_it_is(int8_file: bytes, optimize: Goal) -> bytes:
    """Version 2."""
    skeleton = _Skeleton(int8_file)
    layers, _ = find_layers(skeleton.places.graph)
    records = []
    emptied: set[int] = set()
    for layer in layers:
        place = skeleton.places.data.get(layer.operator.inputs[1])
        plain = layer.weights.storage == "dense" and place is not None
        if place is not None and plain and place[0] not in emptied:
            emptied.add(place[0])
            records.append(_layer_record(layer))
            skeleton.weights(layer.number)[:] = 0
    skeleton.toggle_bias_scales(layers, _AS_IT_IS)
    compressed = _compressed(skeleton.bytes.tobytes())
    header = _Header(
        magic=MAGIC,
        version=_AS_IT_IS,
        goal=GOALS.index(optimize),
        reserved=0,
        int8_size=len(int8_file),
        int8_checksum=zlib.crc32(int8_file),
        packed_checksum=0,
        compressed_size=len(compressed),
        layers=len(records),
    )
    return b"".join([_HEADER.pack(*header), compressed, *records])


def _compressed(content: bytes) -> bytes:
    (usual,) = _FILTERS
    window = min(max(len(content), 1 << 12), 1 << 26)  # as far as the reader looks back, at most
    tries = ([{**usual, "dict_size": window, **context}] for context in _CONTEXTS)
    return min(
        (lzma.compress(content, lzma.FORMAT_RAW, filters=filters) for filters in tries), key=len
    )


def _stream(layer: TernaryLayer, rates: Rates = QUICK) -> bytes:
    symbols = formats.ternary_codes(layer.rows).symbols
    return encode_range(symbols.ravel(), _weights_shape(layer.kind, layer.codes.shape), rates)


def _layer_record(layer: TernaryLayer) -> bytes:
    codes = formats.ternary_codes(layer.rows)
    stream = _stream(layer)
    flags, values, section = 0, (0, 0), b""
    if codes.layer_values is None:
        flags, section = _CHANNEL_VALUES, codes.values.tobytes()
    else:
        values = codes.layer_values
        if codes.flips.any():
            flags, section = _SIGN_FLIPS, np.packbits(codes.flips, bitorder="little").tobytes()
    nonzeros = int(np.count_nonzero(codes.symbols))
    record = _LAYER.pack(0, layer.number, nonzeros, len(stream), flags, *values)
    return record + section + stream


@dataclasses.dataclass(frozen=True)
class _Record:
    """One layer's weights in a download file."""

    operator: int
    kind: str
    shape: tuple[int, int, int, int]
    """Outputs, kernel height, kernel width, inputs."""
    nonzeros: int
    values: np.ndarray
    """int8 [outputs, 2]: what +1 and -1 stand for."""
    stream: bytes

    def decode(self) -> np.ndarray:
        """int8 weights, flat, in the order of the tensor."""
        symbols, complete = decode_range(self.stream, self.shape, self.nonzeros)
        if not complete or np.count_nonzero(symbols) != self.nonzeros:
            raise FileError(
                f"the weights of operator {self.operator} are damaged: fetch the file again"
            )
        rows = symbols.reshape(self.shape[0], -1)
        weights = np.where(rows > 0, self.values[:, :1], 0)
        weights = np.where(rows < 0, self.values[:, 1:], weights).astype(np.int8)
        return (weights.T if self.kind == DEPTHWISE_CONV_2D else weights).ravel()


def stream_bytes(file: bytes) -> int:
    """Bytes of the range-coded weight streams in a download file; where these are part of another
    stream what they take by themselves.

    Raises:
      FileError: the file is damaged.
    """
    if _version(file) > _AS_IT_IS:
        layers, _ = find_layers(_graph_of(file))
        rates = (QUICK,) if _version(file) == 3 else (QUICK, STEADY)
        return sum(min(len(_stream(layer, one)) for one in rates) for layer in layers)
    return sum(len(record.stream) for record in _opened(file)[2])


def header_goal(file: bytes) -> Goal:
    """What the packed file is optimised for.

    Raises:
      FileError: the file is no download file.
    """
    _version(file)
    if len(file) < _GRAPH_HEADER.size or file[6] >= len(GOALS) or file[7]:
        raise FileError("the header of the download file is not valid: fetch it again")
    return GOALS[file[6]]


def _version(file: bytes) -> int:
    """Of a download file; one that this module reads."""
    if len(file) < 6 or not is_download(file):
        raise FileError(
            f'a file written with format="download" starts with {MAGIC!r}. '
            f"Received: {len(file)} bytes starting {bytes(file[:4])!r}"
        )
    version = int.from_bytes(file[4:6], "little")
    if not 1 <= version <= VERSION:
        raise FileError(
            f"this version of ec2t_tf reads download files of versions 1 to {VERSION}. "
            f"Received: version {version}. Install a newer ec2t_tf"
        )
    return version


def _read_header(file: bytes) -> _Header:
    if len(file) < _HEADER.size:
        raise FileError("the download file is cut short: fetch it again")
    header = _Header._make(_HEADER.unpack_from(file))
    too_large = header.int8_size > _MOST_EXPANSION * len(file)
    if header.goal >= len(GOALS) or header.reserved or too_large:
        raise FileError("the header of the download file is not valid: fetch it again")
    return header


@contextlib.contextmanager
def _damage_is_said(file: bytes) -> Iterator[None]:
    """Around decoding: whatever fails there becomes the one error of a damaged file."""
    try:
        yield
    except FileError:
        raise
    except _DAMAGE as error:
        raise FileError(
            f"the download file is damaged ({type(error).__name__}: {error}). "
            f"Received: {len(file)} bytes; fetch it again"
        ) from error


def _opened(file: bytes) -> tuple[_Header, _Skeleton, list[_Record]]:
    """The header, the int8 file without its weights, and the weights."""
    header = _read_header(file)
    with _damage_is_said(file):
        compressed = file[_HEADER.size : _HEADER.size + header.compressed_size]
        decompressor = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=_FILTERS)
        content = decompressor.decompress(compressed, max_length=header.int8_size + 1)
        if len(content) != header.int8_size:
            raise FileError("the download file is cut short or damaged: fetch it again")
        skeleton = _Skeleton(content)
        return header, skeleton, list(_read_records(file, header, skeleton.places))


def _read_records(file: bytes, header: _Header, places: Layout) -> Iterator[_Record]:
    at = _HEADER.size + header.compressed_size
    filled: set[int] = set()
    weights = most_weights(len(file))  # what decoding costs follows from their number

    def take(size: int) -> bytes:
        nonlocal at
        if at + size > len(file):
            raise FileError(
                f"the download file is cut short: {at + size} bytes are needed. "
                f"Received: {len(file)}. Fetch it again"
            )
        at += size
        return file[at - size : at]

    for _ in range(header.layers):
        graph, operator, nonzeros, stream_size, flags, plus, minus = _LAYER.unpack(
            take(_LAYER.size)
        )
        if graph:
            raise FileError(f"there is no subgraph {graph}: fetch the file again")
        kind, shape, start = _layer_shape(places, operator)
        if start in filled:
            raise FileError(f"the weights of operator {operator} come twice: fetch the file again")
        filled.add(start)
        weights -= math.prod(shape)
        if weights < 0:
            raise FileError(
                f"a download file of {len(file)} bytes must have at most "
                f"{most_weights(len(file)):,} weights. Received: more. Fetch it again"
            )
        values = np.full((shape[0], 2), (plus, minus), np.int8)
        if flags == _CHANNEL_VALUES:
            values = np.frombuffer(take(2 * shape[0]), np.int8).reshape(-1, 2)
        elif flags == _SIGN_FLIPS:
            bits = np.frombuffer(take(-(-shape[0] // 8)), np.uint8)
            flips = np.unpackbits(bits, bitorder="little")[: shape[0], None].astype(np.int8)
            values = values * (1 - 2 * flips)
        elif flags:
            raise FileError(f"a layer has the unknown flags {flags}: fetch the file again")
        yield _Record(operator, kind, shape, nonzeros, values, take(stream_size))
    if at != len(file):
        raise FileError(
            f"the download file should have {at} bytes. Received: {len(file)}. Fetch it again"
        )


def _layer_shape(places: Layout, number: int) -> tuple[str, tuple[int, int, int, int], int]:
    """Kind and weight shape of a layer of the skeleton, and where its weights start."""
    graph = places.graph
    if number >= len(graph.operators):
        raise FileError(f"there is no operator {number}")
    operator = graph.operators[number]
    kind = operator.kind
    if kind not in KINDS or operator.custom is not None or len(operator.inputs) < 2:
        raise FileError(f"operator {number} is no layer")
    index = operator.inputs[1]
    shape = graph.tensors[index].shape
    if len(shape) != (2 if kind == FULLY_CONNECTED else 4) or min(shape) < 1:
        raise FileError(f"operator {number} has weights of shape {shape}")
    start, size = places.data.get(index, (0, 0))
    if size != math.prod(shape):
        raise FileError(f"operator {number} has {size} bytes of weights")
    return kind, _weights_shape(kind, shape), start


def from_download(file: bytes) -> bytes:
    """The int8 .tflite file that `to_download` was given, bit for bit (without its names where they
    were left out).

    Raises:
        FileError: the file is damaged, or written by a newer version.
    """
    header_goal(file)
    if _version(file) > _AS_IT_IS:
        return write(_graph_of(file))
    header, skeleton, records = _opened(file)
    with _damage_is_said(file):
        for record in records:
            skeleton.weights(record.operator)[:] = record.decode().view(np.uint8)
        restored = _Skeleton(skeleton.bytes.tobytes())
        restored.toggle_bias_scales(find_layers(restored.places.graph)[0], header.version)
    content = restored.bytes.tobytes()
    if zlib.crc32(content) != header.int8_checksum:
        raise FileError("the checksum of the download file is wrong: fetch it again")
    return content
