"""Convolutions whose offsets do not fit 16 bits: a few rows at a time, copied to scratch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from .code import Code, Names
from .int8_conv import Int8Conv
from .plan import Layout

SLACK = 64  # bytes that tiles may read or write behind a band


@dataclass(frozen=True)
class Bands:
    """`conv` goes from a band of input rows, border and all, to a band of output rows."""

    conv: Int8Conv
    whole: Int8Conv
    pads: tuple[tuple[int, int], tuple[int, int]]

    @property
    def count(self) -> int:
        return -(-self.whole.out.height // self.conv.out.height)

    @property
    def _sizes(self) -> tuple[int, int]:
        source, out = self.conv.source, self.conv.out
        sizes = (source.size + SLACK + 16 * source.pitch, out.size + SLACK + 16 * out.pitch)
        return sizes[0] + -sizes[0] % 4, sizes[1] + -sizes[1] % 4

    def scratch(self, of_kernel: Callable[[Int8Conv], int]) -> int:
        """Bytes of scratch."""
        return sum(self._sizes) + of_kernel(self.conv)

    def code(
        self, names: Names, kernel: Callable[[Int8Conv, Names, str], Code | None]
    ) -> Code | None:
        """The loop over bands."""
        n = names.index
        source, out = self.conv.source, self.conv.out
        start = f"(uint8_t *){names.scratch}"
        to = f"{start} + {self._sizes[0] + out.lead}"
        inner = replace(
            names, output=to, scratch=f"(uint16_t *)(void *)({start} + {sum(self._sizes)})"
        )
        code = kernel(self.conv, inner, f"{start} + {source.lead}")
        if code is None:
            return None
        (top, _), (left, _) = self.pads
        stride = self.conv.strides[0] * out.height
        code.declarations += [
            f"static const ec2t_mcu_planar whole_in_{n} = {self.whole.source.c()};",
            f"static const ec2t_mcu_planar whole_out_{n} = {self.whole.out.c()};",
            f"static const ec2t_mcu_planar band_in_{n} = {source.c()};",
            f"static const ec2t_mcu_planar band_out_{n} = {out.c()};",
        ]
        code.statements = [
            f"for (int32_t band = 0; band < {self.count}; ++band) {{",
            f"  ec2t_mcu_band_in(&whole_in_{n}, {names.inputs[0]}, &band_in_{n}, "
            f"{start} + {source.lead}, band * {stride} - {top}, {left});",
            *(f"  {s}" for s in code.statements),
            f"  ec2t_mcu_band_out(&band_out_{n}, {to}, &whole_out_{n}, {names.output}, "
            f"band * {out.height});",
            "}",
            f"ec2t_mcu_frame(&whole_out_{n}, {names.output});",
        ]
        code.flash += 64
        code.note += f", {self.count} bands"
        return code


def plan(
    conv: Int8Conv,
    pads: tuple[tuple[int, int], tuple[int, int]],
    fits: Callable[[Int8Conv], bool],
) -> Bands | None:
    """The tallest bands that fit; None if not even one row does."""
    left, right = pads[1]
    span = (conv.kernel[0] - 1) * conv.dilation[0] + 1
    width = conv.source.width + left + right
    for height in sorted({conv.out.height // parts for parts in range(2, conv.out.height + 1)})[
        ::-1
    ]:
        rows = (height - 1) * conv.strides[0] + span
        source = Layout(conv.source.channels, rows, width, conv.source.zero_point)
        out = Layout(conv.out.channels, height, conv.out.width, conv.out.zero_point)
        band = replace(conv, source=source, out=out)
        if fits(band):
            return Bands(band, conv, pads)
    return None
