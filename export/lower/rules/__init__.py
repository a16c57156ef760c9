"""One rule a layer; importing this package registers all of them."""

from . import (
    activations,
    arithmetic,
    attention,
    kernels,
    movement,
    normalisation,
    pooling,
    ranges,
    recurrent,
    resizing,
    standardised,
)

__all__ = [
    "activations",
    "arithmetic",
    "attention",
    "kernels",
    "movement",
    "normalisation",
    "pooling",
    "ranges",
    "recurrent",
    "resizing",
    "standardised",
]
