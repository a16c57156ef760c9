"""The methods beside EC2T in NumPy, float64: what the TensorFlow code is compared with.

Nothing here is used in training. Each function returns a layer's ternary weights, computed from the
definition in its paper or in docs/methods.md, not from the formula of the TensorFlow code.
"""

from __future__ import annotations

import math

import numpy as np


def nearest_support(weights: np.ndarray, delta: float) -> np.ndarray:
    """Codes of the rule of one symmetric threshold: int8."""
    return (np.sign(weights) * (np.abs(weights) > delta)).astype(np.int8)


def ttq(weights: np.ndarray, w_n: float, w_p: float, *, threshold: float) -> np.ndarray:
    codes = nearest_support(weights, threshold * np.abs(weights).max())
    return np.choose(codes + 1, [-w_n, 0.0, w_p])


def least_squares(weights: np.ndarray, codes: np.ndarray) -> np.ndarray:
    """alpha q with the alpha that is nearest to the weights in L2."""
    kept = np.count_nonzero(codes)
    return (weights * codes).sum() / max(kept, 1) * codes


def twn(weights: np.ndarray, *, threshold: str, factor: float) -> np.ndarray:
    magnitudes = np.abs(weights)
    base = magnitudes.mean() if threshold == "mean" else magnitudes.max()
    return least_squares(weights, nearest_support(weights, factor * base))


def twn_exact(weights: np.ndarray) -> np.ndarray:
    """The best of all supports, each tried: a threshold just below each magnitude."""
    candidates = np.unique(np.abs(weights))
    tried = [
        least_squares(weights, (np.sign(weights) * (np.abs(weights) >= c)).astype(np.int8))
        for c in candidates
    ]
    return min(tried, key=lambda ternary: ((weights - ternary) ** 2).sum())


def abs_mean(weights: np.ndarray) -> np.ndarray:
    gamma = np.abs(weights).mean()
    return gamma * np.clip(np.rint(weights / gamma), -1, 1)


def tga(weights: np.ndarray, threshold: float) -> np.ndarray:
    """The tail mean by integration of the density, not by its closed form."""
    mean, deviation = weights.mean(), weights.std(ddof=1)
    delta = min(abs(threshold), 3 * deviation)
    tail = np.linspace(delta / deviation, 12, 1_000_001)
    density = np.exp(-(tail**2) / 2)
    alpha = mean + deviation * (tail * density).sum() / density.sum()
    codes = (weights > mean + delta).astype(int) - (weights < mean - delta)
    return alpha * codes


def tga_gradient(weights: np.ndarray, threshold: float, g: np.ndarray) -> tuple[np.ndarray, float]:
    """dL/dW and dL/dd for dL/dW_q = g, in closed form (|d| < 3 sigma)."""
    mean, deviation = weights.mean(), weights.std(ddof=1)
    x = abs(threshold) / deviation
    ratio = math.exp(-(x**2) / 2) / math.sqrt(2 * math.pi) / (0.5 * math.erfc(x / math.sqrt(2)))
    delta = abs(threshold)
    codes = (weights > mean + delta).astype(int) - (weights < mean - delta)
    total = (g * codes).sum()
    slope = ratio - x * ratio * (ratio - x)
    by_weights = g + total * (
        1 / weights.size + slope * (weights - mean) / ((weights.size - 1) * deviation)
    )
    return by_weights, total * ratio * (ratio - x) * np.sign(threshold)


def sparsity_regularized(
    weights: np.ndarray, eta: float, *, unit: float, mask: np.ndarray | None = None
) -> np.ndarray:
    """Stage 1 without a mask, stage 3 with binary survivors with one; scale "mean"."""
    kept = np.abs(weights) > eta * unit if mask is None else mask
    scale = np.abs(weights[kept]).mean() if kept.any() else 0.0
    return np.where(kept, np.where(weights < 0, -scale, scale), 0.0)


def generalized_ternary_connect(
    weights: np.ndarray, exponent: int, bits: int, *, zero: bool = True
) -> np.ndarray:
    """Geometric rounding, by the logarithm."""
    logarithm = np.log2(np.maximum(np.abs(weights), 2.0**-126))
    k = np.clip(np.rint(logarithm - exponent), 0, 2**bits - 1)
    powers = np.where(weights < 0, -1.0, 1.0) * 2.0 ** (exponent + k)
    return np.where(logarithm < exponent - 0.5, 0.0, powers) if zero else powers
