"""The methods beside EC2T in NumPy, float64: what the TensorFlow code is compared with.

Nothing here is used in training. Each function returns the ternary weights of a layer, computed from
the definition in its paper or in docs/methods.md, not from the formula of the TensorFlow code.
"""

from __future__ import annotations

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
