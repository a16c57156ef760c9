"""gemmlowp's fixed point, which LiteRT's integer LSTM and reference softmax use.

Q(k) is an integer of 16 or 32 bits with k integer bits. Sigmoid and tanh of 16 bits are tables over
all 65,536 codes; `coarse_*` are those of TensorFlow Lite Micro and of the int16 LOGISTIC and TANH.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ec2t_tf.export.graph.multipliers import multiplied, quantised_multiplier, shifted_right

Integers = npt.NDArray[np.int64]

LEAST, MOST = -(1 << 15), (1 << 15) - 1
_CODES = np.arange(LEAST, MOST + 1, dtype=np.int64)
# Entries of the runtimes' coarse sigmoid table that lie one above the rounded value.
_ONE_MORE = [
    *(4, 8, 12, 14, 15, 16, 17, 19, 20, 21, 22, 25, 27, 28, 29, 30, 31, 33, 34, 35, 37, 39, 40, 41),
    *(43, 44, 45, 46, 49, 50, 54, 62, 63, 64, 66, 82, 86, 93, 100, 103, 112, 116, 135, 255),
]


class Fixed:
    """Arithmetic of integers of 16 or 32 bits, held as int64."""

    def __init__(self, bits: int) -> None:
        self.bits, self.least, self.most = bits, -(1 << (bits - 1)), (1 << (bits - 1)) - 1

    def left(self, x: npt.ArrayLike, bits: Any) -> Integers:
        """x * 2^bits, saturated."""
        return np.clip(np.asarray(x, np.int64) << bits, self.least, self.most)

    def times(self, a: npt.ArrayLike, b: npt.ArrayLike) -> Integers:
        """a * b / 2^(bits - 1), halves up, -1 * -1 just below 1."""
        shift = self.bits - 1
        product = np.asarray(a, np.int64) * np.asarray(b, np.int64)
        return np.minimum((product + (1 << (shift - 1))) >> shift, self.most)

    def constant(self, q31: int) -> int:
        """A constant of 32 bits in this many."""
        return int(shifted_right(q31, 32 - self.bits))

    def exponential(self, a: Integers, integer_bits: int) -> Integers:
        """exp of a <= 0 in Q(integer_bits); Q0."""
        fraction = self.bits - 1 - integer_bits
        quarter = 1 << (fraction - 2)
        inside = (a & (quarter - 1)) - quarter  # [-1/4, 0)
        x = self.left(inside, integer_bits) + (1 << (self.bits - 4))  # around -1/8
        x2 = self.times(x, x)
        x3, x4 = self.times(x2, x), self.times(x2, x2)
        third, centre = self.constant(715827883), self.constant(1895147668)
        series = shifted_right(self.times(shifted_right(x4, 2) + x3, third) + x2, 1)
        result = np.clip(centre + self.times(centre, x + series), self.least, self.most)
        rest = inside - a
        powers = (1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242)
        for exponent, power in enumerate(powers, -2):
            if integer_bits > exponent:
                has = (rest >> (fraction + exponent)) & 1
                result = np.where(has == 1, self.times(result, self.constant(power)), result)
        if integer_bits > 5:
            result = np.where(a < -(32 << fraction), 0, result)
        return np.where(a == 0, self.most, result)

    def power(self, x: npt.ArrayLike, bits: Any) -> Integers:
        """x * 2^bits, saturated to the left, halves away from zero to the right."""
        bits = np.asarray(bits, np.int64)
        return np.where(
            bits >= 0, self.left(x, np.maximum(bits, 0)), shifted_right(x, np.maximum(-bits, 0))
        )

    def reciprocal(self, a: Integers) -> Integers:
        """1 / (1 + a) for a in Q0; Q0."""
        return self.left(self.newton(a), 1)

    def newton(self, a: Integers) -> Integers:
        """2 / (1 + a) in Q2 for a in Q0."""
        half, one = (a + self.most + 1) >> 1, 1 << (self.bits - 3)
        x = self.constant(1515870810) + self.times(half, self.constant(-1010580540))
        for _ in range(3):
            x = x + self.left(self.times(x, one - self.times(half, x)), 2)
        return x


def sigmoid(fixed: Fixed, x: Integers, integer_bits: int) -> Integers:
    """Of x in Q(integer_bits); Q0."""
    positive = fixed.reciprocal(fixed.exponential(-np.abs(x), integer_bits))
    result = np.where(x > 0, positive, fixed.most - positive)
    return np.where(x == 0, (fixed.most + 1) >> 1, result)


def tanh(fixed: Fixed, x: Integers, integer_bits: int) -> Integers:
    """Of x in Q(integer_bits); Q0."""
    quotient = fixed.newton(fixed.exponential(-np.abs(x), integer_bits + 1))
    return np.sign(x) * fixed.left(quotient - ((fixed.most + 1) >> 2), 2)


@functools.cache
def sigmoid_table() -> npt.NDArray[np.int32]:
    """LiteRT's LSTM's, of code + 32768 in Q3.12; Q0.15."""
    return sigmoid(Fixed(16), _CODES, 3).astype(np.int32)


@functools.cache
def tanh_table(integer_bits: int) -> npt.NDArray[np.int32]:
    """LiteRT's LSTM's, of code + 32768 in Q(integer_bits); Q0.15."""
    return tanh(Fixed(16), _CODES, integer_bits).astype(np.int32)


# -- softmax -----------------------------------------------------------------------------------


@functools.cache
def softmax_table(scale: float, beta: float) -> tuple[npt.NDArray[np.int64], int]:
    """BUILTIN_REF's exponential of the differences -255 to 0; and the least difference that
    counts."""
    real = min(float(np.float32(beta)) * float(scale) * (1 << 26), (1 << 31) - 1.0)
    multiplier, left = quantised_multiplier(real)
    if left < 0:  # the reference demands more than 1; so flat that all powers are 1
        multiplier, left = 0, 0
    _, table, least = _of_differences(multiplier, left)
    return table, least


def _of_differences(multiplier: int, left: int) -> tuple[Integers, Integers, int]:
    """Of the differences -255 to 0: real numbers in 2^-26, exponentials in 2^-31, and the least
    that counts, whose number stands for all below it."""
    fixed = Fixed(32)
    differences = np.arange(-255, 1, dtype=np.int64)
    least = -int(np.floor(31 * (1 << 26) / (1 << left)))
    scaled = fixed.times(np.maximum(differences, least) << left, multiplier)
    return scaled, np.where(differences >= least, fixed.exponential(scaled, 5), 0), least


def softmax(codes: npt.NDArray[Any], scale: np.float32, beta: float) -> Integers:
    """BUILTIN_REF's of int8 codes along the last axis, scale 1/256 and zero point -128."""
    fixed = Fixed(32)
    table, least = softmax_table(scale, beta)
    differences = np.asarray(codes, np.int64) - codes.max(axis=-1, keepdims=True)
    exps = table[differences + 255]
    total = np.sum(shifted_right(exps, 12), axis=-1, keepdims=True)
    room = leading_zeros(total)
    share = fixed.times(fixed.reciprocal((total << room) - (1 << 31)), exps)
    result = shifted_right(share, 12 - room + 31 - 8) - 128
    return np.where(differences >= least, np.clip(result, -128, 127), -128)


