"""A generated folder in the build systems it is dropped into, against small stand-ins of these."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ec2t_tf.export import tflite
from ec2t_tf.export.graph import Graph
from ec2t_tf.export.mcu import to_c
from ec2t_tf.export.mcu.machines import MACHINES, SOURCES
from tests import nets
from tests.bench import qemu
from tests.integer.operators import CASES


def embedding_net() -> bytes:
    """Five places of a table of 9 rows."""
    graph = Graph()
    places = graph.add("places", (1, 5), "int32")
    values = np.arange(36, dtype=np.int8).reshape(9, 4)
    table = graph.add("table", (9, 4), "int8", scale=0.1, zero_point=0, data=values)
    rows = graph.add("rows", (1, 5, 4), "int8", scale=0.1, zero_point=0)
    graph.call("GATHER", (table, places), rows, axis=0, batch_dims=0)
    graph.inputs, graph.outputs = (places,), (rows,)
    return tflite.write(graph)


def svdf_net() -> bytes:
    return tflite.write(CASES["SVDF"](np.random.default_rng(0)))


needs_cmake = pytest.mark.skipif(not shutil.which("cmake"), reason="needs cmake: apt-get install")
WARNINGS = "-Wall -Wextra -Werror -Wconversion"

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
function(zephyr_library_compile_options)
  target_compile_options(${ZEPHYR_CURRENT_LIBRARY} PRIVATE ${ARGN})
endfunction()
function(zephyr_include_directories)
  include_directories(${ARGN})
endfunction()
set(CMAKE_C_STANDARD 11)
add_subdirectory(${MODULE}/zephyr module)
"""

# ESP-IDF's, which includes components in its own project.
_ESP = """cmake_minimum_required(VERSION 3.13)
project(application C)
set(ESP_PLATFORM 1)
set(CMAKE_C_STANDARD 11)
function(idf_component_register)
  cmake_parse_arguments(ARG "" "" "SRCS;INCLUDE_DIRS" ${ARGN})
  set(COMPONENT_LIB digits PARENT_SCOPE)
  add_library(digits STATIC ${ARG_SRCS})
  target_include_directories(digits PUBLIC ${ARG_INCLUDE_DIRS})
endfunction()
add_subdirectory(${COMPONENT} component)
"""

