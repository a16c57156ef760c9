"""Streams of ternary symbols: the encodings of FORMAT.md, NumPy only.

An encoder takes a flat int8 array of symbols -1, 0, +1 and gives bytes; a decoder takes the bytes,
the number of symbols and of non-zeros, and gives the symbols back or raises `BlobError`.
"""

from __future__ import annotations

import enum
import math

import numpy as np
import numpy.typing as npt

from .range_coder import decode_range, encode_range

Symbols = npt.NDArray[np.int8]


class BlobError(ValueError):
    """The bytes are not a valid blob: truncated, damaged, or made by something else."""


class Encoding(enum.IntEnum):
    """How a blob stores its weights; the number is the one in the file."""

    INT8 = 0
    TWO_BIT = 1
    FIVE_TRITS = 2
    BITMAP = 3
    GAP8 = 4
    RICE = 5
    RANGE = 6

    @classmethod
    def named(cls, name: str | Encoding) -> Encoding:
        """The encoding called `name`, for instance "rice"."""
        if isinstance(name, Encoding):
            return name
        try:
            return cls[name.upper()]
        except KeyError:
            names = ", ".join(repr(e.name.lower()) for e in cls)
            raise ValueError(
                f"an encoding is one of {names}. Received: {name!r}. Choose one of these."
            ) from None


LARGEST_RICE_PARAMETER = 15
_GAP8_ESCAPE = 127


def _words_from_bits(bits: npt.NDArray[np.uint8]) -> bytes:
    """Bits, first one most significant, as little-endian 32-bit words."""
    padded = np.concatenate([bits, np.zeros(-len(bits) % 32, np.uint8)])
    return np.packbits(padded).view(">u4").astype("<u4").tobytes()


def _bits_from_words(stream: bytes) -> npt.NDArray[np.uint8]:
    return np.unpackbits(np.frombuffer(stream, "<u4").astype(">u4").view(np.uint8))


def _require_size(stream: bytes, required: int, name: str) -> None:
    if len(stream) != required:
        raise BlobError(
            f"a {name} stream of this layer takes {required} bytes. Received: {len(stream)} bytes. "
            "The file is damaged: export it again."
        )


def _require_nonzeros(symbols: Symbols, nonzeros: int) -> Symbols:
    found = int(np.count_nonzero(symbols))
    if found != nonzeros:
        raise BlobError(
            f"the header promises {nonzeros} non-zero weights. Received: {found}. "
            "The file is damaged: export it again."
        )
    return symbols


def _gaps(symbols: Symbols) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Number of zeros before each non-zero, and whether it is a minus."""
    places = np.flatnonzero(symbols)
    return np.diff(places, prepend=-1) - 1, symbols[places] < 0


def _from_gaps(gaps: npt.NDArray[np.int64], minus: npt.NDArray[np.bool_], count: int) -> Symbols:
    places = np.cumsum(gaps + 1) - 1
    if len(places) and places[-1] >= count:
        raise BlobError(
            f"the gaps reach weight {places[-1]} of a layer with {count} weights. "
            "The file is damaged: export it again."
        )
    symbols = np.zeros(count, np.int8)
    symbols[places] = np.where(minus, -1, 1)
    return symbols


def encode_two_bit(symbols: Symbols) -> bytes:
    codes = np.array([2, 0, 1], np.uint8)[symbols.astype(np.intp) + 1]
    codes = np.concatenate([codes, np.zeros(-len(codes) % 4, np.uint8)]).reshape(-1, 4)
    return bytes((codes << np.array([0, 2, 4, 6], np.uint8)).sum(1).astype(np.uint8))


def decode_two_bit(stream: bytes, count: int, nonzeros: int) -> Symbols:
    _require_size(stream, -(-count // 4), "two_bit")
    codes = (np.frombuffer(stream, np.uint8)[:, None] >> np.array([0, 2, 4, 6], np.uint8)) & 3
    codes = codes.ravel()
    if (codes == 3).any() or codes[count:].any():
        raise BlobError("a two_bit stream holds an unused code. The file is damaged.")
    return _require_nonzeros(np.array([0, 1, -1], np.int8)[codes[:count]], nonzeros)


_POWERS_OF_3 = np.array([1, 3, 9, 27, 81])


def encode_five_trits(symbols: Symbols) -> bytes:
    """Keras's `pack_ternary` of the flat symbols: first symbol least significant."""
    digits = np.concatenate([symbols, np.zeros(-len(symbols) % 5, np.int8)]).reshape(-1, 5) + 1
    return bytes((digits * _POWERS_OF_3).sum(1).astype(np.uint8))


