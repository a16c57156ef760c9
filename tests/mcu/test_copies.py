"""Copies of a net's inputs and outputs between NHWC and planes, on every core, against NumPy."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from ec2t_tf.export.mcu.cores import CORES, FLIP
from ec2t_tf.export.mcu.machines import MACHINES
from ec2t_tf.export.mcu.model_files import KERNELS
from ec2t_tf.export.mcu.plan import Layout
from tests import c_runner
from tests.bench import qemu

SEED, MAPS = 20261129, 220
FILLED = 0x5A  # what memory holds before a copy
_MAIN = """
#include "planar.h"
#include "io.h"
static const ec2t_mcu_planar layouts[] = {LAYOUTS};
static uint8_t given[SIZE], planes[SIZE], nhwc[SIZE];
static void fill(uint8_t *bytes) {
  for (uint32_t i = 0; i < SIZE; ++i) bytes[i] = FILLED;
}
int main(void) {
  OPEN();
  for (uint32_t i = 0; i < sizeof layouts / sizeof *layouts; ++i) {
    const ec2t_mcu_planar *l = layouts + i;
    const uint32_t size = (uint32_t)l->channels * l->height * l->width;
    /* Addresses of every remainder, and values of both signs. */
    uint8_t *const from = given + i % 4u, *const tensor = planes + i % 5u + l->lead;
    uint8_t *const back = nhwc + i % 3u;
    if (READ(from, size) != size) return 2;
    fill(planes);
    fill(nhwc);
    if (i & 1u) {
      ec2t_mcu_from_nhwc_u8(from, l, tensor);
      ec2t_mcu_to_nhwc_u8(l, tensor, back);
    } else {
      ec2t_mcu_from_nhwc((const int8_t *)from, l, tensor);
      ec2t_mcu_to_nhwc(l, tensor, (int8_t *)back);
    }
    const uint32_t memory = l->lead + (uint32_t)l->channels * l->plane + 24u;
    if (WRITE(planes, memory) != memory || WRITE(nhwc, size + 24u) != size + 24u) return 3;
  }
  CLOSE();
  return 0;
}
"""
_HOST = """
#include <stdio.h>
#define OPEN() (void)0
#define READ(to, size) (uint32_t)fread(to, 1, size, stdin)
#define WRITE(from, size) (uint32_t)fwrite(from, 1, size, stdout)
#define CLOSE() (void)0
"""
_FIRMWARE = """
#include "semihost.h"
static int in, out;
#define OPEN() (in = semihost_open("input.bin", 1), out = semihost_open("output.bin", 5))
#define READ(to, size) semihost_read(in, to, size)
#define WRITE(from, size) semihost_file_write(out, from, size)
#define CLOSE() semihost_close(out)
"""
Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Case:
    """A map, its layout, and its values [height, width, channels] as stored in NHWC."""

    layout: Layout
    values: Bytes


def _cases() -> list[Case]:
    """Every number of channels up to 20, one pixel, one row and column, borders of all sides."""
    random = np.random.default_rng(SEED)
    cases = []
    for i in range(MAPS):
        channels = i % 20 + 1 if i < 160 else int(random.integers(1, 300))
        height, width = (int(n) for n in random.integers(1, 20, 2))
        if i % 7 == 0:
            width = int(random.integers(30, 70))
        if i % 11 == 0:
            height = width = 1
        elif i % 5 == 0:
            height, width = (height, 1) if i % 2 else (1, width)
        layout = Layout(channels, height, width, int(random.integers(-128, 128)))
        if random.random() < 0.7:
            layout.require(*(int(n) for n in random.integers(0, 4, 4)))
        values = random.integers(0, 256, (height, width, channels)).astype(np.uint8)
        cases.append(Case(layout, values))
    return cases


def _planes(case: Case, number: int, flip: int) -> Bytes:
    """Memory after the copy, with the bytes around that stay as they were."""
    layout, unsigned = case.layout, number % 2
    memory = np.full(layout.lead + layout.channels * layout.plane + 24, FILLED, np.uint8)
    start = number % 5
    zero = (layout.zero_point & 0xFF) ^ flip
    memory[start : start + layout.lead] = zero
    stored = case.values ^ np.uint8(flip ^ (FLIP if unsigned else 0))
    for c in range(layout.channels):
        plane = np.full((layout.height + layout.around, layout.pitch), zero, np.uint8)
        plane[: layout.height, : layout.width] = stored[:, :, c]
        at = start + layout.lead + c * layout.plane
        memory[at : at + layout.plane] = plane.reshape(-1)
    return memory


def _expected(cases: list[Case], flip: int) -> bytes:
    parts = []
    for i, case in enumerate(cases):
        around = np.full(24, FILLED, np.uint8)
        parts += [_planes(case, i, flip), around[: i % 3], case.values.reshape(-1)]
        parts.append(around[i % 3 :])
    return b"".join(p.tobytes() for p in parts)


def _write(cases: list[Case], folder: Path, io: str) -> bytes:
    """The program's main file and header; what it reads."""
    size = max(c.layout.lead + c.layout.channels * c.layout.plane for c in cases) + 32
    main = _MAIN.replace("LAYOUTS", ",\n".join(c.layout.c() for c in cases))
    main = main.replace("SIZE", str(size)).replace("FILLED", str(FILLED))
    (folder / "firmware_main.c").write_text(main)
    (folder / "io.h").write_text(io)
    return b"".join(c.values.tobytes() for c in cases)


def _check(got: bytes, cases: list[Case], flip: int) -> None:
    want, place = _expected(cases, flip), 0
    for i, case in enumerate(cases):
        layout = case.layout
        size = layout.lead + layout.channels * layout.plane + case.values.size + 48
        equal = got[place : place + size] == want[place : place + size]
        assert equal, (SEED, i, layout)
        place += size
    assert len(got) == len(want) == place


@pytest.mark.parametrize("core", [core for core in CORES if core in MACHINES])
def test_copies_are_equal_on_every_core(tmp_path: Path, core: str) -> None:
    if qemu.missing_tools(core):
        pytest.skip(qemu.missing_tools(core))
    cases = _cases()
    (tmp_path / "input.bin").write_bytes(_write(cases, tmp_path, _FIRMWARE))
    sources = [KERNELS / "layout.c", tmp_path / "firmware_main.c"]
    defines = ["EC2T_MCU_CORE_SWAR"] if CORES[core].family == "swar" else []
    image = qemu.build(core, sources, tmp_path / core, include=[KERNELS, tmp_path], defines=defines)
    run = qemu.run(core, image.path, folder=tmp_path)
    assert run.status == 0, f"firmware on {core} returned {run.status}: {run.text}"
    flip = FLIP if CORES[core].family == "swar" else 0
    _check((tmp_path / "output.bin").read_bytes(), cases, flip)


def test_copies_stay_in_their_memory_on_the_host(tmp_path: Path) -> None:
    cases = _cases()
    given = _write(cases, tmp_path, _HOST)
    program = tmp_path / "program"
    sources = [str(KERNELS / "layout.c"), str(tmp_path / "firmware_main.c")]
    flags = ["-std=c11", "-O1", "-DEC2T_MCU_CORE_SWAR", *c_runner.STRICT, *c_runner.SANITIZE]
    include = [f"-I{KERNELS}", f"-I{tmp_path}"]
    subprocess.run(["gcc", *flags, *include, *sources, "-o", str(program)], check=True)
    done = subprocess.run([str(program)], input=given, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    _check(done.stdout, cases, FLIP)
