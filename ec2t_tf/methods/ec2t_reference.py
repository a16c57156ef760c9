"""EC2T's assignment in NumPy, float64, by the cost it minimises: the twin of `ec2t.py`.

Nothing here is used in training. It builds the whole 3xN cost that the TensorFlow code avoids, so
the two share no shortcut (docs/specification.md).
"""

from __future__ import annotations

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True)
class ReferenceAssignment:
    codes: np.ndarray  # int8, -1 / 0 / +1, shape of the weights
    probabilities: np.ndarray  # P after the floor, order n, 0, p
    lambda_: float


def initial_centroids(weights: np.ndarray, centroid_scale: float) -> tuple[float, float]:
    """w_n = |min(W)| s, w_p = |max(W)| s (First centroids)."""
    return abs(float(weights.min())) * centroid_scale, abs(float(weights.max())) * centroid_scale


def on_grid(w_n: float, w_p: float, levels: int) -> tuple[float, float]:
    """The larger centroid, and of k/levels of it, k = 1 to levels, the one nearest to the other."""
    largest = max(w_n, w_p)
    grid = largest * np.arange(1, levels + 1) / levels
    nearest = [float(grid[np.abs(grid - centroid).argmin()]) for centroid in (w_n, w_p)]
    return nearest[0], nearest[1]


def size_factor(relative_size: float, sigma: float = 0.05) -> float:
    """delta = (N / N_largest + sigma) / (1 + sigma) (Lambda)."""
    return (relative_size + sigma) / (1 + sigma)


def assign(
    weights: np.ndarray, w_n: float, w_p: float, *, gain: float, reference_floor: bool = False
) -> ReferenceAssignment:
    """argmin over c of (w - q_c)^2 + lambda I_c, with gain = gamma * delta.

    With a gain below zero, which the paper does not have, the cost is that of 0 and of the centroid
    of the weight's own sign, and a weight up to a quarter of that centroid is 0.

    `reference_floor` repeats the published code's slip in the floor of P_0: the already reduced P_n
    enters the denominator for P_p.
    """
    w = np.asarray(weights, np.float64).ravel()
    centroids = np.array([-w_n, 0.0, w_p])
    distance = (w[:, None] - centroids) ** 2
    nearest = distance.argmin(axis=1)
    p_n, p_0, p_p = np.maximum(np.bincount(nearest, minlength=3), 1) / w.size
    if p_0 < 0.5:
        missing, p_0 = 0.5 - p_0, 0.5
        non_zero = p_n + p_p
        p_n -= missing * p_n / non_zero
        p_p -= missing * p_p / (p_n + p_p if reference_floor else non_zero)
    information = -np.log2([p_n, p_0, p_p])

    limits = []
    for extreme, present, centroid, cost in (
        (abs(w.min()), w.min() < 0, w_n, information[0] - information[1]),
        (abs(w.max()), w.max() > 0, w_p, information[2] - information[1]),
    ):
        if not present:
            continue
        gap = extreme**2 - (centroid - extreme) ** 2
        limits.append(gap / cost if gap > 0 and cost > 1e-6 else 0.0)
    lambda_ = gain * min(limits, default=0.0)

    cost = distance + lambda_ * information
    if gain < 0:
        cost[w >= -w_n / 4, 0] = np.inf
        cost[w <= w_p / 4, 2] = np.inf
    codes = cost.argmin(axis=1).astype(np.int8) - 1
    return ReferenceAssignment(codes.reshape(np.shape(weights)), np.array([p_n, p_0, p_p]), lambda_)
