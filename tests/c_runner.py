"""Builds a generated folder for the host or a microcontroller core and runs it on a batch."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import numpy.typing as npt

from tests.bench import qemu

_HOST_MAIN = """
#include <stdio.h>
#include "model.h"
static int8_t input[MODEL_INPUT_SIZE], output[MODEL_OUTPUT_SIZE];
static uint8_t arena[MODEL_ARENA_SIZE] __attribute__((aligned(4)));
int main(void) {
  while (fread(input, 1, sizeof input, stdin) == sizeof input) {
    for (unsigned i = 0; i < sizeof arena; ++i) arena[i] = (uint8_t)(i * 37u);
    if (model_invoke(input, output, arena) != 0) return 1;
    if (fwrite(output, 1, sizeof output, stdout) != sizeof output) return 2;
  }
  return 0;
}
"""

_FIRMWARE_MAIN = """
#include "model.h"
#include "semihost.h"
static int8_t input[MODEL_INPUT_SIZE], output[MODEL_OUTPUT_SIZE];
static uint8_t arena[MODEL_ARENA_SIZE] __attribute__((aligned(4)));
int main(void) {
  const int from = semihost_open("input.bin", 1), to = semihost_open("output.bin", 5);
  if (from < 0 || to < 0) return 2;
  while (semihost_read(from, input, sizeof input) == sizeof input) {
    EC2T_COUNT_BEGIN();
    const int status = model_invoke(input, output, arena);
    EC2T_COUNT_END();
    if (status != 0) return 1;
    if (semihost_file_write(to, output, sizeof output) != sizeof output) return 3;
  }
  semihost_close(to);
  return 0;
}
"""

STRICT = ["-Wall", "-Wextra", "-Werror", "-Wconversion"]
SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]


def build_host(folder: Path, *, sanitize: bool = True) -> Path:
    """The generated model as a filter: inputs on stdin, outputs on stdout."""
    main = folder / "host_main.c"
    main.write_text(_HOST_MAIN)
    target = folder / "host"
    sources = [str(p) for p in sorted(folder.glob("*.c")) if p.name != "firmware_main.c"]
    flags = ["-std=c11", "-O1", "-DEC2T_MCU_CORE_SWAR", *STRICT, *(SANITIZE if sanitize else [])]
    subprocess.run(["gcc", *flags, *sources, "-o", str(target)], check=True)
    return target


def run_host(
    program: Path, values: npt.NDArray[np.int8], output_shape: tuple[int, ...]
) -> npt.NDArray[np.int8]:
    done = subprocess.run([str(program)], input=values.tobytes(), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return np.frombuffer(done.stdout, np.int8).reshape(len(values), *output_shape)


def run_core(
    core: str,
    folder: Path,
    values: npt.NDArray[np.int8],
    output_shape: tuple[int, ...],
    *,
    laps: bool = False,
) -> tuple[npt.NDArray[np.int8], qemu.Firmware, tuple[qemu.Count, ...]]:
    """Outputs, image sizes and counts (one an input, or with `laps` one a layer)."""
    main = folder / "firmware_main.c"
    main.write_text(_FIRMWARE_MAIN)
    (folder / "input.bin").write_bytes(values.tobytes())
    sources = [p for p in sorted(folder.glob("*.c")) if p.name != "host_main.c"]
    lap = ['MODEL_LAP()=__asm volatile(".short 0xbf90" ::: "memory")'] if laps else []
    image = qemu.build(core, sources, folder / core, include=[folder], defines=lap)
    run = qemu.run(core, image.path, folder=folder)
    assert run.status == 0, f"firmware on {core} returned {run.status}: {run.text}"
    out = np.frombuffer((folder / "output.bin").read_bytes(), np.int8)
    return out.reshape(len(values), *output_shape), image, run.counts
