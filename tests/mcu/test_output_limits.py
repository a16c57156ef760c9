"""Limits of an activation, applied to stored bytes: every byte, every pair of limits."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from ec2t_tf.export.mcu.model_files import KERNELS
from tests import c_runner
from tests.bench import qemu

_MAIN = """
#include "requantise.h"
enum { HEIGHT = 3, WIDTH = 87, PITCH = 90, BYTES = HEIGHT * PITCH + 4 };
static uint8_t memory[BYTES] __attribute__((aligned(4))), before[BYTES];
static int differs(int lead, int minimum, int maximum) {
  const ec2t_mcu_planar layout = {.channels = 1, .height = HEIGHT, .width = WIDTH, .pitch = PITCH};
  const ec2t_mcu_clamp clamp = {0, minimum, maximum};
  for (int i = 0; i < BYTES; ++i) memory[i] = before[i] = (uint8_t)(7 * i + lead);
  ec2t_mcu_limit(&layout, memory + lead, &clamp);
  for (int i = 0; i < BYTES; ++i) {
    const int at = i - lead, inside = at >= 0 && at < HEIGHT * PITCH && at % PITCH < WIDTH;
    const int value = ec2t_mcu_value(before[i]);
    const int limited = value < minimum ? minimum : value > maximum ? maximum : value;
    if (ec2t_mcu_value(memory[i]) != (inside ? limited : value)) return 1;
  }
  return 0;
}
int main(void) {
  int lead = 0;
  for (int minimum = -128; minimum < 128; minimum += STEP)
    for (int maximum = 127; maximum >= minimum; maximum -= STEP, ++lead)
      if (differs(lead % 4, minimum, maximum)) return 1;
  return 0;
}
"""


def test_on_the_host(tmp_path: Path) -> None:
    main, program = tmp_path / "main.c", tmp_path / "main"
    main.write_text(_MAIN)
    flags = ["-std=c11", "-O2", "-DSTEP=1", "-DEC2T_MCU_CORE_SWAR", f"-I{KERNELS}"]
    flags += [*c_runner.STRICT, *c_runner.SANITIZE]
    layout = KERNELS / "layout.c"
    subprocess.run(["gcc", *flags, str(main), str(layout), "-o", str(program)], check=True)
    subprocess.run([str(program)], check=True)


@pytest.mark.skipif(bool(qemu.missing_tools()), reason=qemu.missing_tools() or "-")
@pytest.mark.parametrize("core", ["m0", "m3", "m4", "m55"])
def test_on_cores(tmp_path: Path, core: str) -> None:
    """Every 15th limit, from both ends."""
    main = tmp_path / "main.c"
    main.write_text(_MAIN)
    sources = [main, KERNELS / "layout.c"]
    image = qemu.build(core, sources, tmp_path / core, include=[KERNELS], defines=["STEP=15"])
    assert qemu.run(core, image.path, folder=tmp_path).status == 0
