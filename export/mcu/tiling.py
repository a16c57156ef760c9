"""How tiles of groups of neighbouring pixels cover an output plane."""

from __future__ import annotations

from dataclasses import dataclass

from .cores import Core
from .int8_conv import Int8Conv

FARTHEST = 127  # bytes a Helium load or store reaches


@dataclass(frozen=True)
class Tiling:
    """How tiles of four groups cover an output plane; see ec2t_mcu_list_conv."""

    rows: int
    across: int
    in_group: list[int]
    out_group: list[int]
    in_row_step: int
    in_tile_step: int
    out_row_step: int
    out_tile_step: int
    cover: int

    @property
    def count(self) -> int:
        """Tiles down a plane."""
        return -(-self.cover // self.rows)

    def in_runs(self, stride: int) -> bool:
        """Whether the second and the fourth group follow the first and the third."""
        _, second, third, fourth = self.in_group
        return second == fourth - third == 4 * stride

    def extent(self, group: int) -> int:
        """Bytes from a plane's first that tiles of `group` pixels a group write."""
        down, across = (self.count - 1) * self.out_row_step, (self.across - 1) * self.out_tile_step
        return down + across + self.out_group[-1] + group


def tiling(core: Core, conv: Int8Conv, group: int = 0) -> Tiling:
    """The tiles of a convolution, in groups of `group` pixels or of the core's own."""
    g = group or core.group
    out = conv.out
    sy, sx = conv.strides
    pi, po = conv.source.pitch, out.pitch
    groups = -(-out.width // g)
    per_row, rows, across = groups, 4 // groups if groups <= 2 else 1, 1
    too_far = core.family == "helium" and (rows - 1) * max(sy * pi, po) + g * sx > FARTHEST
    if groups > 2 or too_far:
        rows, per_row, across = 1, 4, -(-groups // 4)
    in_group = [(i // per_row) * sy * pi + (i % per_row) * g * sx for i in range(4)]
    out_group = [(i // per_row) * po + (i % per_row) * g for i in range(4)]
    found = Tiling(
        rows,
        across,
        in_group,
        out_group,
        rows * sy * pi,
        4 * g * sx,
        rows * po,
        4 * g,
        out.height,
    )
    if conv.unit and pi == po:
        length = (out.height - 1) * pi + out.width
        tiles = -(-length // (4 * g))
        if tiles < -(-out.height // rows) * across:
            straight = [0, g, 2 * g, 3 * g]
            return Tiling(1, tiles, straight, straight, 0, 4 * g, 0, 4 * g, 1)
    return found
