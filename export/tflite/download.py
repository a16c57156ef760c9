"""`format="download"`: one small file that `unpack` turns back into `int8` or `packed`.

The int8 .tflite file with its ternary weights taken out (zeros in their place, and the bias scales
that follow from the other two scales) goes through LZMA; the weights go through the adaptive
range coder of export/formats. All numbers are little-endian:

    magic "EC2D", u16 version, u8 goal of the packed file, u8 0,
    u32 size and u32 CRC-32 of the int8 file, u32 CRC-32 of the packed file,
    u32 size of the LZMA data, u32 number of layers, the LZMA data (raw LZMA2, preset 9),
    then for each layer: u16 subgraph, u32 operator, u32 non-zero weights, u32 stream size,
    u8 flags (1 sign flips, 2 values per channel), i8 value of +1, i8 value of -1,
    with flag 1 a bit a channel, with flag 2 two i8 a channel, and the stream.

    from ec2t_tf.export import unpack
    unpack(Path("model.ec2d").read_bytes(), to="packed")
"""

from __future__ import annotations

import dataclasses
import lzma
import math
import struct
import zlib
from typing import Any, Literal, NamedTuple

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from .. import formats
from ..formats.range_coder import decode_range, encode_range
from . import flatbuffer
from .layers import DEPTHWISE_CONV_2D, FULLY_CONNECTED, KINDS, TernaryLayer, require_layers
from .packed import Goal, packed

MAGIC = b"EC2D"
VERSION = 1
GOALS: tuple[Goal, ...] = ("size", "speed", "download")
_HEADER = struct.Struct("<4sHBBIIIII")
_LAYER = struct.Struct("<HIIIBbb")
_SIGN_FLIPS, _CHANNEL_VALUES = 1, 2
_FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME}]
_MOST_EXPANSION = 8192  # int8 bytes a byte of the file; LZMA alone reaches some 7,000


class DownloadError(ValueError):
    """The bytes are not a valid download file."""


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


