"""Layouts of activations in planes, and their places in the arena."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

ALIGNMENT = 4


@dataclass
class Layout:
    """Planes of one activation tensor; the C twin is ec2t_mcu_planar. Sizes in bytes.

    `top`, `left` and `around` are what the convolutions that follow need: rows above, columns to
    the left, rows between planes; `slack` is what tiles write behind the last plane.
    """

    channels: int
    height: int
    width: int
    zero_point: int
    pitch: int = 0
    top: int = 0
    left: int = 0
    around: int = 0
    slack: int = 0

    def __post_init__(self) -> None:
        self.pitch = self.pitch or self.width

    @property
    def plane(self) -> int:
        return (self.height + self.around) * self.pitch

    @property
    def lead(self) -> int:
        return self.top * self.pitch + self.left

    @property
    def size(self) -> int:
        return self.lead + self.channels * self.plane + self.slack

    @property
    def border(self) -> tuple[int, int, int, int]:
        """All that a border is made of."""
        return self.pitch, self.top, self.left, self.around

    @property
    def contiguous(self) -> bool:
        return self.plane == self.height * self.width

    def require(self, top: int, bottom: int, left: int, right: int) -> None:
        """Makes room for a convolution's border."""
        self.top, self.left = max(self.top, top), max(self.left, left)
        self.around = max(self.around, top, bottom)
        self.pitch = max(self.pitch, self.width + max(left, right))

    def same_shape(self, other: Layout) -> bool:
        names = ("channels", "height", "width", "pitch", "plane")
        return all(getattr(self, n) == getattr(other, n) for n in names)

    def c(self) -> str:
        """As a C initialiser."""
        return (
            f"{{.channels = {self.channels}, .height = {self.height}, .width = {self.width}, "
            f".pitch = {self.pitch}, .plane = {self.plane}u, .lead = {self.lead}, "
            f".zero_point = {self.zero_point}}}"
        )


@dataclass(frozen=True)
class Part:
    """`size` bytes, `offset` bytes behind a block's first, needed in steps `first` to `last`."""

    offset: int
    size: int
    first: int
    last: int


@dataclass
class Block:
    """Memory of several parts, each needed for a time of its own; `offset` is where it went."""

    name: str
    parts: list[Part]
    offset: int = -1

    @property
    def end(self) -> int:
        """Bytes from the first to behind the last."""
        return max(part.offset + part.size for part in self.parts)

    @property
    def first(self) -> int:
        return min(part.first for part in self.parts)


def place(blocks: list[Block]) -> int:
    """Gives every block an offset so that parts needed at the same time do not overlap; returns the
    arena's size. Greedy, largest first."""
    placed: list[Block] = []
    for block in sorted(blocks, key=lambda b: (-b.end, b.first, b.name)):
        # Where it may not begin: from behind one offset to before another.
        taken = []
        for other in placed:
            for a, b in product(block.parts, other.parts):
                if a.first <= b.last and b.first <= a.last and a.size and b.size:
                    apart = other.offset + b.offset - a.offset
                    taken.append((apart - a.size, apart + b.size))
        offset = 0
        for before, behind in sorted(taken):
            if offset <= before:
                break
            offset = max(offset, -(-behind // ALIGNMENT) * ALIGNMENT)
        block.offset = offset
        placed.append(block)
    return max((b.offset + b.end for b in blocks), default=0)
