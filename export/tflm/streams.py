"""Streams of TensorFlow Lite Micro's DECODE operator: Huffman (type 1) and look-up table (type 0).

A stream is an encoded tensor (UINT8 bytes, bits most significant first) and an ancillary tensor (a
16-byte header and a table). TFLM's decoder checks nothing: a wrong stream gives wrong weights in
silence. So every stream is decoded again here, step by step as TFLM does it, before it is used.
"""

from __future__ import annotations

import heapq
import itertools
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_LUT, _HUFFMAN, _VERSION = 0, 1, 1
_FOUND = 0x8000  # table entry of 16 bits: a symbol; bits 11-14 its length at this level
_PER_TENSOR = 15


class StreamError(ValueError):
    """The weights cannot be kept in this stream."""


@dataclass(frozen=True)
class Stream:
    """`kind` "huffman" or "lut"; `bits` is the length of the code without padding."""

    kind: str
    encoded: bytes
    ancillary: bytes
    bits: int


def code_lengths(counts: dict[int, int]) -> dict[int, int]:
    """Huffman code lengths of symbols by their counts; ties go to the smaller symbol."""
    order = itertools.count()
    heap = [(n, next(order), [s]) for s, n in sorted(counts.items(), key=lambda i: (i[1], i[0]))]
    if len(heap) == 1:
        return {heap[0][2][0]: 1}
    lengths = dict.fromkeys(counts, 0)
    heapq.heapify(heap)
    while len(heap) > 1:
        n, _, a = heapq.heappop(heap)
        m, _, b = heapq.heappop(heap)
        for symbol in a + b:
            lengths[symbol] += 1
        heapq.heappush(heap, (n + m, next(order), a + b))
    return lengths


def canonical_codes(lengths: dict[int, int]) -> dict[int, tuple[int, int]]:
    """Symbol -> (code, length), shorter codes first."""
    codes, code, last = {}, 0, 0
    for symbol in sorted(lengths, key=lambda s: (lengths[s], s)):
        code <<= lengths[symbol] - last
        last = lengths[symbol]
        codes[symbol] = (code, last)
        code += 1
    return codes


def huffman(weights: npt.NDArray[np.int8]) -> Stream:
    """Huffman stream of int8 weights in their flat order.

    All tables are one bit wide: the decoder then never looks past the last code, so no spare word
    is needed behind the stream.
    """
    flat = weights.reshape(-1)
    values, counts = np.unique(flat, return_counts=True)
    if not len(values):
        raise StreamError("a tensor without weights cannot be encoded.")
    lengths = code_lengths(dict(zip(values.tolist(), counts.tolist(), strict=True)))
    if max(lengths.values()) > 15:
        raise StreamError(
            f"a Huffman code of {max(lengths.values())} bits: at most 15 are allowed."
        )
    codes = canonical_codes(lengths)
    table: list[int | None] = []

    def level(items: list[tuple[int, int, int]]) -> None:
        base = len(table)
        table.extend([None, None])
        for bit in (0, 1):
            below = [
                (c & ((1 << (n - 1)) - 1), n - 1, s) for c, n, s in items if c >> (n - 1) == bit
            ]
            if len(below) == 1 and below[0][1] == 0:
                table[base + bit] = _FOUND | 1 << 11 | below[0][2] & 0xFF
            elif below:
                table[base + bit] = len(table) - (base + bit)
                level(below)

    level([(code, length, symbol) for symbol, (code, length) in codes.items()])
    filler = next(entry for entry in table if entry is not None and entry & _FOUND)
    words = np.array([filler if entry is None else entry for entry in table], "<u2")
    header = bytes([_HUFFMAN, _VERSION, 0, 0, 1, 0]) + bytes(10)
    encoded, bits = _pack(flat, codes)
    stream = Stream("huffman", encoded, header + words.tobytes(), bits)
    _check(decode_huffman(stream, flat.size), flat)
    return stream


