"""Checks of options that several methods have."""

from __future__ import annotations

from collections.abc import Collection, Mapping


def require_range(name: str, value: float, low: float, high: float = float("inf")) -> float:
    """`value` as float.

    Raises:
      ValueError: it is not in [low, high], or no number.
    """
    if not low <= value <= high:
        raise ValueError(f"{name} must lie in [{low:g}, {high:g}]. Received: {name}={value}.")
    return float(value)


def require_positive(name: str, value: float) -> float:
    """`value` as float.

    Raises:
      ValueError: it is not positive and finite.
    """
    if not 0.0 < value < float("inf"):
        raise ValueError(f"{name} must be positive and finite. Received: {name}={value}.")
    return float(value)


def require_one_of(name: str, value: str, choices: Collection[str]) -> str:
    """`value` itself.

    Raises:
      ValueError: it is none of the choices.
    """
    if value not in choices:
        raise ValueError(f"{name} must be one of {list(choices)}. Received: {name}={value!r}.")
    return value


def require_at_most_one(given: Mapping[str, object], purpose: str) -> None:
    """Raise a ValueError if more than one of these options is not None."""
    named = [name for name, value in given.items() if value is not None]
    if len(named) > 1:
        *others, last = given
        raise ValueError(
            f"At most one of {', '.join(others)} and {last} may say {purpose}. "
            f"Received: {' and '.join(named)}."
        )


def require_moment(name: str, value: float | None) -> float | None:
    """`value`: an optimiser step (0, 1, 2, ...), a share of the training (0 to 1), or None.

    Raises:
      ValueError: none of these.
    """
    if value is not None and not 0.0 < value < 1.0 and not (value >= 0 and value == int(value)):
        raise ValueError(
            f"{name} must be an optimiser step (0, 1, 2, ...), or a share between 0 and 1 "
            f"(exclusive) of total_steps. Received: {name}={value}."
        )
    return value


def require_total_steps(total_steps: int | None) -> int | None:
    """`total_steps` itself.

    Raises:
      ValueError: it is less than 1.
    """
    if total_steps is not None and total_steps < 1:
        raise ValueError(f"total_steps must be at least 1. Received: total_steps={total_steps}.")
    return total_steps


def optimiser_step(name: str, value: float | None, total_steps: int | None) -> int | None:
    """The optimiser step that a moment means; None for never.

    Raises:
      ValueError: a share of a number of steps that is not known.
    """
    if value is None or not 0.0 < value < 1.0:
        return None if value is None else int(value)
    if total_steps is None:
        raise ValueError(
            f"{name} as a share of the training requires total_steps. Received: {name}={value}. "
            "Pass total_steps=epochs * steps_per_epoch, or the step itself."
        )
    return round(value * total_steps)


def require_order(*, prune_int8_from: float | None, frozen_from: float | None) -> None:
    """Raise a ValueError if what is pruned would be frozen before; of two shares or two steps."""
    first, second = prune_int8_from, frozen_from
    if first is None or second is None or (0.0 < first < 1.0) != (0.0 < second < 1.0):
        return
    if first >= second:
        raise ValueError(
            "prune_int8_from must come before frozen_from, which freezes what is pruned too. "
            f"Received: prune_int8_from={first}, frozen_from={second}."
        )