def decode_five_trits(stream: bytes, count: int, nonzeros: int) -> Symbols:
    _require_size(stream, -(-count // 5), "five_trits")
    packed = np.frombuffer(stream, np.uint8)
    if (packed > 242).any():
        raise BlobError("a five_trits stream holds a byte above 242. The file is damaged.")
    symbols = (packed[:, None].astype(np.int64) // _POWERS_OF_3 % 3 - 1).astype(np.int8).ravel()
    if symbols[count:].any():
        raise BlobError("a five_trits stream is not filled with zeros. The file is damaged.")
    return _require_nonzeros(symbols[:count], nonzeros)


def encode_bitmap(symbols: Symbols) -> bytes:
    mask = (symbols != 0).astype(np.uint8)
    minus = (symbols[symbols != 0] < 0).astype(np.uint8)
    return _words_from_bits(mask) + _words_from_bits(minus)


def decode_bitmap(stream: bytes, count: int, nonzeros: int) -> Symbols:
    mask_size, sign_size = 4 * -(-count // 32), 4 * -(-nonzeros // 32)
    _require_size(stream, mask_size + sign_size, "bitmap")
    mask = _bits_from_words(stream[:mask_size])
    signs = _bits_from_words(stream[mask_size:])
    if mask[count:].any() or signs[nonzeros:].any():
        raise BlobError("a bitmap stream is not filled with zeros. The file is damaged.")
    symbols = mask[:count].astype(np.int8)
    _require_nonzeros(symbols, nonzeros)
    symbols[mask[:count] != 0] -= 2 * signs[:nonzeros].astype(np.int8)
    return symbols


def encode_gap8(symbols: Symbols) -> bytes:
    gaps, minus = _gaps(symbols)
    escapes = gaps // _GAP8_ESCAPE
    stream = np.full(int((escapes + 1).sum()), _GAP8_ESCAPE, np.uint8)
    stream[np.cumsum(escapes + 1) - 1] = gaps % _GAP8_ESCAPE + 128 * minus
    return stream.tobytes()


def decode_gap8(stream: bytes, count: int, nonzeros: int) -> Symbols:
    codes = np.frombuffer(stream, np.uint8)
    is_weight = codes != _GAP8_ESCAPE
    if int(is_weight.sum()) != nonzeros or (len(codes) and not is_weight[-1]):
        raise BlobError(
            f"a gap8 stream of this layer holds {nonzeros} weights, the last at its end. "
            f"Received: {int(is_weight.sum())} weights. The file is damaged: export it again."
        )
    if (codes == 255).any():
        raise BlobError("a gap8 stream holds the unused code 255. The file is damaged.")
    zeros = np.cumsum(np.where(is_weight, codes & 127, _GAP8_ESCAPE).astype(np.int64))
    return _from_gaps(np.diff(zeros[is_weight], prepend=0), codes[is_weight] >= 128, count)


def rice_size_in_bits(symbols: Symbols, parameter: int) -> int:
    """Bits a Rice stream of `symbols` takes, before it is filled up to a whole word."""
    gaps, _ = _gaps(symbols)
    return int((gaps >> parameter).sum()) + len(gaps) * (parameter + 2)


def best_rice_parameter(symbols: Symbols) -> int:
    """The parameter with the shortest stream (the smallest one of several)."""
    return min(range(LARGEST_RICE_PARAMETER + 1), key=lambda r: (rice_size_in_bits(symbols, r), r))


def encode_rice(symbols: Symbols, parameter: int) -> bytes:
    gaps, minus = _gaps(symbols)
    lengths = (gaps >> parameter) + parameter + 2
    ends = np.cumsum(lengths)
    bits = np.zeros(int(ends[-1]) if len(ends) else 0, np.uint8)
    bits[ends - parameter - 2] = 1
    for j in range(parameter):
        bits[ends - 2 - j] = gaps >> j & 1
    bits[ends - 1] = minus
    return _words_from_bits(bits)


def decode_rice(stream: bytes, count: int, nonzeros: int, parameter: int) -> Symbols:
    if len(stream) % 4:
        raise BlobError(
            f"a rice stream is made of 4-byte words. Received: {len(stream)} bytes. "
            "The file is damaged: export it again."
        )
    bits = _bits_from_words(stream)
    ones = np.flatnonzero(bits)
    gaps = np.zeros(nonzeros, np.int64)
    minus = np.zeros(nonzeros, np.bool_)
    weights_of_bits = 1 << np.arange(parameter, dtype=np.int64)[::-1]
    at = next_one = 0
    for i in range(nonzeros):
        # `next_one` counts the ones before `at`; the unary part ends at the first one from there.
        if next_one >= len(ones) or ones[next_one] + parameter + 1 >= len(bits):
            raise BlobError("a rice stream ends before its last weight. The file is damaged.")
        stop = int(ones[next_one])
        low = bits[stop + 1 : stop + 1 + parameter]
        gaps[i] = (stop - at << parameter) + int(low @ weights_of_bits)
        minus[i] = bits[stop + 1 + parameter]
        at = stop + parameter + 2
        next_one += 1 + int(low.sum()) + int(minus[i])
    if next_one != len(ones) or -(-at // 32) * 4 != len(stream):
        raise BlobError("a rice stream goes on after its last weight. The file is damaged.")
    return _from_gaps(gaps, minus, count)


def encode(symbols: Symbols, encoding: Encoding, shape: tuple[int, ...]) -> tuple[bytes, int]:
    """The stream of the symbols of a layer and its stream parameter (0 where there is none).

    Args:
        symbols: flat, in the order of the weights.
        encoding: any but INT8.
        shape: of the weights: outputs, kernel height, kernel width, inputs per group.
    """
    if encoding is Encoding.RICE:
        parameter = best_rice_parameter(symbols)
        return encode_rice(symbols, parameter), parameter
    if encoding is Encoding.RANGE:
        return encode_range(symbols, shape), 0
    encoders = {
        Encoding.TWO_BIT: encode_two_bit,
        Encoding.FIVE_TRITS: encode_five_trits,
        Encoding.BITMAP: encode_bitmap,
        Encoding.GAP8: encode_gap8,
    }
    return encoders[encoding](symbols), 0


def decode(
    stream: bytes, encoding: Encoding, shape: tuple[int, ...], nonzeros: int, parameter: int
) -> Symbols:
    """The symbols of a stream; raises `BlobError` unless every byte is accounted for."""
    count = math.prod(shape)
    if encoding is Encoding.RICE:
        return decode_rice(stream, count, nonzeros, parameter)
    if encoding is Encoding.RANGE:
        symbols, ended = decode_range(stream, shape, nonzeros)
        if not ended:
            raise BlobError("a range stream goes on after its last weight. The file is damaged.")
        return _require_nonzeros(symbols, nonzeros)
    decoders = {
        Encoding.TWO_BIT: decode_two_bit,
        Encoding.FIVE_TRITS: decode_five_trits,
        Encoding.BITMAP: decode_bitmap,
        Encoding.GAP8: decode_gap8,
    }
    return decoders[encoding](stream, count, nonzeros)
