"""An example firmware around a generated net: start-up code, linker script, Makefile, main."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from ec2t_tf import progress

from .interface import Interface
from .machines import MACHINES, SOURCES

_MAIN = r"""/* Example firmware: runs the net on a made-up input and prints the greatest output. */
#include "NAME.h"
#include "semihost.h"
#include "stopwatch.h"

BUFFERS
static uint8_t arena[UPPER_ARENA_SIZE] __attribute__((aligned(4)));

int main(void) {
    MADE_UP
    RESET
    stopwatch_start();
    const int status = RUN(ALL, arena);
    const uint32_t instructions = stopwatch_stop();
    if (status != 0) {
        semihost_write("the weights in flash are damaged\n");
        return 1;
    }
    uint32_t best = 0;
    for (uint32_t i = 1; i < UPPER_OUTPUT_SIZE; ++i) {
        if (OUTPUT[i] > OUTPUT[best]) {
            best = i;
        }
    }
    semihost_write("output ");
    semihost_write_number(best);
    semihost_write(" is the greatest\ninstructions ");
    semihost_write_number(instructions);
    semihost_write("\n");
    return 0;
}
"""

_MAKEFILE = """# make: builds firmware.elf; make run: runs it in QEMU. For a board, put its own
# files in the place of startup.c, link.ld.in and semihost.c.
CC = COMPILER
CPU = FLAGS
CFLAGS = $(CPU) -std=c11 -ffreestanding -O2 -Wall -Wextra -ffunction-sections -fdata-sections -I..
SOURCES = $(wildcard *.c ../*.c)

firmware.elf: $(SOURCES) link.ld
\t$(CC) $(CFLAGS) -nostdlib -Wl,--gc-sections -Wl,-T,link.ld $(SOURCES) -lgcc -o $@

link.ld: link.ld.in
\t$(CC) -E -P -x c DEFINITIONS $< -o $@

run: firmware.elf
\tEMULATOR -machine MACHINE -nographic -monitor none -serial none \\
\t  -icount shift=SHIFT -semihosting-config enable=on,target=native -kernel firmware.elf

.PHONY: run
"""


def write_example(folder: Path, interface: Interface, core: str) -> None:
    """Writes the example for a core of `MACHINES` into `folder`/example."""
    machine = MACHINES[core]
    target = folder / "example"
    target.mkdir(exist_ok=True)
    for source in sorted(SOURCES.iterdir()):
        if source.is_file():
            shutil.copyfile(source, target / source.name)
    (target / "main.c").write_text(interface.fill(_MAIN))
    memory = {
        "CODE_ORIGIN": machine.code[0],
        "CODE_LENGTH": machine.code[1],
        "RAM_ORIGIN": machine.ram[0],
        "RAM_LENGTH": machine.ram[1],
    }
    definitions = " ".join(f"-D{key}={value}" for key, value in memory.items())
    (target / "Makefile").write_text(
        _MAKEFILE.replace("CPU = FLAGS", f"CPU = {' '.join(machine.all_flags)}")
        .replace("CC = COMPILER", f"CC = {machine.compiler}")
        # There minstret counts nanoseconds.
        .replace("SHIFT", "0" if machine.machine == "virt" else "6")
        .replace(
            "EMULATOR", machine.emulator + (" -bios none" if machine.machine == "virt" else "")
        )
        .replace("DEFINITIONS", definitions)
        .replace("MACHINE", machine.machine)
    )


def run_example(folder: Path, core: str) -> int:
    """Builds the example of a generated folder, runs it in QEMU and returns the instructions of one
    call of the net.

    Raises:
        ValueError: A tool is missing, or the firmware failed.
    """
    machine = MACHINES[core]
    tools = ("make", machine.compiler, machine.emulator)
    missing = [tool for tool in tools if not shutil.which(tool)]
    if missing:
        raise ValueError(
            f"measuring needs {', '.join(tools)}. Missing: {', '.join(missing)}. "
            "Install them (Debian: apt-get install make gcc-arm-none-eabi qemu-system-arm; for "
            "RISC-V gcc-riscv64-unknown-elf and qemu-system-misc)."
        )
    command = ["make", "-C", str(folder / "example"), "run"]
    with progress.working(f"building the firmware for {core} and running it in QEMU"):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = re.search(r"^instructions (\d+)$", done.stdout + done.stderr, re.M)
    if done.returncode or found is None:
        raise ValueError(f"the example did not run:\n{done.stdout}{done.stderr}")
    return int(found.group(1))
