"""Firmware built with the Arm cross compiler and run in QEMU, with exact instruction counts.

Counts are executed instructions of the emulated core; cycles are estimated, not measured.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ec2t_tf.export.mcu.cores import CORES as ALL_CORES
from ec2t_tf.export.mcu.machines import MACHINES, SOURCES

COMPILER = "arm-none-eabi-gcc"
EMULATOR = "qemu-system-arm"
WARNINGS = ["-Wall", "-Wextra", "-Werror", "-Wconversion"]
# string.h of a firmware without a C library.
STRING_H = """#pragma once
#include <stddef.h>
void *memcpy(void *restrict, const void *restrict, size_t);
void *memset(void *, int, size_t);
int memcmp(const void *, const void *, size_t);
void *memmove(void *, const void *, size_t);
"""

# The Arm cores with kernels, costs or timings of their own.
CORES = tuple(
    core
    for core, one in ALL_CORES.items()
    if core in MACHINES and MACHINES[core].compiler == COMPILER and not one.like
)
# Whose published timings the plugin counts by. M0 is an M0+, which every board of today has; M33's
# are not published: those of M4, whose instructions it has.
TIMINGS = {"m0": "m0plus", "microbit": "m0plus", "m3": "m3", "m4": "m4", "m33": "m4"}


@dataclass(frozen=True)
class Count:
    """What one marked region executed."""

    instructions: int
    loads: int
    stores: int
    cycles: int  # estimated by published timings, without wait states; 0 where there are none


@dataclass(frozen=True)
class Run:
    """Console text, exit status and the counted regions of a firmware run."""

    text: str
    status: int
    counts: tuple[Count, ...]


@dataclass(frozen=True)
class Firmware:
    """A linked image: flash = code + constants + initial data, RAM = data + bss, no stack."""

    path: Path
    flash: int
    ram: int


def missing_tools(core: str = "m4") -> str:
    """Names the system tools that are not installed ("" if none): the reason of a skip."""
    tools = (MACHINES[core].compiler, MACHINES[core].emulator, "gcc")
    missing = [tool for tool in tools if not shutil.which(tool)]
    if not missing:
        return ""
    packages = "gcc-arm-none-eabi qemu-system-arm gcc"
    if core.startswith("rv32"):
        packages = "gcc-riscv64-unknown-elf qemu-system-misc gcc"
    return f"needs {', '.join(missing)}: apt-get install {packages}"


def build(
    core: str,
    sources: Sequence[Path],
    folder: Path,
    *,
    include: Sequence[Path] = (),
    defines: Sequence[str] = (),
    optimise: str = "-O2",
    warnings: Sequence[str] = tuple(WARNINGS),
    yardstick: Sequence[Path] = (),
    name: str = "firmware",
) -> Firmware:
    """Compiles and links a firmware for `core` without any C library.

    Args:
        core: A key of `MACHINES`.
        sources: C files, compiled with `warnings`.
        folder: Where objects and image go.
        include: Include folders.
        defines: Preprocessor definitions, `NAME` or `NAME=value`.
        optimise: The compiler's level.
        warnings: Flags for `sources`.
        yardstick: C files of others, compiled without warnings.
        name: Stem of the image.
    """
    board = MACHINES[core]
    folder.mkdir(parents=True, exist_ok=True)
    common = [board.compiler, *board.all_flags, "-std=c11", "-ffreestanding", optimise, "-g0"]
    common += ["-ffunction-sections", "-fdata-sections", f"-I{SOURCES}"]
    common += [f"-I{path}" for path in include] + [f"-D{define}" for define in defines]
    script = folder / f"{name}.ld"
    memory = {
        "CODE_ORIGIN": board.code[0],
        "CODE_LENGTH": board.code[1],
        "RAM_ORIGIN": board.ram[0],
        "RAM_LENGTH": board.ram[1],
    }
    _run(
        [
            board.compiler,
            "-E",
            "-P",
            "-x",
            "c",
            *(f"-D{key}={value}" for key, value in memory.items()),
            str(SOURCES / "link.ld.in"),
            "-o",
            str(script),
        ]
    )
    own = [*sources, *sorted(p for p in SOURCES.glob("*.c") if p.stem != "stopwatch")]
    objects = []
    for paths, flags in ((own, list(warnings)), (yardstick, ["-w", "-fhosted"])):
        for path in paths:
            key = hashlib.sha256(" ".join([*common, *flags, str(path)]).encode()).hexdigest()[:16]
            target = folder / f"{path.stem}-{key}.o"
            if not ("-fhosted" in flags and target.exists()):
                _run([*common, *flags, "-c", str(path), "-o", str(target)])
            objects.append(str(target))
    image = folder / f"{name}.elf"
    _run(
        [
            board.compiler,
            *board.all_flags,
            "-nostdlib",
            "-Wl,--gc-sections",
            f"-Wl,-T,{script}",
            *objects,
            "-lgcc",
            "-o",
            str(image),
        ]
    )
    text, data, bss = (
        int(v) for v in _run([f"{board.toolchain}-size", str(image)]).splitlines()[1].split()[:3]
    )
    return Firmware(image, flash=text + data, ram=data + bss)


def run(core: str, image: Path, *, folder: Path, timeout: float = 120.0) -> Run:
    """Runs a firmware; semihosting files are relative to `folder`."""
    board = MACHINES[core]
    command = [board.emulator, "-machine", board.machine, "-nographic", "-monitor", "none"]
    command += ["-serial", "none", "-semihosting-config", "enable=on,target=native"]
    timing = "rv32" if board.machine == "virt" else TIMINGS.get(core, "none")
    aligned = ",aligned=on" if board.aligned else ""
    command += ["-plugin", f"{_plugin()},core={timing}{aligned}"]
    command += ["-bios", "none"] if board.machine == "virt" else []
    command += ["-kernel", str(image.resolve())]
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=timeout, check=False
    )
    lines = done.stderr.splitlines()
    counts = [Count(*map(int, x.split()[1:])) for x in lines if x.startswith("COUNT ")]
    text = done.stdout + "\n".join(x for x in lines if not x.startswith("COUNT "))
    return Run(text, done.returncode, tuple(counts))


@cache
def _plugin() -> Path:
    """Builds the counting plugin once a machine and source version."""
    source = Path(__file__).with_name("qemu_count.c")
    parts = [source, source.with_name("thumb_timing.h")]
    stamp = hashlib.sha256(b"".join(p.read_bytes() for p in parts)).hexdigest()[:16]
    folder = Path.home() / ".cache" / "ec2t_tf"
    target = folder / f"qemu_count-{stamp}.so"
    if not target.exists():
        folder.mkdir(parents=True, exist_ok=True)
        partial = target.with_suffix(".part")
        _run(
            [
                "gcc",
                "-O2",
                "-shared",
                "-fPIC",
                "-fvisibility=hidden",
                "-Wall",
                "-Wextra",
                str(source),
                "-o",
                str(partial),
            ]
        )
        partial.replace(target)
    return target


def _run(command: Sequence[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}\nfailed with:\n{done.stderr}{done.stdout}")
    return done.stdout