def leading_zeros(x: npt.NDArray[Any]) -> Integers:
    """Of whole numbers from 0 in 32 bits."""
    return 32 - np.frexp(np.asarray(x, np.float64))[1].astype(np.int64)


def logarithm(x: Integers) -> Integers:
    """log of x >= 1 in Q12; Q5, both 32 bits (TensorFlow Lite's, for LOG_SOFTMAX)."""
    fixed = Fixed(32)
    half_root, quarter_root = 1518500250, 1805811301  # sqrt(1/2) and its square root, Q0
    quarter = int(shifted_right(1 << 29, 6))  # 1/4 in Q6
    room = leading_zeros(x)
    first = fixed.power(fixed.times(fixed.power(x, room - 1), half_root), 1)
    first_power = np.clip(fixed.power(12 - room, 25) + quarter, fixed.least, fixed.most)
    room = leading_zeros(fixed.times(x, half_root)) - 1
    second = fixed.power(x, room)
    second_power = np.clip(fixed.power(12 - room, 25) - quarter, fixed.least, fixed.most)
    r, power = np.minimum(first, second), np.maximum(first_power, second_power)
    total = r + quarter_root
    p = np.trunc((total + np.where(total >= 0, 1, -1)) / 2).astype(np.int64)
    q = 2 * (r - quarter_root)
    square = fixed.times(q, q)
    numerator = fixed.times(q, r) + fixed.times(fixed.times(q, square), 117049297)
    inner = 1057819769 + q + fixed.times(127690142, square)
    denominator = fixed.times(p, inner) + fixed.times(638450708, q)
    share = fixed.times(shifted_right(numerator, 6), fixed.reciprocal(denominator))
    return fixed.left(fixed.times(power, 1488522236) + share, 1)


