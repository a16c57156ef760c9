"""How the range of an activation follows the batches of a training; of either Keras."""

from __future__ import annotations

from typing import Any

from keras import ops

Tensor = Any
# Share of the old range that a batch keeps.
DECAY = 0.99
# By which share of itself a range grows at most at once, where values begin near 0 and must become
# many times as large: behind an Embedding, in loops. What lies outside of a range has no gradient,
# so that with the decay alone they push it on by a hundredth of a step of theirs a batch.
GROWTH = 0.05


def moved(
    low: Tensor, high: Tensor, least: Tensor, most: Tensor, *, growth: float = 0.0
) -> tuple[Tensor, Tensor]:
    """The range after a batch.

    Args:
      low, high: the range so far, low <= 0 <= high; float32, all of one shape.
      least, most: those of the batch, which contain 0 too.
      growth: share of the range by which it may follow a wider batch at once; 0 or `GROWTH`.
    """
    new_low = low + (least - low) * (1 - DECAY)
    new_high = high + (most - high) * (1 - DECAY)
    if not growth:
        return new_low, new_high
    room = (high - low) * growth
    return (
        ops.minimum(new_low, ops.maximum(least, low - room)),
        ops.maximum(new_high, ops.minimum(most, high + room)),
    )
