"""QEMU machines that stand for the cores: compilers, their flags, memory maps."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

SOURCES = Path(__file__).parent / "board"  # start-up, linker script, semihosting


@dataclass(frozen=True)
class Machine:
    """A QEMU machine that stands for a core: compiler flags and memory map (bytes)."""

    machine: str
    flags: tuple[str, ...]
    code: tuple[int, int]
    ram: tuple[int, int]
    toolchain: str = "arm-none-eabi"
    emulator: str = "qemu-system-arm"
    aligned: bool = False  # the counting plugin of the tests stops it at an unaligned address

    @property
    def compiler(self) -> str:
        return f"{self.toolchain}-gcc"

    @property
    def all_flags(self) -> tuple[str, ...]:
        """With those of every core of the architecture."""
        return (*self.flags, "-mthumb") if self.toolchain == "arm-none-eabi" else self.flags


MEBI = 1 << 20
_MPS2: Any = {"code": (0, 4 * MEBI), "ram": (0x20000000, 4 * MEBI)}
_AN505: Any = {"code": (0x10000000, 4 * MEBI), "ram": (0x38000000, 4 * MEBI)}
_AN547: Any = {"code": (0, 512 << 10), "ram": (0x01000000, 2 * MEBI)}
_M55 = ("-mcpu=cortex-m55", "-mfloat-abi=hard", "-mfpu=auto")
_VIRT: Any = {
    "code": (0x80000000, 4 * MEBI),
    "ram": (0x80400000, 4 * MEBI),
    "toolchain": "riscv64-unknown-elf",
    "emulator": "qemu-system-riscv32",
}
MACHINES = {
    # The M0 build runs on an M3 with unaligned accesses trapped (see startup.c): the only M0
    # machine of QEMU, the micro:bit, has 16 KiB of RAM.
    "m0": Machine("mps2-an385", ("-mcpu=cortex-m0",), **_MPS2),
    "microbit": Machine("microbit", ("-mcpu=cortex-m0",), (0, 256 << 10), (0x20000000, 16 << 10)),
    "m3": Machine("mps2-an385", ("-mcpu=cortex-m3",), **_MPS2),
    "m4": Machine(
        "mps2-an386", ("-mcpu=cortex-m4", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16"), **_MPS2
    ),
    "m7": Machine("mps2-an500", ("-mcpu=cortex-m7", "-mfloat-abi=hard", "-mfpu=fpv5-d16"), **_MPS2),
    "m33": Machine(
        "mps2-an505", ("-mcpu=cortex-m33", "-mfloat-abi=hard", "-mfpu=fpv5-sp-d16"), **_AN505
    ),
    # An ARMv8-M baseline build on the M33, with unaligned accesses trapped as for M0.
    "m23": Machine("mps2-an505", ("-mcpu=cortex-m23",), **_AN505),
    "m33_nodsp": Machine("mps2-an505", ("-mcpu=cortex-m33+nodsp", "-mfloat-abi=soft"), **_AN505),
    "m55": Machine("mps3-an547", _M55, **_AN547),
    "m55_nomve": Machine("mps3-an547", ("-mcpu=cortex-m55", "-mfloat-abi=soft"), **_AN547),
    # QEMU has no M85, nor does GCC 12 know the name: an M55 build, whose instructions it has.
    "m85": Machine("mps3-an547", _M55, **_AN547),
    # ESP32-C3 and C6, RP2350, CH32; and the cores of that family that cannot multiply.
    "rv32": Machine("virt", ("-march=rv32imac", "-mabi=ilp32"), **_VIRT),
    "rv32_unaligned": Machine("virt", ("-march=rv32imac", "-mabi=ilp32"), **_VIRT),
    "rv32 without multiplier": Machine("virt", ("-march=rv32iac", "-mabi=ilp32"), **_VIRT),
    # QEMU loads any address there; some of these cores fault.
    "rv32 without unaligned loads": Machine(
        "virt", ("-march=rv32imac", "-mabi=ilp32", "-mstrict-align"), **_VIRT, aligned=True
    ),
}
