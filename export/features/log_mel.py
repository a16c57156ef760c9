"""Log-mel features of sound, in plain array code that a microcontroller can follow.

Hann window -> power spectrum -> triangular mel bands -> logarithm.
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np

LOWEST_HZ = 60.0
FLOOR = 1e-6  # of the power of full scale: silence is finite


@dataclasses.dataclass(frozen=True)
class LogMel:
    """How sound becomes an image of `bands` rows and `frames` columns.

    Attributes:
      rate: samples a second.
      window_ms, hop_ms: length of a frame, and from one to the next.
    """

    rate: int
    window_ms: int = 40
    hop_ms: int = 20
    bands: int = 32
    frames: int = 48

    @property
    def window(self) -> int:
        """Samples of a frame."""
        return self.rate * self.window_ms // 1000

    @property
    def hop(self) -> int:
        """Samples from a frame to the next."""
        return self.rate * self.hop_ms // 1000

    @property
    def fft(self) -> int:
        """Points of the transform: the power of two that holds a frame."""
        return 1 << (self.window - 1).bit_length()

    @property
    def samples(self) -> int:
        """Length of the sound that fills all frames."""
        return (self.frames - 1) * self.hop + self.window

    @property
    def shape(self) -> np.ndarray:
        """Hann's window, float32 (window,)."""
        return np.hanning(self.window + 1)[:-1].astype(np.float32)

    def __call__(self, sound: np.ndarray) -> np.ndarray:
        """float32 (count, samples) of -1 to 1 -> float32 (count, bands, frames)."""
        at = np.arange(self.frames)[:, None] * self.hop + np.arange(self.window)
        window = self.shape
        matrix = mel_matrix(self)
        features = np.empty((len(sound), self.bands, self.frames), np.float32)
        for start in range(0, len(sound), 64):  # a minute of sound would fill the memory
            spectrum = np.fft.rfft(sound[start : start + 64, at] * window, self.fft)
            power = (np.abs(spectrum) ** 2 / (window**2).sum()).astype(np.float32)
            features[start : start + 64] = np.log(power @ matrix + FLOOR).swapaxes(1, 2)
        return features


@functools.cache
def mel_matrix(of: LogMel) -> np.ndarray:
    """float32 (fft / 2 + 1, bands): triangles, evenly spaced in mel, each of sum 1.

    Raises:
      ValueError: a band is narrower than a bin.
    """

    def mel(hertz: float) -> float:
        return 2595.0 * float(np.log10(1.0 + hertz / 700.0))

    points = np.linspace(mel(LOWEST_HZ), mel(of.rate * 0.475), of.bands + 2)
    edges = 700.0 * (10.0 ** (points / 2595.0) - 1.0)
    hertz = np.arange(of.fft // 2 + 1) * of.rate / of.fft
    low, middle, high = edges[:-2], edges[1:-1], edges[2:]
    rising = (hertz[:, None] - low) / (middle - low)
    falling = (high - hertz[:, None]) / (high - middle)
    triangles = np.maximum(0.0, np.minimum(rising, falling))
    if not triangles.any(axis=0).all():
        raise ValueError(
            "Every mel band must hold a bin of the transform. Received: "
            f"{of.bands} bands of {of.fft} points. Take fewer bands or longer frames."
        )
    return (triangles / triangles.sum(0)).astype(np.float32)
