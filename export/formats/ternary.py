"""From int8 weights to ternary symbols: two values for the layer, a sign flip per channel."""

from __future__ import annotations

import dataclasses

import numpy as np
import numpy.typing as npt

from ec2t_tf.export.graph.ternary import entropy, is_ternary

Int8Array = npt.NDArray[np.int8]


@dataclasses.dataclass(frozen=True)
class TernaryCodes:
    """Symbols and what they stand for.

    Attributes:
        symbols: int8 of shape [channels, K], values -1, 0, +1.
        values: int8 of shape [channels, 2]: what +1 and what -1 stand for in each channel.
        layer_values: the same two values for the whole layer, or None if channels differ by more
            than a sign.
        flips: bool of shape [channels]: the channels that take `layer_values` times -1.
    """

    symbols: Int8Array
    values: Int8Array
    layer_values: tuple[int, int] | None
    flips: npt.NDArray[np.bool_]


def ternary_codes(weights: Int8Array) -> TernaryCodes:
    """Split int8 weights of shape [channels, ...] into symbols and values.

    Raises:
        ValueError: if a channel has more than one positive or more than one negative value.
    """
    flat = np.asarray(weights, np.int8).reshape(len(weights), -1)
    if not is_ternary(flat):
        index = next(i for i, channel in enumerate(flat) if not is_ternary(channel[None]))
        raise ValueError(
            "ternary weights have at most one positive and one negative value per output channel. "
            f"Received: output channel {index} with values {np.unique(flat[index]).tolist()}. "
            'Train the layer with `ec2t_tf.apply`, or store it with encoding="int8".'
        )
    highest, lowest = flat.max(axis=1, initial=0), flat.min(axis=1, initial=0)
    pairs = list(zip(highest.tolist(), lowest.tolist(), strict=True))

    def fits(pair: tuple[int, int], plus: int, minus: int) -> bool:
        return pair[0] in (0, plus) and pair[1] in (0, minus)

    # A pair of values is a candidate if some channel has it; one-sided channels fit several.
    plus_only = {p for p, _ in pairs if p}
    minus_only = {m for _, m in pairs if m}
    candidates = sorted({pair for pair in pairs if all(pair)})
    candidates += [(max(plus_only, default=0), min(minus_only, default=0))]
    best: tuple[int, int] | None = None
    best_flips = np.zeros(len(pairs), np.bool_)
    for plus, minus in candidates:
        straight = np.array([fits(pair, plus, minus) for pair in pairs], np.bool_)
        flipped = np.array([fits(pair, -minus, -plus) for pair in pairs], np.bool_)
        if (straight | flipped).all() and (best is None or (~straight).sum() < best_flips.sum()):
            best, best_flips = (plus, minus), ~straight

    if best is None:
        values = np.array(pairs, np.int8)
    else:
        values = np.where(best_flips[:, None], -1, 1) * np.array(best, np.int64)
        values = values.astype(np.int8)
    plus_sign = np.where(best_flips, -1, 1).astype(np.int8)
    return TernaryCodes(
        symbols=np.sign(flat).astype(np.int8) * plus_sign[:, None],
        values=values,
        layer_values=best,
        flips=best_flips,
    )


def first_order_entropy_bytes(symbols: Int8Array) -> float:
    """Bytes of an ideal memoryless code for this tensor: n * H / 8, H from its own frequencies."""
    return symbols.size * entropy(symbols) / 8