def decode_huffman(stream: Stream, count: int) -> npt.NDArray[np.int8]:
    """The weights again, walking the table as TFLM does.

    Raises:
        StreamError: A step leaves the table or the stream.
    """
    table = np.frombuffer(stream.ancillary[16:], "<u2").tolist()
    bits = np.unpackbits(np.frombuffer(stream.encoded, np.uint8)).tolist()
    values, at = [], 0
    for _ in range(count):
        entry = 0
        while True:
            if at >= len(bits):
                raise StreamError("the stream ends before its last weight.")
            entry += bits[at]
            at += 1
            if entry >= len(table):
                raise StreamError("the stream leaves its table.")
            if table[entry] & _FOUND:
                break
            entry += table[entry] & 0x7FF
        values.append(table[entry] & 0xFF)
    return np.array(values, np.uint8).view(np.int8)


def look_up(weights: npt.NDArray[np.int8], *, per_channel: bool) -> Stream:
    """LUT stream: for each weight an index into a table, one a channel (axis 0) or one for all.
    At most 7 bits an index."""
    flat = weights.reshape(-1)
    rows = weights.reshape(len(weights), -1) if per_channel else flat[None]
    tables = [np.unique(row) for row in rows]
    bits = max(1, int(max(len(t) for t in tables) - 1).bit_length())
    if bits > 7:
        raise StreamError(f"{max(len(t) for t in tables)} different weights: a LUT holds 128.")
    indices = np.concatenate([np.searchsorted(t, r) for t, r in zip(tables, rows, strict=True)])
    places = np.arange(bits - 1, -1, -1)
    packed = np.packbits((indices[:, None] >> places & 1).astype(np.uint8).reshape(-1))
    table = b"".join(t.tobytes().ljust(1 << bits, b"\0") for t in tables)
    axis = 0 if per_channel else _PER_TENSOR
    header = bytes([_LUT, _VERSION, 0, 0, 1, axis << 4 | bits, 1 << bits]) + bytes(9)
    stream = Stream("lut", packed.tobytes(), header + table, bits * flat.size)
    _check(decode_look_up(stream, weights.shape), flat)
    return stream


def decode_look_up(stream: Stream, shape: tuple[int, ...]) -> npt.NDArray[np.int8]:
    """The weights again, flat."""
    bits, stride = stream.ancillary[5] & 7, stream.ancillary[6]
    count = int(np.prod(shape))
    raw = np.unpackbits(np.frombuffer(stream.encoded, np.uint8))
    if raw.size < count * bits:
        raise StreamError("the stream ends before its last weight.")
    fields = raw[: count * bits].reshape(count, bits).astype(np.int64)
    indices = fields @ (1 << np.arange(bits - 1, -1, -1))
    table = np.frombuffer(stream.ancillary[16:], np.int8)
    if stream.ancillary[5] >> 4 != _PER_TENSOR:
        indices = indices + np.arange(count) // (count // shape[0]) * stride
    if indices.max(initial=0) >= table.size:
        raise StreamError("the stream leaves its table.")
    return table[indices]


def _pack(flat: npt.NDArray[np.int8], codes: dict[int, tuple[int, int]]) -> tuple[bytes, int]:
    """Codes of all weights as bytes, a multiple of four, and their bits."""
    code, length = np.zeros(256, np.int64), np.zeros(256, np.int64)
    for symbol, (c, n) in codes.items():
        code[symbol & 0xFF], length[symbol & 0xFF] = c, n
    symbols = flat.view(np.uint8)
    each = length[symbols]
    ends = np.cumsum(each)
    starts = ends - each
    bits = np.zeros(int(ends[-1]) + -int(ends[-1]) % 32, np.uint8)
    for k in range(int(each.max())):
        longer = each > k
        bits[starts[longer] + k] = code[symbols[longer]] >> (each[longer] - 1 - k) & 1
    return np.packbits(bits).tobytes(), int(ends[-1])


def _check(decoded: npt.NDArray[np.int8], weights: npt.NDArray[np.int8]) -> None:
    if not np.array_equal(decoded, weights):
        raise StreamError("the stream does not decode to the weights it was made from.")
