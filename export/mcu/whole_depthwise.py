"""Depthwise convolutions whose kernel covers the map, as in a step of a stream: dot products."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from . import fours
from .code import Code, Names, array, initialiser, struct
from .cores import FLIP, Core
from .int8_conv import Int8Conv, fits_fast
from .weights import stored_biases

SOURCES = ("whole_depthwise.c", "layout.c", *fours.SOURCES)


@dataclass(frozen=True)
class WholeDepthwise:
    """`conv`, of one output a channel and no padding."""

    core: Core
    conv: Int8Conv

    @property
    def fits(self) -> bool:
        """Whether every channel's sums suit the requantisation in few instructions."""
        pairs = zip(self.conv.bounds().tolist(), self.conv.multipliers, strict=True)
        return all(fits_fast(*pair) for pair in pairs)

    @property
    def taps(self) -> int:
        """Bytes of a plane that a channel reads: its rows with what lies between them."""
        (rows, columns), pitch = self.conv.kernel, self.conv.source.pitch
        taps = (rows - 1) * pitch + columns
        return taps + -taps % 4 if self.core.family == "dsp" else taps

    @property
    def reads(self) -> int:
        """Bytes behind the first of the input."""
        return (self.conv.source.channels - 1) * self.conv.source.plane + self.taps

    def code(self, names: Names) -> Code:
        """The kernel call."""
        n, conv = names.index, self.conv
        weights = self._weights()
        if self.core.family == "helium":
            return self._fours(weights, names)
        flip = FLIP if self.core.family == "swar" else 0
        rows = []
        for bias, m in zip(
            stored_biases(self.core, conv.biases, weights), conv.multipliers, strict=True
        ):
            right = -m.shift
            rounding = (1 << right - 1) + (conv.zero_point + flip) * (1 << right)
            members = {"bias": bias, "multiplier": m.multiplier}
            members |= {"rounding": rounding, "right": right}
            rows.append(f"    {initialiser(members)},")
        table = "\n".join(rows)
        return Code(
            [
                array("int8_t", f"weights_{n}", weights),
                f"static const ec2t_mcu_whole_channel channels_{n}[] = {{\n{table}\n}};",
                f"static const ec2t_mcu_whole_depthwise layer_{n} = {{.channel = channels_{n}, "
                f".weights = weights_{n}, .plane = {conv.source.plane}u, "
                f".count = {len(weights)}, .taps = {self.taps}, "
                f".depth_multiplier = {conv.depth_multiplier}, .clamp = {conv.clamp}}};",
            ],
            [f"ec2t_mcu_whole_depthwise_run(&layer_{n}, {names.inputs[0]}, {names.output});"],
            weights.size + 16 * len(weights),
            "int8",
        )

    def _fours(self, weights: npt.NDArray[np.int8], names: Names) -> Code:
        """On Helium: four channels at a time."""
        n, conv = names.index, self.conv
        members = {
            "fours": f"fours_{n}",
            "weights": f"weights_{n}",
            "plane": f"{conv.source.plane}u",
            "count": len(weights),
            "taps": self.taps,
            "depth_multiplier": conv.depth_multiplier,
            "clamp": conv.clamp,
        }
        return Code(
            [
                array("int8_t", f"weights_{n}", weights),
                fours.table(n, conv.biases, conv.multipliers, once=False),
                struct("whole_fours", f"layer_{n}", members),
            ],
            [f"ec2t_mcu_whole_fours_run(&layer_{n}, {names.inputs[0]}, {names.output});"],
            fours.flash(weights),
            "int8",
        )

    def _weights(self) -> npt.NDArray[np.int8]:
        """[channel, tap], 0 where a byte is none of the map's."""
        grid, pitch = self.conv.weights[:, 0], self.conv.source.pitch
        count, rows, columns = grid.shape
        wide = np.zeros((count, rows, max(pitch, columns)), np.int8)
        wide[:, :, :columns] = grid
        flat = wide.reshape(count, -1)[:, : self.taps]
        return np.pad(flat, ((0, 0), (0, self.taps - flat.shape[1])))
