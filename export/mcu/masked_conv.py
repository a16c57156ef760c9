"""Ternary convolutions on Helium in two bits a weight that is not 0 and one that is: decoded a few
channels at a time, multiplied as dot products."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from . import dot_conv
from .channels import channel_table
from .code import Code, Names, array, struct
from .cores import Core
from .int8_conv import Int8Conv
from .list_conv import tiles_of
from .lists import READ_AHEAD, Ternary, best_rice_parameter, rice_length

SOURCES = ("masked_conv.c",)
TOGETHER = 8  # channels decoded at once
# Instructions: of decoding a weight that is not 0, sixteen weights, and a weight of a Rice stream.
SIGN_COST, MASK_COST, RICE_COST = 9, 18, 25


@dataclass(frozen=True)
class Masks:
    """The layer between two layouts, and the plan of its dot products."""

    conv: Int8Conv
    ternary: Ternary
    plan: dot_conv.Plan

    @property
    def together(self) -> int:
        """Channels decoded at once."""
        return min(TOGETHER, len(self.conv.weights))

    @cached_property
    def packed(self) -> npt.NDArray[np.int8]:
        """Weights in the order of the tile."""
        return dot_conv.in_pairs(dot_conv.runs(self.conv, self.plan)[1], self.plan)

    @property
    def stream_bytes(self) -> int:
        """Bytes of masks and signs."""
        listed = int(np.count_nonzero(self.packed))
        return self.packed.size // 8 + -(-listed // 8) + READ_AHEAD

    @property
    def cost(self) -> int:
        """Instructions, about."""
        count, p = len(self.conv.weights), self.plan
        again = -(-count // self.together) - 1
        rows = p.rows if p.windows else 1
        copied = (self.conv.out.height * self.conv.strides[0] + rows) * p.chunks
        copied *= -(-p.columns // p.together) * p.step
        decoded = SIGN_COST * int(np.count_nonzero(self.packed))
        decoded += MASK_COST * (self.packed.size // dot_conv.BLOCK)
        return p.cost + decoded + again * dot_conv.COPY_COST * copied

    @property
    def _made(self) -> tuple[int, int]:
        """Bytes of pairs and weights, and of distances, in scratch."""
        each = self.together // 2
        distances = 2 * self.plan.chunks * self._pixel
        return each * (48 + self.packed[0].size), distances + -distances % 4

    @property
    def _pixel(self) -> int:
        """Bytes of a pixel (of a chunk) that are copied."""
        return self.plan.step if self.plan.windows else self.conv.weights.shape[1]

    @property
    def scratch(self) -> int:
        """Bytes of scratch."""
        return sum(self._made) + self.plan.scratch

    def code(self, names: Names, entry: str) -> Code | None:
        """The kernel call; None where a plane lies too far. `entry` is the address of the first tap
        under the first output pixel."""
        conv, n = self.conv, names.index
        depth = conv.weights.shape[1]
        if (depth - 1) * conv.source.plane > 0xFFFF or dot_conv.too_far(conv, self.plan):
            return None
        flat = self.packed.reshape(-1)
        masks = np.packbits(flat != 0, bitorder="little").view(np.uint16)
        signs = np.packbits(flat[flat != 0] < 0, bitorder="little")
        signs = np.concatenate([signs, np.zeros(READ_AHEAD, np.uint8)])
        table = channel_table(
            n,
            conv.biases,
            conv.multipliers,
            ternary=self.ternary,
            zero_point=conv.source.zero_point,
        )
        members = dot_conv.members(
            conv, self.plan, size=self._pixel, pair_bytes=self.packed[0].size
        )
        inner = ", ".join(f".{name} = {value}" for name, value in members.items())
        zeros = float((conv.weights == 0).mean())
        return Code(
            [
                table.declaration,
                array("uint16_t", f"masks_{n}", masks),
                array("uint8_t", f"weights_{n}", signs),
                struct(
                    "masked_conv",
                    f"layer_{n}",
                    {
                        "dot": f"{{{inner}}}",
                        "channels": table.member,
                        "masks": f"masks_{n}",
                        "signs": f"weights_{n}",
                        "sign_bits": int(np.count_nonzero(flat)),
                        "together": self.together,
                        "run": "ec2t_mcu_dot_conv_run",
                    },
                ),
            ],
            [
                f"status = ec2t_mcu_masked_conv_run(&layer_{n}, {entry}, {names.output}, "
                f"(uint8_t *){names.scratch});",
                "if (status != EC2T_MCU_OK) return status;",
            ],
            table.flash + masks.nbytes + signs.nbytes,
            f"ternary, {100 * zeros:.0f} % zeros, masks",
            dot_conv.tile_of(conv, self.plan)[1],
        )


def masks(core: Core, optimize: str, conv: Int8Conv, ternary: Ternary | None) -> Masks | None:
    """Of the smallest build, where they take no more bytes than Rice streams and fewer
    instructions."""
    if core.family != "helium" or optimize != "size" or ternary is None or len(conv.weights) % 2:
        return None
    plan = dot_conv.plan(conv)
    if plan is None or not (plan.windows or conv.kernel == (1, 1)):
        return None
    found = Masks(conv, ternary, plan)
    k = best_rice_parameter(ternary.symbols)
    stream = -(-rice_length(ternary.symbols, k) // 8) + READ_AHEAD
    stream += 2 * conv.kernel[0] * conv.kernel[1]  # places of taps
    listed = int(np.count_nonzero(ternary.symbols))
    lists = dot_conv.list_cost(ternary.symbols, tiles_of(core, conv), gaps=False)
    lists += RICE_COST * listed
    return found if found.stream_bytes <= stream and found.cost < lists else None