class LogSoftmaxTables(NamedTuple):
    """Of the differences -255 to 0 from the greatest code.

    Attributes:
      powers: exponentials in 2^-19, 0 where a difference counts as nothing.
      scaled: differences as real numbers in 2^-26.
      least: the least difference that counts.
      back: the pair that leads from real numbers to differences.
    """

    powers: Integers
    scaled: Integers
    least: int
    back: tuple[int, int]


@functools.cache
def log_softmax_tables(scale: float) -> LogSoftmaxTables | None:
    """BUILTIN_REF's; None for scales below 2^-26, which it cannot compute."""
    multiplier, left = quantised_multiplier(min(float(scale) * (1 << 26), (1 << 31) - 1.0))
    if left < 1:
        return None
    scaled, powers, least = _of_differences(multiplier, left)
    back = quantised_multiplier((1 << (31 - left)) / multiplier)
    return LogSoftmaxTables(shifted_right(powers, 12), scaled, least, back)


def log_softmax(codes: npt.NDArray[Any], tables: LogSoftmaxTables) -> Integers:
    """BUILTIN_REF's of int8 codes along the last axis, scale 1/16 and zero point 127."""
    below = np.asarray(codes, np.int64) - codes.max(axis=-1, keepdims=True)
    log = logarithm(tables.powers[below + 255].sum(axis=-1, keepdims=True))
    limit = np.maximum(tables.least - 1, multiplied(log + Fixed(32).least, *tables.back))
    result = shifted_right(tables.scaled[below + 255] - log, 22) + 127
    return np.where(below > limit, np.clip(result, -128, 127), -128)


# -- TensorFlow Lite Micro ---------------------------------------------------------------------


@functools.cache
def _coarse() -> npt.NDArray[np.int64]:
    """sigmoid(i / 24) in 16 bits."""
    table = np.floor(65536 / (1 + np.exp(-np.arange(256) / 24)) + 0.5).astype(np.int64)
    table[_ONE_MORE] += 1
    return table


def coarse_sigmoid() -> npt.NDArray[np.int32]:
    """Of code + 32768 in Q3.12; Q0.15."""
    return interpolated(3, 0, False)


def coarse_tanh(integer_bits: int) -> npt.NDArray[np.int32]:
    """Of code + 32768 in Q(integer_bits); Q0.15."""
    left = integer_bits - 3
    return interpolated(3 << max(left, 0), max(-left, 0), True)


@functools.cache
def interpolated(multiplier: int, right: int, is_tanh: bool) -> npt.NDArray[np.int32]:
    """sigmoid or tanh of all 65,536 codes times multiplier / 2^right in 2^-12 / 3; Q0.15."""
    bits = 8 if is_tanh else 9  # of the input, between two entries
    x = (_CODES * multiplier + ((1 << right) >> 1)) >> right
    high, low = np.abs(x) >> bits, np.abs(x) & ((1 << bits) - 1)
    table, place = _coarse(), np.minimum(high, 254)
    value = (table[place] << bits) + low * (table[place + 1] - table[place])
    if not is_tanh:
        value = np.where(high >= 255, 0x7FFF << 10, value)
        value = np.where(x >= 0, value + (1 << 9), (1 << 25) - value + (1 << 9) - 1)
        return (value >> 10).astype(np.int32)
    value = np.where(high >= 255, 0xFFFF << 8, value)
    value = np.where(x >= 0, value - (1 << 23), (1 << 23) - value - 1) + (1 << 7)
    return (value >> 8).astype(np.int32)
