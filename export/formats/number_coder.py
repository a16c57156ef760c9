"""Numbers, words and weights through one adaptive range coder, written and read by the same code.

`Writer` and `Reader` have the same methods: each takes a value and gives it back, a reader what it
finds in the stream instead. `field` says what a value is; values of a field share their statistics.

    def point(pen, x, y):
        return pen.signed("x", x), pen.signed("y", y)
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from .range_coder import (
    QUICK,
    Decoder,
    Encoder,
    EvenModels,
    Models,
    Rates,
    code_symbols,
    encode_range,
)

LONGEST = 64  # bits of a number


class StreamError(ValueError):
    """The stream holds no number that could be meant."""


class _Pen:
    """What writing and reading share.

    Args:
      coder: an `Encoder` or a `Decoder`.
      words: texts that come up often; one of them costs a few bits. Part of the format.
      rates: of the statistics. Part of the format.
    """

    def __init__(self, coder: Encoder | Decoder, words: Sequence[str], rates: Rates) -> None:
        self._coder = coder
        self._rates = rates
        self._models: dict[tuple[str, int, Rates], Models] = {}
        self._even = EvenModels()
        self._words = list(words)
        self.longest = LONGEST

    @property
    def reads(self) -> bool:
        return isinstance(self._coder, Decoder)

    def _bit(self, models: Models, context: int, bit: int) -> int:
        if isinstance(self._coder, Decoder):
            return self._coder.bit(models, context)
        self._coder.bit(models, context, bit)
        return bit

    def _models_of(self, field: str, contexts: int, rates: Rates | None = None) -> Models:
        rates = rates or self._rates
        key = field, contexts, rates  # a method has its own number of contexts
        if key not in self._models:
            self._models[key] = Models(contexts, 32768, rates)
        return self._models[key]

    def flag(self, field: str, value: bool) -> bool:
        """Yes or no."""
        return bool(self._bit(self._models_of(field, 1), 0, int(value)))

    def choice(self, field: str, value: int, bits: int) -> int:
        """One of 2^bits numbers, of which some come up more often."""
        models = self._models_of(field, 1 << bits)
        node = 1
        for at in range(bits - 1, -1, -1):
            node = 2 * node + self._bit(models, node, value >> at & 1)
        return node - (1 << bits)

    def plain(self, value: int, bits: int) -> int:
        """A number of so many bits as it is."""
        if isinstance(self._coder, Encoder):
            digits = [value >> at & 1 for at in range(bits - 1, -1, -1)]
            self._coder.bits(self._even, [0] * bits, digits)
            return value & (1 << bits) - 1
        result = 0
        for _ in range(bits):
            result = 2 * result + self._coder.bit(self._even, 0)
        return result

    def number(self, field: str, value: int) -> int:
        """A number from 0 on, below 2^64 - 1: how many bits it has, then its digits.

        Raises:
          StreamError: (reading) it has more bits.
        """
        models = self._models_of(field, 4 * LONGEST)
        length = (value + 1).bit_length() - 1
        found = 0
        while self._bit(models, found, int(found < length)):
            found += 1
            if found >= self.longest:
                raise StreamError(f"a number of {field} has more than {self.longest} bits")
        if not found:
            return 0
        digits = value + 1
        top = self._bit(models, LONGEST + found, digits >> found - 1 & 1)
        second = 0
        if found > 1:
            context = 2 * LONGEST + 2 * found + top
            second = self._bit(models, context, digits >> found - 2 & 1)
        left = max(found - 2, 0)
        result = (1 << found) + (top << found - 1) + (second << left if found > 1 else 0)
        return result + self.plain(digits & (1 << left) - 1, left) - 1

    def signed(self, field: str, value: int) -> int:
        """A number of either sign."""
        coded = self.number(field, 2 * value if value >= 0 else -2 * value - 1)
        return -(coded + 1 >> 1) if coded & 1 else coded >> 1

    def float32(self, field: str, bits: int) -> int:
        """The bits of a float32: sign and exponent as they come up, the rest as it is."""
        upper = self.choice(field, bits >> 23, 9)
        return upper << 23 | self.plain(bits & 0x7FFFFF, 23)

    def data(self, field: str, value: bytes) -> bytes:
        """Bytes.

        Raises:
          StreamError: (reading) there would be more than the stream can hold.
        """
        size = self.length(field, len(value))
        value = value.ljust(size, b"\0")
        return bytes(self.choice(f"{field} bytes", byte, 8) for byte in value[:size])

    def length(self, field: str, value: int) -> int:
        """How many of something follow, each of which takes some part of a byte.

        Raises:
          StreamError: (reading) it is more than the stream can hold.
        """
        found = self.number(f"{field} count", value)
        self.take(field, found)
        return found

    def take(self, field: str, count: int) -> None:
        """So many elements follow.

        Raises:
          StreamError: (reading) it is more than the stream can hold.
        """
        if count > self.most:
            raise StreamError(f"{field} has {count:,} elements, a stream this long {self.most:,}")
        self.most -= count

    most = 1 << 62
    """How many elements may still come."""

    def text(self, field: str, value: str) -> str:
        """A word that has come up before, or a new one."""
        known = 0
        if not self.reads and value in self._words:
            known = self._words.index(value) + 1
        known = self.number(f"{field} word", known)
        if known > len(self._words):
            raise StreamError(f"{field} is word {known}, of {len(self._words)}")
        if known:
            return self._words[known - 1]
        value = self.data("text", value.encode()).decode()
        self._words.append(value)
        return value

    def symbols(
        self, symbols: npt.NDArray[np.int8], shape: tuple[int, int, int, int]
    ) -> npt.NDArray[np.int8]:
        """Ternary weights, flat; `shape`: outputs, height, width, inputs."""
        nonzeros = self.number("nonzeros", int(np.count_nonzero(symbols)))
        nonzeros = min(nonzeros, symbols.size)
        rates = self._rates
        if rates is not QUICK and self.flag("quick", self._is_quick(symbols, shape)):
            rates = QUICK
        signs = self._models_of("signs", 9, rates)
        return code_symbols(self._coder, symbols, shape, nonzeros, signs_so_far=signs, rates=rates)

    def _is_quick(self, symbols: npt.NDArray[np.int8], shape: tuple[int, int, int, int]) -> bool:
        """Whether quick averages make less of a layer: its zeros are not alike everywhere."""
        if self.reads:
            return False
        sizes = [len(encode_range(symbols, shape, rates)) for rates in (QUICK, self._rates)]
        return sizes[0] < sizes[1]


class Writer(_Pen):
    """Writes what it is given; `finish` gives the bytes."""

    def __init__(self, words: Sequence[str] = (), *, rates: Rates = QUICK) -> None:
        super().__init__(Encoder(), words, rates)

    def finish(self) -> bytes:
        assert isinstance(self._coder, Encoder)
        return self._coder.finish()


class Reader(_Pen):
    """Reads a stream: what its methods are given does not matter.

    Args:
      stream: of a `Writer` with the same words and rates.
      most: how many elements may come in all; see `length`.
      longest: bits that a number may have, at most.
    """

    def __init__(
        self,
        stream: bytes,
        words: Sequence[str] = (),
        *,
        most: int,
        rates: Rates = QUICK,
        longest: int = LONGEST,
    ) -> None:
        super().__init__(Decoder(stream), words, rates)
        self.longest = longest
        self.most = most
        self._size = len(stream)

    def ended(self) -> bool:
        """Whether the whole stream was read."""
        assert isinstance(self._coder, Decoder)
        return self._coder.read >= self._size