def _weights_shape(kind: str, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """Outputs, kernel height, kernel width, inputs of a weight tensor's rows."""
    if kind == FULLY_CONNECTED:
        return shape[0], 1, 1, shape[1]
    if kind == DEPTHWISE_CONV_2D:
        return shape[0] * shape[3], shape[1], shape[2], 1
    return shape[0], shape[1], shape[2], shape[3]


class _Skeleton:
    """The int8 file as bytes that can be changed in place, its length kept."""

    def __init__(self, data: bytes) -> None:
        self.data = bytearray(data)
        self._root = schema.Model.GetRootAs(self.data, 0)
        self._bias_scales: set[tuple[int, int]] = set()

    def operator(self, graph: int, operator: int) -> Any:
        if graph >= self._root.SubgraphsLength():
            raise DownloadError(f"there is no subgraph {graph}")
        subgraph = self._root.Subgraphs(graph)
        if operator >= subgraph.OperatorsLength():
            raise DownloadError(f"there is no operator {operator}")
        return subgraph.Operators(operator)

    def weights(self, graph: int, operator: int) -> np.ndarray:
        """The bytes of a layer's weights: a view."""
        subgraph = self._root.Subgraphs(graph)
        tensor = subgraph.Tensors(self.operator(graph, operator).Inputs(1))
        view = self._root.Buffers(tensor.Buffer()).DataAsNumpy()
        if not isinstance(view, np.ndarray):
            raise DownloadError(f"operator {operator} has no weights")
        return view

    def toggle_bias_scales(self, graph: int, operator: int) -> None:
        """Exclusive-or with input scale times weight scale: zeros where the converter did that."""
        subgraph = self._root.Subgraphs(graph)
        inputs = self.operator(graph, operator).InputsAsNumpy()
        if len(inputs) < 3 or inputs[2] < 0 or (graph, int(inputs[2])) in self._bias_scales:
            return
        self._bias_scales.add((graph, int(inputs[2])))
        tables = [subgraph.Tensors(index).Quantization() for index in inputs]
        if any(table is None or table.ScaleLength() == 0 for table in tables):
            return
        source, weights, bias = (table.ScaleAsNumpy() for table in tables)
        if len(weights) == len(bias) and len(source) == 1:
            bias.view("<u4")[:] ^= (source * weights).astype("<f4").view("<u4")


def _operator_places(model: Any) -> dict[int, tuple[int, int]]:
    return {
        id(operator): (g, o)
        for g, graph in enumerate(model.subgraphs)
        for o, operator in enumerate(graph.operators)
    }


def download(int8_file: bytes, *, optimize: Goal = "size") -> bytes:
    """The smallest file that holds an int8 .tflite file with ternary layers.

    Args:
        int8_file: an int8 .tflite file with ternary layers.
        optimize: how `unpack(..., to="packed")` will encode the weights, see `packed`.

    Returns:
        The bytes of the file; `unpack` turns them back.

    Raises:
        ValueError: the int8 file is damaged or has no ternary layer, or `optimize` is not one of
            the goals.
    """
    if optimize not in GOALS:
        raise ValueError(f"optimize must be one of {GOALS}. Received: optimize={optimize!r}")
    model = flatbuffer.load(int8_file)
    layers = require_layers(model, 'format="download"')
    places = _operator_places(model)
    skeleton = _Skeleton(int8_file)
    records = []
    emptied: set[int] = set()
    for layer in layers:
        place = places[id(layer.operator)]
        if layer.weights.buffer not in emptied:
            emptied.add(layer.weights.buffer)
            records.append(_layer_record(layer, place))
            skeleton.weights(*place)[:] = 0
        skeleton.toggle_bias_scales(*place)
    compressed = lzma.compress(bytes(skeleton.data), lzma.FORMAT_RAW, filters=_FILTERS)
    header = _Header(
        magic=MAGIC,
        version=VERSION,
        goal=GOALS.index(optimize),
        reserved=0,
        int8_size=len(int8_file),
        int8_checksum=zlib.crc32(int8_file),
        packed_checksum=zlib.crc32(packed(int8_file, optimize=optimize)),
        compressed_size=len(compressed),
        layers=len(records),
    )
    return b"".join([_HEADER.pack(*header), compressed, *records])


def _layer_record(layer: TernaryLayer, place: tuple[int, int]) -> bytes:
    codes = formats.ternary_codes(layer.rows)
    stream = encode_range(codes.symbols.ravel(), _weights_shape(layer.kind, layer.codes.shape))
    flags, values, section = 0, (0, 0), b""
    if codes.layer_values is None:
        flags, section = _CHANNEL_VALUES, codes.values.tobytes()
    else:
        values = codes.layer_values
        if codes.flips.any():
            flags, section = _SIGN_FLIPS, np.packbits(codes.flips, bitorder="little").tobytes()
    nonzeros = int(np.count_nonzero(codes.symbols))
    return _LAYER.pack(*place, nonzeros, len(stream), flags, *values) + section + stream


@dataclasses.dataclass(frozen=True)
class _Record:
    """One layer's weights in a download file."""

    graph: int
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
            raise DownloadError(
                f"the weights of operator {self.operator} are damaged: fetch the file again"
            )
        rows = symbols.reshape(self.shape[0], -1)
        weights = np.where(rows > 0, self.values[:, :1], 0)
        weights = np.where(rows < 0, self.values[:, 1:], weights).astype(np.int8)
        return (weights.T if self.kind == DEPTHWISE_CONV_2D else weights).ravel()


def stream_bytes(file: bytes) -> int:
    """Bytes of the range-coded weight streams in a download file."""
    header = _read_header(file)
    return sum(len(record.stream) for record in _read_records(file, header, _skeleton_of(file)))


def is_download(file: bytes) -> bool:
    """Whether `file` starts as `download` writes it."""
    return file[:4] == MAGIC


def _read_header(file: bytes) -> _Header:
    if len(file) < _HEADER.size or not is_download(file):
        raise DownloadError(
            f'a file written with format="download" starts with {MAGIC!r}. '
            f"Received: {len(file)} bytes starting {bytes(file[:4])!r}"
        )
    header = _Header._make(_HEADER.unpack_from(file))
    if header.version != VERSION:
        raise DownloadError(
            f"this version of ec2t_tf reads download files of version {VERSION}. "
            f"Received: version {header.version}. Install the matching ec2t_tf or export again"
        )
    too_large = header.int8_size > _MOST_EXPANSION * len(file)
    if header.goal >= len(GOALS) or header.reserved or too_large:
        raise DownloadError("the header of the download file is not valid: fetch it again")
    return header


def _skeleton_of(file: bytes) -> bytes:
    """The int8 file without its weights, its indices checked."""
    header = _read_header(file)
    compressed = file[_HEADER.size : _HEADER.size + header.compressed_size]
    decompressor = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=_FILTERS)
    skeleton = decompressor.decompress(compressed, max_length=header.int8_size + 1)
    if len(skeleton) != header.int8_size:
        raise DownloadError("the download file is cut short or damaged: fetch it again")
    flatbuffer.load(skeleton)
    return skeleton