# The Pico SDK: a program that links pico_stdlib, whose start-up code calls main.
_PICO = """cmake_minimum_required(VERSION 3.13)
project(application C)
set(CMAKE_C_STANDARD 11)
add_library(pico_stdlib INTERFACE)
target_sources(pico_stdlib INTERFACE ${SDK}/memory_functions.c)
target_link_options(pico_stdlib INTERFACE -nostdlib -Wl,--entry=main)
target_link_libraries(pico_stdlib INTERFACE gcc)
add_subdirectory(${NET} net)
add_executable(application main.c)
target_link_libraries(application pico_stdlib digits)
"""
_PICO_MAIN = """#include "digits.h"
static int8_t input[DIGITS_INPUT_SIZE], output[DIGITS_OUTPUT_SIZE];
static uint8_t arena[DIGITS_ARENA_SIZE] __attribute__((aligned(4)));
int main(void) { return digits_invoke(input, output, arena); }
"""
# The same SDK, as far as the documentation's program uses it.
_PICO_SDK = """macro(pico_sdk_init)
  add_library(pico_stdlib INTERFACE)
  target_sources(pico_stdlib INTERFACE ${CMAKE_SOURCE_DIR}/sdk/sdk.c ${SDK}/memory_functions.c)
  target_include_directories(pico_stdlib INTERFACE ${CMAKE_SOURCE_DIR}/sdk)
  target_link_options(pico_stdlib INTERFACE -nostdlib -Wl,--entry=main)
  target_link_libraries(pico_stdlib INTERFACE gcc)
endmacro()
function(pico_enable_stdio_usb target on)
endfunction()
function(pico_add_extra_outputs target)
endfunction()
"""
_PICO_HEADERS = {
    "pico/stdlib.h": """#pragma once
#include <stdint.h>
void stdio_init_all(void);
uint64_t time_us_64(void);
void sleep_ms(uint32_t milliseconds);
""",
    "stdio.h": "#pragma once\nint printf(const char *format, ...);\n",
}
_PICO_FUNCTIONS = """#include "pico/stdlib.h"
#include <stdio.h>
void stdio_init_all(void) {}
uint64_t time_us_64(void) { return 0; }
void sleep_ms(uint32_t milliseconds) { (void)milliseconds; }
int printf(const char *format, ...) { return format[0]; }
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


def _cmake(source: Path, build: Path, core: str, *options: str) -> str:
    """Configures and builds; returns what the compiler was called with."""
    flags = [f"-DCMAKE_C_FLAGS={WARNINGS}"]
    if core != "generic":
        machine = MACHINES[core]
        flags = [
            "-DCMAKE_SYSTEM_NAME=Generic",
            f"-DCMAKE_C_COMPILER={machine.compiler}",
            "-DCMAKE_TRY_COMPILE_TARGET_TYPE=STATIC_LIBRARY",
            f"-DCMAKE_C_FLAGS=-ffreestanding {' '.join(machine.all_flags)} {WARNINGS}",
        ]
    flags.append("-DCMAKE_EXPORT_COMPILE_COMMANDS=ON")
    for command in (
        ["cmake", "-S", str(source), "-B", str(build), *flags, *options],
        ["cmake", "--build", str(build)],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    assert list(build.rglob("lib*.a"))
    return (build / "compile_commands.json").read_text()


@needs_cmake
@pytest.mark.parametrize("core", ["generic", "m4"])
def test_cmake_and_zephyr_build_it(tmp_path: Path, core: str) -> None:
    if core != "generic" and qemu.missing_tools():
        pytest.skip(qemu.missing_tools())
    folder = tmp_path / "digits"
    to_c(nets.mobilenet(), folder, core=core, name="digits")
    for build in ("", "Debug"):  # a net that is not optimised is of no use
        calls = _cmake(folder, tmp_path / f"plain{build}", core, f"-DCMAKE_BUILD_TYPE={build}")
        assert all("-O2" in call for call in calls.splitlines() if '"command"' in call)
    application = tmp_path / "application"
    application.mkdir()
    (application / "CMakeLists.txt").write_text(_ZEPHYR)
    assert "cmake: zephyr" in (folder / "zephyr" / "module.yml").read_text()
    _cmake(application, tmp_path / "module", core, f"-DMODULE={folder}")


@needs_cmake
@pytest.mark.parametrize("core", ["generic", "rv32"])
def test_a_component_of_esp_idf(tmp_path: Path, core: str) -> None:
    if core != "generic" and qemu.missing_tools(core):
        pytest.skip(qemu.missing_tools(core))
    folder = tmp_path / "components" / "digits"
    to_c(nets.mobilenet(), folder, core=core, name="digits")
    (tmp_path / "CMakeLists.txt").write_text(_ESP)
    assert "-O2" in _cmake(tmp_path, tmp_path / "build", core, f"-DCOMPONENT={folder}")
    assert "version:" in (folder / "idf_component.yml").read_text()


@needs_cmake
@pytest.mark.parametrize("core", ["m0", "m33"])
def test_a_program_of_the_pico_sdk(tmp_path: Path, core: str) -> None:
    if qemu.missing_tools():
        pytest.skip(qemu.missing_tools())
    folder = tmp_path / "digits"
    to_c(nets.mobilenet(), folder, core=core, name="digits")
    (tmp_path / "CMakeLists.txt").write_text(_PICO)
    (tmp_path / "main.c").write_text(_PICO_MAIN)
    _cmake(tmp_path, tmp_path / "build", core, f"-DNET={folder}", f"-DSDK={SOURCES}")
    assert (tmp_path / "build" / "application").is_file()


@needs_cmake
def test_the_pico_program_of_the_documentation(tmp_path: Path) -> None:
    """docs/start_tflite.md's CMakeLists.txt and main.c, against stand-ins of the Pico SDK."""
    if qemu.missing_tools():
        pytest.skip(qemu.missing_tools())
    page = (Path(__file__).parents[2] / "docs" / "start_tflite.md").read_text()
    (build,) = re.findall(r"```cmake\n(.*?)```", page, re.DOTALL)
    (program,) = re.findall(r"```c\n(.*?)```", page, re.DOTALL)
    to_c(nets.mobilenet(), tmp_path / "model_c", board="pico")
    (tmp_path / "CMakeLists.txt").write_text(build)
    (tmp_path / "main.c").write_text(program)
    (tmp_path / "pico_sdk_import.cmake").write_text(_PICO_SDK)
    for name, text in _PICO_HEADERS.items():
        (tmp_path / "sdk" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "sdk" / name).write_text(text)
    (tmp_path / "sdk" / "sdk.c").write_text(_PICO_FUNCTIONS)
    _cmake(tmp_path, tmp_path / "build", "m0", f"-DSDK={SOURCES}")
    assert (tmp_path / "build" / "app").is_file()


