"""Which encoding a layer gets: the cheapest one by a stated cost."""

from __future__ import annotations

import dataclasses
from typing import Literal, get_args

import numpy as np

from . import encodings
from .encodings import Encoding
from .layer import most_weights
from .ternary import Int8Array, first_order_entropy_bytes, ternary_codes

Goal = Literal["size", "speed", "download"]

# Instructions of the C decoder (channel by channel, into lists) on AArch64, counted in QEMU by
# `python -m ec2t_tf.export.kernels.bench.decoders`: per weight, and per non-zero weight.
DECODE_COST: dict[Encoding, tuple[float, float]] = {
    Encoding.TWO_BIT: (16.2, 5.0),
    Encoding.FIVE_TRITS: (22.8, 4.0),
    Encoding.BITMAP: (0.9, 19.0),
    Encoding.GAP8: (0.2, 32.0),
    Encoding.RICE: (0.3, 44.1),
    Encoding.RANGE: (96.2, 71.5),
}
_CANDIDATES: dict[Goal, tuple[Encoding, ...]] = {
    "size": (Encoding.RICE, Encoding.BITMAP, Encoding.FIVE_TRITS, Encoding.TWO_BIT, Encoding.GAP8),
    "speed": (Encoding.GAP8, Encoding.RICE, Encoding.BITMAP, Encoding.FIVE_TRITS, Encoding.TWO_BIT),
    "download": (Encoding.RANGE, Encoding.RICE, Encoding.BITMAP, Encoding.FIVE_TRITS),
}


@dataclasses.dataclass(frozen=True)
class Choice:
    """The encoding of one layer, and why.

    Attributes:
        encoding: the one chosen.
        stream_bytes: bytes of the weight stream under it.
        entropy_bytes: bytes of an ideal memoryless code.
        candidates: bytes of the stream under every encoding that was considered.
        reason: one line for the report.
    """

    encoding: Encoding
    stream_bytes: int
    entropy_bytes: float
    candidates: dict[Encoding, int]
    reason: str


def decode_instructions(encoding: Encoding, weights: int, nonzeros: int) -> float:
    """Estimated AArch64 instructions to decode a layer, from `DECODE_COST`."""
    per_weight, per_nonzero = DECODE_COST[encoding]
    return per_weight * weights + per_nonzero * nonzeros


def choose_encoding(weights: Int8Array, *, optimize: Goal = "size") -> Choice:
    """Pick the encoding of a layer.

    Args:
        weights: int8 of shape [outputs, kernel height, kernel width, inputs per group]. Weights
            that are not ternary get "int8", whatever the goal.
        optimize: "size": fewest bytes among the encodings that decode fast. "speed": fewest
            instructions to decode. "download": fewest bytes, however slow to decode.

    Returns:
        The choice with its reason.

    Raises:
        ValueError: if `optimize` is none of these.
    """
    if optimize not in get_args(Goal):
        raise ValueError(
            f'optimize is "size", "speed" or "download". Received: {optimize!r}. Choose one.'
        )
    try:
        symbols = ternary_codes(weights).symbols.ravel()
    except ValueError:
        size = int(weights.size)
        entropy = first_order_entropy_bytes(weights)
        reason = "int8: the weights are not ternary"
        return Choice(Encoding.INT8, size, entropy, {Encoding.INT8: size}, reason)
    nonzeros = int(np.count_nonzero(symbols))
    sizes = {
        encoding: len(encodings.encode(symbols, encoding, weights.shape)[0])
        for encoding in _CANDIDATES[optimize]
    }
    # Streams of next to nothing but zeros may be shorter than readers allow; two always fit.
    sizes = {e: size for e, size in sizes.items() if symbols.size <= most_weights(size)}
    if optimize == "speed":
        costs = {e: decode_instructions(e, symbols.size, nonzeros) for e in sizes}
        unit = "instructions to decode (estimate)"
    else:
        costs = {e: float(size) for e, size in sizes.items()}
        unit = "bytes"
    # Candidates are listed by preference: `min` takes the first of equals.
    best, *others = sorted(costs, key=costs.__getitem__)
    reason = (
        f"{best.name.lower()}: {costs[best]:,.0f} {unit}; "
        f"next {others[0].name.lower()} {costs[others[0]]:,.0f}; "
        f"{1 - nonzeros / symbols.size:.1%} zeros"
    )
    return Choice(best, sizes[best], first_order_entropy_bytes(symbols), sizes, reason)
