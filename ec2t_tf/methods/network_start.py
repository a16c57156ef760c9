"""How good a network's start with some s is."""

from __future__ import annotations

from typing import NamedTuple

# A target sparsity missed by more than this at the start is worth a warning.
SPARSITY_TOLERANCE = 0.01


class Start(NamedTuple):
    """How a network starts with some s, and how good that is."""

    sparsity: float
    miss: float  # distance to the sparsity wanted
    error: float  # squared distance to the float weights / their squares, mean over all weights

    @property
    def rank(self) -> tuple[float, float]:
        """Smaller is better: reach the sparsity first, then stay near the float weights."""
        return self.miss if self.miss > SPARSITY_TOLERANCE else 0.0, self.error
