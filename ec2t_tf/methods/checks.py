"""Checks of options that several methods have."""

from __future__ import annotations

from collections.abc import Collection


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