def test_the_flags_of_the_readme_are_those_of_the_core(tmp_path: Path) -> None:
    to_c(nets.mobilenet(), tmp_path / "pico", board="pico")
    assert "`-mcpu=cortex-m0 -mthumb`" in (tmp_path / "pico" / "README.md").read_text()
    to_c(nets.mobilenet(), tmp_path / "any", core="generic")
    assert "-mcpu" not in (tmp_path / "any" / "README.md").read_text()


def test_a_library_of_platformio(tmp_path: Path) -> None:
    """What its library.json says, done."""
    to_c(nets.mobilenet(), tmp_path, core="m4", name="digits", example=True)
    about = json.loads((tmp_path / "library.json").read_text())
    assert (about["name"], about["headers"]) == ("digits", "digits.h")
    build = about["build"]
    root, chosen = tmp_path / build["srcDir"], set()
    for entry in build["srcFilter"]:
        found = {p for p in root.rglob("*.c") if p.match(entry[2:-1]) and p.parent == root}
        chosen = chosen | found if entry[0] == "+" else chosen - found
    assert chosen == set(tmp_path.glob("*.c"))
    if qemu.missing_tools():
        pytest.skip(qemu.missing_tools())
    for source in chosen:
        flags = [*MACHINES["m4"].all_flags, "-std=gnu11", *build["flags"], "-I", str(root)]
        _compiles(qemu.COMPILER, *flags, *WARNINGS.split(), str(source))


def _several_ends() -> bytes:
    net = nets.NetBuilder((1, 4, 4, 2), seed=5)
    other = net.tensor((1, 4, 4, 2), 0.02, 3)
    x = net.add(net.input, other)
    return net.finish(x, net.conv(x, 3), inputs=[other])


