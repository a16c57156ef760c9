"""A generated folder in the build systems it is dropped into: CMake, Zephyr, Arduino."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from ec2t_tf.export.mcu import to_c
from ec2t_tf.export.mcu.machines import MACHINES
from tests import nets
from tests.bench import qemu

needs_cmake = pytest.mark.skipif(not shutil.which("cmake"), reason="needs cmake: apt-get install")
WARNINGS = "-O2 -Wall -Wextra -Werror -Wconversion"

# Zephyr's own functions, as far as the module calls them.
_ZEPHYR = """cmake_minimum_required(VERSION 3.13)
project(application C)
macro(zephyr_library_named name)
  set(ZEPHYR_CURRENT_LIBRARY ${name})
  add_library(${name} STATIC)
endmacro()
function(zephyr_library_sources)
  target_sources(${ZEPHYR_CURRENT_LIBRARY} PRIVATE ${ARGN})
endfunction()
function(zephyr_library_compile_definitions)
  target_compile_definitions(${ZEPHYR_CURRENT_LIBRARY} PRIVATE ${ARGN})
endfunction()
function(zephyr_include_directories)
  include_directories(${ARGN})
endfunction()
set(CMAKE_C_STANDARD 11)
add_subdirectory(${MODULE}/zephyr module)
"""

# Arduino's own names, as far as the sketch uses them.
_ARDUINO = """#pragma once
#include <stdint.h>
struct Console {
  void begin(long);
  void print(const char *);
  void print(unsigned long);
  void println(const char *);
};
extern Console Serial;
unsigned long micros();
void delay(unsigned long);
"""


def _cmake(source: Path, build: Path, core: str, *options: str) -> None:
    flags = [f"-DCMAKE_C_FLAGS={WARNINGS}"]
    if core != "generic":
        flags = [
            "-DCMAKE_SYSTEM_NAME=Generic",
            f"-DCMAKE_C_COMPILER={qemu.COMPILER}",
            "-DCMAKE_TRY_COMPILE_TARGET_TYPE=STATIC_LIBRARY",
            f"-DCMAKE_C_FLAGS=-mthumb -ffreestanding {' '.join(MACHINES[core].flags)} {WARNINGS}",
        ]
    for command in (
        ["cmake", "-S", str(source), "-B", str(build), *flags, *options],
        ["cmake", "--build", str(build)],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    assert list(build.rglob("libdigits.a"))


@needs_cmake
@pytest.mark.parametrize("core", ["generic", "m4"])
def test_cmake_and_zephyr_build_it(tmp_path: Path, core: str) -> None:
    if core != "generic" and qemu.missing_tools():
        pytest.skip(qemu.missing_tools())
    folder = tmp_path / "digits"
    to_c(nets.mobilenet(), folder, core=core, name="digits")
    _cmake(folder, tmp_path / "plain", core)
    application = tmp_path / "application"
    application.mkdir()
    (application / "CMakeLists.txt").write_text(_ZEPHYR)
    assert "cmake: zephyr" in (folder / "zephyr" / "module.yml").read_text()
    _cmake(application, tmp_path / "module", core, f"-DMODULE={folder}")


@pytest.mark.skipif(not shutil.which("g++"), reason="needs g++: apt-get install g++")
def test_the_sketch_is_cplusplus(tmp_path: Path) -> None:
    folder = tmp_path / "digits"
    to_c(nets.mobilenet(), folder, name="digits")
    assert "includes=digits.h" in (folder / "library.properties").read_text()
    (tmp_path / "Arduino.h").write_text(_ARDUINO)
    sketch = folder / "examples" / "digits_hello" / "digits_hello.ino"
    command = ["g++", "-std=gnu++11", "-Wall", "-Wextra", "-Werror", "-fsyntax-only"]
    command += ["-include", str(tmp_path / "Arduino.h"), f"-I{folder}", "-x", "c++", str(sketch)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_net_for_another_core_does_not_compile(tmp_path: Path) -> None:
    """Activations are stored differently: silence would mean wrong outputs."""
    to_c(nets.mobilenet(), tmp_path, core="m4")
    command = ["gcc", "-std=c11", "-fsyntax-only", str(tmp_path / "model.c")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert "this net was exported for m4" in done.stderr


@pytest.mark.skipif(bool(qemu.missing_tools()), reason=qemu.missing_tools() or "-")
@pytest.mark.parametrize("cpu", ["m0", "m23", "m4", "m33+nodsp", "m55"])
def test_generic_needs_no_flag(tmp_path: Path, cpu: str) -> None:
    to_c(nets.lenet5(), tmp_path)
    for source in tmp_path.glob("*.c"):
        flags = [f"-mcpu=cortex-{cpu}", "-mthumb", "-O2", "-std=c11", "-ffreestanding"]
        command = [qemu.COMPILER, *flags, *WARNINGS.split(), "-c", str(source), "-o", "/dev/null"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("name", ["layout", "planar", "stdint", "all", "walk"])
def test_names_that_would_hide_a_file_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=f"take {name}_net"):
        to_c(nets.lenet5(), tmp_path, name=name)
