"""The counting plugin's estimated cycles, on instructions whose published timing is known."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench import qemu

# What stands between two markers, and its cycles on M0+, M3 and M4 by Arm's tables.
CASES = {
    "nop\\n nop\\n nop": (3, 3, 3),
    "ldr r1,[r0]\\n nop": (3, 3, 3),
    "ldr r1,[r0]\\n ldr r2,[r0,#4]\\n ldr r3,[r0,#8]": (6, 4, 4),  # pipelined
    "ldr r1,[r0]\\n str r2,[r0,#4]": (4, 3, 3),
    "ldm r0!,{r1,r2,r3}": (4, 4, 4),
    "muls r1,r2": (1, 1, 1),
    "movs r3,#4\\n ldr r1,[r0,r3]": (3, 4, 4),  # the address was made just before
    "b 1f\\n nop\\n1: nop": (3, 4, 4),
}
ONLY_WIDE = {
    "mla r1,r2,r3,r1": (2, 1),
    "smlal r1,r2,r3,r3": (5, 1),
    "ldr r1,[r0,#1]": (4, 4),  # a word at an odd address
    "ldr r1,[r0,#2]": (3, 3),
    "udiv r1,r2,r3": (7, 7),
}
_MAIN = """
#include "semihost.h"
uint32_t words[8] = {1, 2, 3, 4, 5, 6, 7, 8};
int main(void) {
  EC2T_COUNT_BEGIN();
BLOCKS
  EC2T_COUNT_END();
  return 0;
}
"""
_BLOCK = """  {
    register uint32_t *place __asm("r0") = words;
    __asm volatile(".syntax unified\\n movs r3,#1\\n .short 0xbf90\\n CODE\\n"
                   : "+r"(place) : : "r1", "r2", "r3", "cc", "memory");
    EC2T_COUNT_LAP();
  }
"""


@pytest.mark.parametrize("core", ["m0", "m3", "m4"])
def test_cycles_by_the_tables(tmp_path: Path, core: str) -> None:
    if qemu.missing_tools(core):
        pytest.skip(qemu.missing_tools(core))
    column = ["m0", "m3", "m4"].index(core)
    wanted = {code: cycles[column] for code, cycles in CASES.items()}
    if column:
        wanted |= {code: cycles[column - 1] for code, cycles in ONLY_WIDE.items()}
    blocks = "".join(_BLOCK.replace("CODE", code) for code in wanted)
    main = tmp_path / "main.c"
    main.write_text(_MAIN.replace("BLOCKS", blocks))
    image = qemu.build(core, [main], tmp_path / "build")
    run = qemu.run(core, image.path, folder=tmp_path)
    assert run.status == 0, run.text
    found = [count.cycles for count in run.counts[1::2]]
    assert dict(zip(wanted, found, strict=False)) == wanted


def test_cores_without_published_timings_have_no_cycles(tmp_path: Path) -> None:
    main = tmp_path / "main.c"
    main.write_text(_MAIN.replace("BLOCKS", '  __asm volatile("nop");'))
    for core in ("m7", "m55", "rv32", "rv32_unaligned"):
        if qemu.missing_tools(core):
            pytest.skip(qemu.missing_tools(core))
        image = qemu.build(core, [main], tmp_path / core)
        (count,) = qemu.run(core, image.path, folder=tmp_path).counts
        assert (count.instructions, count.cycles) == (1, 0)
