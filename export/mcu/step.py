"""One kernel call of a generated net."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .code import Code, Names
from .work import Facts


@dataclass
class Step:
    """One kernel call.

    `emit` runs once all layouts are final and returns C declarations and C statements, given the
    expressions of input, output and scratch addresses.
    """

    name: str
    sources: tuple[str, ...]
    inputs: tuple[int, ...]
    output: int
    emit: Callable[[Names], Code]
    scratch: Callable[[], int] = lambda: 0
    in_place: bool = False
    # Makes plane by plane out of as many, in order: the output may lie over the input, a plane
    # before it.
    by_planes: bool = False
    # How far behind row 0, column 0 of an input it reads.
    reads: Callable[[int], int] = lambda _: 0
    flat: bool = False  # may treat planes as one row if input and output have one pitch
    extent: Callable[[], int] = lambda: 0  # bytes from a plane's first that it may write
    facts: Facts = None  # what estimates need to know
    layer: int | None = None  # of a net in strips: the operator that it is a part of
