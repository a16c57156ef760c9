"""Adaptive binary range coder for ternary symbols, contexts from neighbouring weights.

The smallest stream and the slowest to decode: for downloads. A weight is coded as "is it not zero"
under one of 16 contexts (which of four neighbours are non-zero) and, if so, as "is it minus" under
one of 9 (the signs of two neighbours). FORMAT.md gives the arithmetic, the same in C and Python.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

FAST_SHIFT, SLOW_SHIFT = 5, 8


class Rates(NamedTuple):
    """How soon averages follow: a step covers 1/2^shift of the way, more while few bits are known.

    Attributes:
      fast, slow: the shifts of the two averages.
      trust: how many bits the first probability of a layer's zeros counts for.
    """

    fast: int
    slow: int
    trust: int = 0

    @property
    def limit(self) -> int:
        return 1 << self.slow

    def shifts(self) -> list[tuple[int, int]]:
        """Of both averages, by how many bits a context has seen."""
        rates = ((count + 2).bit_length() - 1 for count in range(self.limit + 1))
        return [(min(self.fast, rate), min(self.slow, rate)) for rate in rates]


QUICK = Rates(FAST_SHIFT, SLOW_SHIFT)  # the encoding "range" of blobs, download files of version 3
STEADY = Rates(7, 10, 14)  # compact blobs, and download files since version 4
_SHIFTS = {rates: rates.shifts() for rates in (QUICK, STEADY)}


class Models:
    """Probabilities that a bit is 1, in 1/65536: a fast and a slow average per context."""

    def __init__(
        self, contexts: int, initial: int, rates: Rates = QUICK, *, trusted: bool = False
    ) -> None:
        self._fast = [initial] * contexts
        self._slow = [initial] * contexts
        self._count = [rates.trust if trusted else 0] * contexts
        self._shifts, self._limit = _SHIFTS[rates], rates.limit

    def probability(self, context: int) -> int:
        """In 1/4096, 1 to 4095."""
        twelve_bits = self._fast[context] + self._slow[context] >> 5
        return min(max(twelve_bits, 1), 4095)

    def update(self, context: int, bit: int) -> None:
        count = self._count[context]
        fast_shift, slow_shift = self._shifts[count]
        if bit:
            self._fast[context] += (65535 - self._fast[context]) >> fast_shift
            self._slow[context] += (65535 - self._slow[context]) >> slow_shift
        else:
            self._fast[context] -= self._fast[context] >> fast_shift
            self._slow[context] -= self._slow[context] >> slow_shift
        if count < self._limit:
            self._count[context] = count + 1


class Encoder:
    """Codes bits: the interval [low, high] of 32-bit numbers, whose leading bytes go out once both
    agree."""

    def __init__(self) -> None:
        self._low, self._high = 0, 0xFFFFFFFF
        self._out = bytearray()

    def bit(self, models: Models, context: int, bit: int) -> None:
        probability = models.probability(context)
        middle = self._low + (self._high - self._low >> 12) * probability
        if bit:
            self._high = middle
        else:
            self._low = middle + 1
        while (self._low ^ self._high) >> 24 == 0:
            self._out.append(self._high >> 24)
            self._low = self._low << 8 & 0xFFFFFFFF
            self._high = self._high << 8 & 0xFFFFFFFF | 255
        models.update(context, bit)

    def finish(self) -> bytes:
        """The shortest ending: zeros after the end are implied, so trailing zeros are dropped."""
        for size in range(5):
            step = 1 << 8 * (4 - size)
            ending = -(-self._low // step) * step
            if ending <= self._high:
                self._out += ending.to_bytes(4, "big")[:size]
                break
        return bytes(self._out).rstrip(b"\0")


class Decoder:
    """Bits back from what an `Encoder` made; zeros behind the end of the stream."""

    def __init__(self, stream: bytes) -> None:
        self._stream = stream
        self._low, self._high = 0, 0xFFFFFFFF
        self._at = 4
        self._code = int.from_bytes(stream[:4].ljust(4, b"\0"), "big")

    def bit(self, models: Models, context: int) -> int:
        probability = models.probability(context)
        middle = self._low + (self._high - self._low >> 12) * probability
        bit = int(self._code <= middle)
        if bit:
            self._high = middle
        else:
            self._low = middle + 1
        while (self._low ^ self._high) >> 24 == 0:
            self._low = self._low << 8 & 0xFFFFFFFF
            self._high = self._high << 8 & 0xFFFFFFFF | 255
            byte = self._stream[self._at] if self._at < len(self._stream) else 0
            self._code = self._code << 8 & 0xFFFFFFFF | byte
            self._at += 1
        models.update(context, bit)
        return bit

    @property
    def read(self) -> int:
        return self._at


def _initial_probability(count: int, nonzeros: int) -> int:
    return min(max((nonzeros << 16) // count, 64), 65472)


def _scan(shape: tuple[int, ...]) -> npt.NDArray[np.intp]:
    """Taps in coding order: input by input, its kernel row by row."""
    taps = np.arange(int(np.prod(shape[1:]))).reshape(shape[1:])
    return taps.transpose(2, 0, 1).ravel()


def code_symbols(
    coder: Encoder | Decoder,
    symbols: npt.NDArray[np.int8],
    shape: tuple[int, ...],
    nonzeros: int,
    *,
    signs_so_far: Models | None = None,
    rates: Rates = QUICK,
) -> npt.NDArray[np.int8]:
    """Walks over the symbols in coding order; an encoder reads them, a decoder fills them in.

    Args:
      coder: goes on where it is.
      symbols: flat, -1, 0, +1.
      shape: of the weights: outputs, height, width, inputs.
      nonzeros: how many symbols are not 0.
      signs_so_far: what is known of signs from other layers, nine contexts; goes on in them.
      rates: of the averages.
    """
    channels, height, width, inputs = shape
    area = height * width
    initial = _initial_probability(symbols.size, nonzeros)
    zero_models = Models(16, initial, rates, trusted=True)
    sign_models = Models(9, 32768, rates) if signs_so_far is None else signs_so_far
    encodes = isinstance(coder, Encoder)
    scan = _scan(shape)
    rows = symbols.reshape(channels, -1)
    previous = [0] * (area * inputs)
    for row in rows:
        current: list[int] = row[scan].tolist()
        k = 0
        for i in range(inputs):
            for y in range(height):
                for x in range(width):
                    left = current[k - 1] if x else 0
                    up = current[k - width] if y else 0
                    before = current[k - area] if i else 0
                    context = (
                        (left != 0) + 2 * (up != 0) + 4 * (before != 0) + 8 * (previous[k] != 0)
                    )
                    signs = 3 * (left + 1) + up + 1
                    if isinstance(coder, Encoder):
                        symbol = current[k]
                        coder.bit(zero_models, context, int(symbol != 0))
                        if symbol:
                            coder.bit(sign_models, signs, int(symbol < 0))
                    else:
                        symbol = coder.bit(zero_models, context)
                        if symbol:
                            symbol -= 2 * coder.bit(sign_models, signs)
                        current[k] = symbol
                    k += 1
        if not encodes:
            row[scan] = current
        previous = current
    return symbols


def encode_range(
    symbols: npt.NDArray[np.int8], shape: tuple[int, ...], rates: Rates = QUICK
) -> bytes:
    """Stream of flat symbols; `shape` of the weights: outputs, height, width, inputs."""
    coder = Encoder()
    nonzeros = int(np.count_nonzero(symbols))
    code_symbols(coder, np.array(symbols, np.int8), shape, nonzeros, rates=rates)
    return coder.finish()


def decode_range(
    stream: bytes, shape: tuple[int, ...], nonzeros: int
) -> tuple[npt.NDArray[np.int8], bool]:
    """Flat symbols, and whether the stream was read to its end."""
    coder = Decoder(stream)
    symbols = code_symbols(coder, np.zeros(int(np.prod(shape)), np.int8), shape, nonzeros)
    return symbols, coder.read >= len(stream)
