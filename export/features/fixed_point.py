"""Log-mel features in whole numbers: the tables of log_mel.c, and the same steps in NumPy.

A sound's loudest sample becomes `PEAK` of full scale, as the training has it. Samples are in units
of 2^-22 from the window on, powers in 2^-28, weights of mel bands and the window in 2^-15, the
logarithm to base 2 in 2^-16.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from .log_mel import FLOOR, LogMel, mel_matrix

Int64 = npt.NDArray[np.int64]

PEAK = 0.5  # of full scale: the speakers of a data set were recorded up to 20 dB apart
LEAST_PEAK = 33  # of 32768; below 1e-3 of full scale a sound is not made louder
_UNIT = 22  # of a sample, in bits
_POWER_SHIFT = 16
_SUM_BITS = 2 * _UNIT - _POWER_SHIFT + 15  # of a band's sum


@dataclasses.dataclass(frozen=True)
class Tables:
    """What log_mel_tables.h holds.

    Attributes:
      features: whose tables they are.
      constants: by name, int64.
      arrays: name -> (type in C, whole numbers).
    """

    features: LogMel
    constants: Mapping[str, int]
    arrays: Mapping[str, tuple[str, Int64]]


def tables(features: LogMel, *, mean: float, std: float, scale: float, zero_point: int) -> Tables:
    """Tables for the codes round((features - mean) / std / scale) + zero_point.

    Args:
      mean, std: of the features, by which the training normalised.
      scale, zero_point: of the net's input.

    Raises:
      ValueError: the transform has fewer than 32 points or more than 4096, a mel band is
        narrower than a bin, or std or scale is not positive.
    """
    if not 32 <= features.fft <= 4096:
        raise ValueError(
            "C for features of 32 to 4096 points a transform is known. "
            f"Received: {features.fft}, for {features.window_ms} ms at {features.rate} Hz."
        )
    if not (std > 0.0 and scale > 0.0 and np.isfinite([mean, std, scale]).all()):
        raise ValueError(
            "std and scale must be positive and all of them finite. "
            f"Received: mean={mean}, std={std}, scale={scale}."
        )
    mel = np.rint(mel_matrix(features) * 32768.0).astype(np.int64)
    used = [np.flatnonzero(column) for column in mel.T]
    first = np.array([bins[0] for bins in used])
    count = np.array([bins[-1] - bins[0] + 1 for bins in used])
    window = features.shape.astype(np.float64)
    energy = float((window**2).sum())
    sine = np.sin(2.0 * np.pi * np.arange(features.fft) / features.fft) * 2.0**31
    slope = np.log(2.0) / 65536.0 / std / scale
    constant = (-np.log(2.0) * _SUM_BITS - np.log(energy) - mean) / std / scale + zero_point
    weights = [mel[a : a + n, band] for band, (a, n) in enumerate(zip(first, count, strict=True))]
    return Tables(
        features,
        {
            "SCALE": int(np.rint(slope * 2.0**32)),
            "OFFSET": int(np.rint((constant + 0.5) * 2.0**32)),
            "FLOOR": int(np.rint(FLOOR * energy * 2.0**_SUM_BITS)),
        },
        {
            "window": ("int16_t", np.rint(window * 32767.0).astype(np.int64)),
            "sine": ("int32_t", np.minimum(np.rint(sine), 2.0**31 - 1).astype(np.int64)),
            "order": ("uint16_t", _order(features.fft // 2)),
            "first": ("uint16_t", first),
            "count": ("uint16_t", count),
            "weights": ("uint16_t", np.concatenate(weights)),
            "log2": (
                "int32_t",
                np.rint(np.log2(1 + np.arange(257) / 256) * 65536).astype(np.int64),
            ),
        },
    )


def radices(points: int) -> list[int]:
    """The factors of a transform, 2 where needed and then 4s, in the order of the passes."""
    bits = points.bit_length() - 1
    return [2] * (bits % 2) + [4] * (bits // 2)


def _order(points: int) -> Int64:
    """Which point stands where before the first pass."""

    def order(places: Int64, factors: list[int]) -> Int64:
        if not factors:
            return places
        *rest, last = factors
        return np.concatenate([order(places[part::last], rest) for part in range(last)])

    return order(np.arange(points), radices(points))


def codes(samples: npt.NDArray[np.int16], of: Tables) -> npt.NDArray[np.int8]:
    """The codes of sounds, step by step as log_mel.c computes them.

    Args:
      samples: int16 (count, features.samples).

    Returns:
      int8 (count, bands, frames).
    """
    features, arrays = of.features, {name: values for name, (_, values) in of.arrays.items()}
    x = samples.astype(np.int64)
    peak = np.maximum(np.abs(x).max(axis=1), LEAST_PEAK)
    scale = 2 ** np.maximum(0, 15 - np.frexp(peak)[1].astype(np.int64))
    gain = (1 << 44) // (peak * scale)
    at = np.arange(features.frames)[:, None] * features.hop + np.arange(features.window)
    loud = x[:, at] * scale[:, None, None] * arrays["window"]
    padded = np.zeros((*loud.shape[:2], features.fft), np.int64)
    padded[..., : features.window] = ((loud * gain[:, None, None]) >> 32) >> 6
    re, im = padded[..., 0::2][..., arrays["order"]], padded[..., 1::2][..., arrays["order"]]
    for factor, quarter in _passes(features.fft // 2):
        re, im = _joined(re, im, factor, quarter, arrays["sine"])
    power = _powers(re, im, arrays["sine"])
    sums = np.empty((*power.shape[:2], features.bands), np.int64)
    begin = 0
    for band, (a, n) in enumerate(zip(arrays["first"], arrays["count"], strict=True)):
        weights = arrays["weights"][begin : begin + n]
        sums[..., band] = of.constants["FLOOR"] + power[..., a : a + n] @ weights
        begin += n
    found = (_log2(sums, arrays["log2"]) * of.constants["SCALE"] + of.constants["OFFSET"]) >> 32
    return np.clip(found, -128, 127).astype(np.int8).swapaxes(1, 2)


def _passes(points: int) -> list[tuple[int, int]]:
    """(factor, points of the transforms that it joins) of each pass."""
    found, size = [], 1
    for factor in radices(points):
        found.append((factor, size))
        size *= factor
    return found


def _turned(re: Int64, im: Int64, k: Int64, sine: Int64) -> tuple[Int64, Int64]:
    c, s = sine[k + len(sine) // 4], sine[k]
    return (
        ((re * c) >> 32) + ((im * s) >> 32),
        ((im * c) >> 32) - ((re * s) >> 32),
    )


def _joined(re: Int64, im: Int64, factor: int, size: int, sine: Int64) -> tuple[Int64, Int64]:
    shape = (*re.shape[:-1], re.shape[-1] // (factor * size), factor, size)
    (a_re, *rest_re), (a_im, *rest_im) = (
        [part.reshape(shape)[..., i, :] for i in range(factor)] for part in (re, im)
    )
    if factor == 2:
        joined = [(a_re + rest_re[0], a_im + rest_im[0]), (a_re - rest_re[0], a_im - rest_im[0])]
    elif size == 1:
        joined = _of_four(a_re, a_im, list(zip(rest_re, rest_im, strict=True)))
    else:
        k = np.arange(size) * (len(sine) // (4 * size))
        turned = [
            _turned(*part, number * k, sine)
            for number, part in enumerate(zip(rest_re, rest_im, strict=True), 1)
        ]
        joined = _of_four(a_re, a_im, [(2 * x, 2 * y) for x, y in turned])
    both = [np.stack([part[i] for part in joined], axis=-2).reshape(re.shape) for i in (0, 1)]
    return both[0], both[1]


def _of_four(
    a_re: Int64, a_im: Int64, others: list[tuple[Int64, Int64]]
) -> list[tuple[Int64, Int64]]:
    """A transform of four points."""
    (b_re, b_im), (c_re, c_im), (d_re, d_im) = others
    return [
        (a_re + c_re + b_re + d_re, a_im + c_im + b_im + d_im),
        (a_re - c_re + b_im - d_im, a_im - c_im - b_re + d_re),
        (a_re + c_re - b_re - d_re, a_im + c_im - b_im - d_im),
        (a_re - c_re - b_im + d_im, a_im - c_im + b_re - d_re),
    ]


def _powers(re: Int64, im: Int64, sine: Int64) -> Int64:
    """Of all bins but the highest."""
    points = re.shape[-1]
    k = np.arange(1, points // 2)
    a_re, a_im, b_re, b_im = re[..., k], im[..., k], re[..., points - k], im[..., points - k]
    odd_re, odd_im = _turned(a_im + b_im, b_re - a_re, k, sine)
    even_re, even_im = (a_re + b_re) >> 1, (a_im - b_im) >> 1
    power = np.empty(re.shape, np.int64)
    power[..., 0] = (re[..., 0] + im[..., 0]) ** 2
    power[..., k] = (even_re + odd_re) ** 2 + (even_im + odd_im) ** 2
    power[..., points - k] = (even_re - odd_re) ** 2 + (even_im - odd_im) ** 2
    middle = points // 2
    power[..., middle] = re[..., middle] ** 2 + im[..., middle] ** 2
    return power >> _POWER_SHIFT


def _log2(sums: Int64, table: Int64) -> Int64:
    exponent = np.zeros_like(sums)
    for bit in (32, 16, 8, 4, 2, 1):  # exact, where a logarithm in float64 is not
        more = sums >> (exponent + bit) > 0
        exponent += bit * more
    up, down = np.maximum(16 - exponent, 0), np.maximum(exponent - 16, 0)
    mantissa = ((sums << up) >> down) & 0xFFFF
    low, high = table[mantissa >> 8], table[(mantissa >> 8) + 1]
    return exponent * 65536 + low + (((high - low) * (mantissa & 255) + 128) >> 8)
