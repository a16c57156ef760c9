"""Tables of output channels: what the kernels read is what was put in, in the bytes promised."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

from ec2t_tf.export.mcu import to_c
from ec2t_tf.export.mcu.arithmetic import Multiplier
from ec2t_tf.export.mcu.channels import ChannelTable, channel_table
from ec2t_tf.export.mcu.lists import Ternary, as_ternary
from ec2t_tf.export.mcu.model_files import KERNELS
from tests import nets
from tests.c_runner import STRICT

_MAIN = """
#include <stdio.h>
#include "requantise.h"
{declarations}
static const struct {{ ec2t_mcu_channels channels; uint32_t count; int32_t zero_point; }} all[] = {{
{rows}
}};
int main(void) {{
  for (uint32_t i = 0; i < sizeof all / sizeof *all; ++i)
    for (uint32_t o = 0; o < all[i].count; ++o) {{
      const ec2t_mcu_channel c = all[i].channels.form
          ? ec2t_mcu_short_channel(&all[i].channels, o, all[i].zero_point)
          : ec2t_mcu_channel_at(&all[i].channels, o);
      printf("%d %d %d %d %d %d %d\\n", (int)c.bias, (int)c.multiplier, c.shift, c.minus_count,
             c.plus_count, c.minus_count ? c.minus : 0, c.plus_count ? c.plus : 0);
    }}
  return 0;
}}
"""


def _ternary(random: np.random.Generator, channels: int, taps: int, kind: str) -> Ternary:
    """Weights of one pair of values, some channels with it turned, or each with its own."""
    symbols = random.integers(-1, 2, (channels, taps))
    pairs = np.broadcast_to(random.integers(1, 128, 2), (channels, 2)).copy()
    if kind == "turned":
        turned = random.random(channels) < 0.5
        pairs[turned] = pairs[turned][:, ::-1]
    if kind == "own":
        pairs = random.integers(1, 128, (channels, 2))
    weights = np.where(symbols > 0, pairs[:, 1:], np.where(symbols < 0, -pairs[:, :1], 0))
    ternary = as_ternary(weights.astype(np.int8))
    assert ternary is not None
    return ternary


def _folded(random: np.random.Generator, ternary: Ternary, zero_point: int, width: int) -> list:
    """Biases whose part that is no zero point has `width` bits."""
    counts = [(ternary.symbols == sign).sum(axis=1) for sign in (-1, 1)]
    own = random.integers(-(1 << width), 1 << width, len(ternary.symbols))
    return (own - zero_point * (ternary.plus * counts[1] - ternary.minus * counts[0])).tolist()


def test_the_kernels_read_what_was_written(tmp_path: Path) -> None:
    random = np.random.default_rng(17)
    tables: list[tuple[ChannelTable, int, int]] = []
    wanted = []
    for n in range(60):
        count, taps = int(random.integers(1, 9)), int(random.choice([3, 60, 300, 900]))
        shifts = random.integers(-12, -12 + int(random.choice([1, 4, 7])), count).tolist()
        mantissas = random.integers(1 << 30, 1 << 31, count).tolist()
        mantissas[0] = int(random.choice([0, 1 << 30, (1 << 31) - 1]))
        multipliers = [Multiplier(m, s) for m, s in zip(mantissas, shifts, strict=True)]
        zero_point, width = int(random.integers(-128, 128)), int(random.choice([8, 15, 22]))
        ternary = None
        biases = random.integers(-(1 << width), 1 << width, count).tolist()
        if n % 3:
            ternary = _ternary(random, count, taps, ("one", "turned", "own")[n % 9 // 3])
            biases = _folded(random, ternary, zero_point, width)
        table = channel_table(n, biases, multipliers, ternary=ternary, zero_point=zero_point)
        tables.append((table, count, zero_point))
        for at, (bias, m) in enumerate(zip(biases, multipliers, strict=True)):
            lists = [0, 0, 0, 0]
            if ternary is not None:
                row = ternary.symbols[at]
                lists = [int((row < 0).sum()), int((row > 0).sum())]
                lists += [int(ternary.minus[at]), int(ternary.plus[at])]
            wanted.append([bias, m.multiplier, m.shift, *lists])
    text = _MAIN.format(
        declarations="\n".join(table.declaration for table, _, _ in tables),
        rows="\n".join(f"  {{{t.member}, {count}, {zero}}}," for t, count, zero in tables),
    )
    (tmp_path / "main.c").write_text(text)
    flags = ["-std=c11", "-O1", "-DEC2T_MCU_CORE_SWAR", *STRICT, "-I", str(KERNELS)]
    program = str(tmp_path / "main")
    subprocess.run(["gcc", *flags, str(tmp_path / "main.c"), "-o", program], check=True)
    printed = subprocess.run([program], capture_output=True, text=True, check=True).stdout
    assert [[int(v) for v in line.split()] for line in printed.splitlines()] == wanted
    forms = {table.member.split(".form = ")[1].split(", .shift")[0] for table, _, _ in tables}
    assert len(forms) == 5, f"not all forms came up: {forms}"


@pytest.mark.parametrize(
    ("bias", "shifts", "lists", "size"),
    [
        (32767, (-9, -6), False, 6),
        (-32769, (-9, -6), False, 8),
        (0, (-9, -5), False, 16),
        (-32768, (-9, -9), True, 8),
        (32768, (-9, -9), True, 10),
        (0, (-9, -4), True, 16),
    ],
)
def test_bytes_a_channel(bias: int, shifts: tuple[int, int], lists: bool, size: int) -> None:
    ternary = as_ternary(np.array([[127, -90, 0], [0, -90, 127]], np.int8)) if lists else None
    multipliers = [Multiplier(1 << 30, shift) for shift in shifts]
    table = channel_table(0, [bias, 0], multipliers, ternary=ternary)
    assert table.flash == 2 * size


def test_what_a_ds_cnn_takes(tmp_path: Path) -> None:
    """7.1 of 13.3 KB were records of channels once."""
    report = to_c(nets.ds_cnn(width=48), tmp_path, core="m4")
    assert report.flash <= 9500
    resnet8 = to_c(nets.resnet8(zeros=None), tmp_path, core="m4")
    assert resnet8.flash <= 90000
