"""One rule a layer; importing this package registers all of them."""

from . import (
    activations,
    arithmetic,
    attention,
    constants,
    kernels,
    movement,
    normalisation,
    patches,
    pooling,
    ranges,
    recurrent,
    resizing,
    standardised,
    stepped,
)

__all__ = [
    "activations",
    "arithmetic",
    "attention",
    "constants",
    "kernels",
    "movement",
    "normalisation",
    "patches",
    "pooling",
    "ranges",
    "recurrent",
    "resizing",
    "standardised",
    "stepped",
]