def _read_records(file: bytes, header: _Header, skeleton: bytes) -> list[_Record]:
    records = []
    at = _HEADER.size + header.compressed_size

    def take(size: int) -> bytes:
        nonlocal at
        if at + size > len(file):
            raise DownloadError(
                f"the download file is cut short: {at + size} bytes are needed. "
                f"Received: {len(file)}. Fetch it again"
            )
        at += size
        return file[at - size : at]

    for _ in range(header.layers):
        graph, operator, nonzeros, stream_size, flags, plus, minus = _LAYER.unpack(
            take(_LAYER.size)
        )
        kind, shape = _layer_shape(skeleton, graph, operator)
        values = np.full((shape[0], 2), (plus, minus), np.int8)
        if flags == _CHANNEL_VALUES:
            values = np.frombuffer(take(2 * shape[0]), np.int8).reshape(-1, 2)
        elif flags == _SIGN_FLIPS:
            bits = np.frombuffer(take(-(-shape[0] // 8)), np.uint8)
            flips = np.unpackbits(bits, bitorder="little")[: shape[0], None].astype(np.int8)
            values = values * (1 - 2 * flips)
        elif flags:
            raise DownloadError(f"a layer has the unknown flags {flags}: fetch the file again")
        records.append(_Record(graph, operator, kind, shape, nonzeros, values, take(stream_size)))
    if at != len(file):
        raise DownloadError(
            f"the download file should have {at} bytes. Received: {len(file)}. Fetch it again"
        )
    return records


def _layer_shape(
    skeleton: bytes, graph: int, operator: int
) -> tuple[str, tuple[int, int, int, int]]:
    """Kind and weight shape of a layer of the (checked) skeleton."""
    root = schema.Model.GetRootAs(skeleton, 0)
    if graph >= root.SubgraphsLength():
        raise DownloadError(f"there is no subgraph {graph}")
    subgraph = root.Subgraphs(graph)
    if operator >= subgraph.OperatorsLength():
        raise DownloadError(f"there is no operator {operator}")
    entry = subgraph.Operators(operator)
    code = root.OperatorCodes(entry.OpcodeIndex())
    kind = KINDS.get(max(code.BuiltinCode(), code.DeprecatedBuiltinCode()))
    if kind is None or entry.InputsLength() < 2 or entry.Inputs(1) < 0:
        raise DownloadError(f"operator {operator} is no layer")
    tensor = subgraph.Tensors(entry.Inputs(1))
    shape = tuple(int(tensor.Shape(axis)) for axis in range(tensor.ShapeLength()))
    data = root.Buffers(tensor.Buffer())
    if len(shape) != (2 if kind == FULLY_CONNECTED else 4) or min(shape) < 1:
        raise DownloadError(f"operator {operator} has weights of shape {shape}")
    if data.DataLength() != math.prod(shape):
        raise DownloadError(f"operator {operator} has {data.DataLength()} bytes of weights")
    return kind, _weights_shape(kind, shape)


def _restore(file: bytes) -> bytes:
    """The int8 file."""
    header = _read_header(file)
    skeleton_bytes = _skeleton_of(file)
    skeleton = _Skeleton(skeleton_bytes)
    for record in _read_records(file, header, skeleton_bytes):
        skeleton.weights(record.graph, record.operator)[:] = record.decode().view(np.uint8)
    model = flatbuffer.load(bytes(skeleton.data))
    places = _operator_places(model)
    for layer in require_layers(model, "unpack"):
        skeleton.toggle_bias_scales(*places[id(layer.operator)])
    restored = bytes(skeleton.data)
    if zlib.crc32(restored) != header.int8_checksum:
        raise DownloadError("the checksum of the download file is wrong: fetch it again")
    return restored


def unpack(file: bytes, *, to: Literal["packed", "int8"] = "packed") -> bytes:
    """Turn a `download` file back into a .tflite file.

    Args:
        file: the bytes that `download` returned.
        to: "int8" for the file that `download` was given, bit for bit; "packed" for what
            `packed` makes of it, bit for bit.

    Returns:
        The bytes of the .tflite file.

    Raises:
        ValueError: the file is damaged, or written by another version; or `to` is another word.
    """
    if to not in ("packed", "int8"):
        raise ValueError(f'to must be "packed" or "int8". Received: to={to!r}')
    try:
        header = _read_header(file)
        restored = _restore(file)
    except DownloadError:
        raise
    except (
        ArithmeticError,
        AttributeError,
        IndexError,
        KeyError,
        MemoryError,
        TypeError,
        ValueError,
        lzma.LZMAError,
        struct.error,
    ) as error:
        raise DownloadError(
            f"the download file is damaged ({type(error).__name__}: {error}). "
            f"Received: {len(file)} bytes; fetch it again"
        ) from error
    if to == "int8":
        return restored
    result = packed(restored, optimize=GOALS[header.goal])
    if zlib.crc32(result) != header.packed_checksum:
        raise DownloadError(
            "this version of ec2t_tf packs the file differently from the one that wrote it. "
            'Unpack with to="int8" and pack that, or install the matching ec2t_tf'
        )
    return result