@pytest.mark.skipif(not shutil.which("g++"), reason="needs g++: apt-get install g++")
@pytest.mark.parametrize("make", [nets.mobilenet, _several_ends, embedding_net, svdf_net])
def test_the_sketch_is_cplusplus(tmp_path: Path, make: Callable[[], bytes]) -> None:
    folder = tmp_path / "digits"
    to_c(make(), folder, name="digits")
    assert "includes=digits.h" in (folder / "library.properties").read_text()
    (tmp_path / "Arduino.h").write_text(_ARDUINO)
    sketch = folder / "examples" / "digits_hello" / "digits_hello.ino"
    command = ["g++", "-std=gnu++11", "-Wall", "-Wextra", "-Werror", "-fsyntax-only"]
    command += ["-include", str(tmp_path / "Arduino.h"), f"-I{folder}", "-x", "c++", str(sketch)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("make", [_several_ends, embedding_net, svdf_net])
def test_the_example_of_every_interface(tmp_path: Path, make: Callable[[], bytes]) -> None:
    if qemu.missing_tools():
        pytest.skip(qemu.missing_tools())
    report = to_c(make(), tmp_path, core="m4", measure=True)
    assert report.instructions is not None
    assert report.instructions > 100


def _compiles(compiler: str, *arguments: str) -> None:
    command = [compiler, "-ffreestanding", "-c", "-o", "/dev/null", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(bool(qemu.missing_tools()), reason=qemu.missing_tools() or "-")
@pytest.mark.parametrize(
    ("core", "flags"),
    [
        ("m4", "-mcpu=cortex-m3"),
        ("m33", "-mcpu=cortex-m33+nodsp"),
        ("m55", "-mcpu=cortex-m4"),
        ("m55", "-mcpu=cortex-m55 -mfloat-abi=soft"),  # which turns vectors off
    ],
)
def test_a_net_for_another_core_does_not_compile(tmp_path: Path, core: str, flags: str) -> None:
    """Activations and tiles differ: silence would mean wrong outputs."""
    to_c(nets.mobilenet(), tmp_path, core=core)
    command = [qemu.COMPILER, "-mthumb", *flags.split(), "-std=c11", "-fsyntax-only"]
    command.append(str(tmp_path / "model.c"))
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert f"this net was exported for {core}" in done.stderr


@pytest.mark.skipif(bool(qemu.missing_tools()), reason=qemu.missing_tools() or "-")
@pytest.mark.parametrize(
    ("core", "flags"),
    [
        ("m55", "-mcpu=cortex-m55 -mfloat-abi=softfp"),
        ("m55", "-mcpu=cortex-m55+nofp -mfloat-abi=hard"),
        ("m33", "-mcpu=cortex-m55 -mfloat-abi=soft"),
        ("m55_nomve", "-mcpu=cortex-m55 -mfloat-abi=soft"),
        ("m33", "-mcpu=cortex-m55 -mfloat-abi=hard"),
        ("m4", "-mcpu=cortex-m33 -mfloat-abi=soft"),
    ],
)
def test_what_a_larger_core_or_another_abi_can_run(tmp_path: Path, core: str, flags: str) -> None:
    for number, model in enumerate((nets.mobilenet(), nets.resnet8())):
        to_c(model, tmp_path / str(number), core=core)
        for source in (tmp_path / str(number)).glob("*.c"):
            options = ["-mthumb", *flags.split(), "-O2", "-std=c11", *WARNINGS.split()]
            _compiles(qemu.COMPILER, *options, str(source))


@pytest.mark.skipif(bool(qemu.missing_tools()), reason=qemu.missing_tools() or "-")
@pytest.mark.parametrize("cpu", ["m0", "m23", "m4", "m33+nodsp", "m55"])
def test_generic_needs_no_flag(tmp_path: Path, cpu: str) -> None:
    to_c(nets.lenet5(), tmp_path)
    for source in tmp_path.glob("*.c"):
        options = [f"-mcpu=cortex-{cpu}", "-mthumb", "-O2", "-std=c11", *WARNINGS.split()]
        _compiles(qemu.COMPILER, *options, str(source))


@pytest.mark.parametrize(
    "name",
    [
        *("layout", "planar", "stdint", "all", "walk", "recurrent", "m", "app", "arduino"),
        "ec2t_mcu_planar",
    ],
)
def test_names_that_would_hide_a_file_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=f"take {name}_net"):
        to_c(nets.lenet5(), tmp_path, name=name)


@pytest.mark.parametrize(
    "name", ["int", "input", "output", "arena", "status", "layer_0", "channels_1", "e", "invoke"]
)
def test_other_names_are_no_trouble(tmp_path: Path, name: str) -> None:
    to_c(nets.lenet5(), tmp_path, name=name)
    for source in tmp_path.glob("*.c"):
        _compiles("gcc", "-std=c11", *WARNINGS.split(), str(source))
