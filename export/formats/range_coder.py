"""Adaptive binary range coder for ternary symbols, contexts from neighbouring weights.

The smallest stream and the slowest to decode: for downloads. A weight is coded as "is it not zero"
under one of 16 contexts (which of four neighbours are non-zero) and, if so, as "is it minus" under
one of 9 (the signs of two neighbours). FORMAT.md gives the arithmetic, the same in C and Python.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
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
    """Probabilities that a bit is 1, in 1/65536: a fast and a slow average per context.

    `Encoder.bits` and `Decoder.bit` keep them up to date: a call a bit would be most of it.

    Attributes:
      fast, slow: the averages.
      count: how many bits a context has seen, up to `limit`.
      shifts: of both averages, by that count.
    """

    def __init__(
        self, contexts: int, initial: int, rates: Rates = QUICK, *, trusted: bool = False
    ) -> None:
        self.fast = [initial] * contexts
        self.slow = [initial] * contexts
        self.count = [rates.trust if trusted else 0] * contexts
        self.shifts, self.limit = _SHIFTS[rates], rates.limit

    def joined(self, other: Models) -> Models:
        """The contexts of both, with other's behind."""
        both = copy.copy(self)
        both.fast, both.slow = self.fast + other.fast, self.slow + other.slow
        both.count = self.count + other.count
        return both

    def keep_last_of(self, joined: Models) -> None:
        """Takes the averages of the last contexts over."""
        first = len(joined.fast) - len(self.fast)
        self.fast, self.slow = joined.fast[first:], joined.slow[first:]
        self.count = joined.count[first:]


class EvenModels(Models):
    """One context, about which nothing is known or learned: a bit costs one."""

    def __init__(self) -> None:
        super().__init__(1, 32768)
        self.shifts, self.limit = [(16, 16)], 0


class Encoder:
    """Codes bits: the interval [low, high] of 32-bit numbers, whose leading bytes go out once both
    agree."""

    def __init__(self) -> None:
        self._low, self._high = 0, 0xFFFFFFFF
        self._out = bytearray()

    def bit(self, models: Models, context: int, bit: int) -> None:
        self.bits(models, (context,), (bit,))

    def bits(self, models: Models, contexts: Sequence[int], bits: Sequence[int]) -> None:
        """One bit after the other, each in its context."""
        fasts, slows, counts = models.fast, models.slow, models.count
        shifts, limit = models.shifts, models.limit
        low, high, out = self._low, self._high, self._out
        for context, bit in zip(contexts, bits, strict=True):
            fast, slow, count = fasts[context], slows[context], counts[context]
            fast_shift, slow_shift = shifts[count]
            if count < limit:
                counts[context] = count + 1
            middle = low + (high - low >> 12) * (fast + slow >> 5 or 1)
            if bit:
                high = middle
                fasts[context] = fast + (65535 - fast >> fast_shift)
                slows[context] = slow + (65535 - slow >> slow_shift)
            else:
                low = middle + 1
                fasts[context] = fast - (fast >> fast_shift)
                slows[context] = slow - (slow >> slow_shift)
            while low ^ high < 1 << 24:
                out.append(high >> 24)
                low = low << 8 & 0xFFFFFFFF
                high = high << 8 & 0xFFFFFFFF | 255
        self._low, self._high = low, high

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
        fast, slow, count = models.fast[context], models.slow[context], models.count[context]
        fast_shift, slow_shift = models.shifts[count]
        if count < models.limit:
            models.count[context] = count + 1
        low, high = self._low, self._high
        middle = low + (high - low >> 12) * (fast + slow >> 5 or 1)
        bit = self._code <= middle
        if bit:
            high = middle
            models.fast[context] = fast + (65535 - fast >> fast_shift)
            models.slow[context] = slow + (65535 - slow >> slow_shift)
        else:
            low = middle + 1
            models.fast[context] = fast - (fast >> fast_shift)
            models.slow[context] = slow - (slow >> slow_shift)
        while low ^ high < 1 << 24:
            low = low << 8 & 0xFFFFFFFF
            high = high << 8 & 0xFFFFFFFF | 255
            byte = self._stream[self._at] if self._at < len(self._stream) else 0
            self._code = self._code << 8 & 0xFFFFFFFF | byte
            self._at += 1
        self._low, self._high = low, high
        return int(bit)

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
    if isinstance(coder, Encoder):
        models = zero_models.joined(sign_models)
        coder.bits(models, *_bits(symbols, shape))
        sign_models.keep_last_of(models)
        return symbols
    scan = _scan(shape)
    rows = symbols.reshape(channels, -1)
    previous = [0] * (area * inputs)
    for row in rows:
        current = [0] * (area * inputs)
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
                    if coder.bit(zero_models, context):
                        minus = coder.bit(sign_models, 3 * (left + 1) + up + 1)
                        current[k] = 1 - 2 * minus
                    k += 1
        row[scan] = current
        previous = current
    return symbols


def _bits(symbols: npt.NDArray[np.int8], shape: tuple[int, ...]) -> tuple[list[int], list[int]]:
    """Contexts and bits of symbols in coding order; those of signs are behind the 16 of zeros."""
    codes = symbols.reshape(shape).transpose(0, 3, 1, 2)  # as `_scan`
    padded = np.pad(codes, ((1, 0), (1, 0), (1, 0), (1, 0)))
    left, up = padded[1:, 1:, 1:, :-1], padded[1:, 1:, :-1, 1:]
    before, previous = padded[1:, :-1, 1:, 1:], padded[:-1, 1:, 1:, 1:]
    neighbours = enumerate((left, up, before, previous))
    zero_contexts = sum((symbol != 0).astype(np.int8) << at for at, symbol in neighbours)
    sign_contexts = 16 + 3 * (left + 1) + up + 1
    contexts = np.stack([zero_contexts, sign_contexts], axis=-1)
    bits = np.stack([codes != 0, codes < 0], axis=-1)
    is_coded = np.stack([np.ones_like(codes, bool), codes != 0], axis=-1)
    return contexts[is_coded].tolist(), bits[is_coded].tolist()


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
