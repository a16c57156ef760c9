"""Compile the C library with the system's compiler.

    python -m ec2t_tf.export.kernels.build --output libec2t_kernels.so

`setup.py` and the other rooms of export/ take `sources`, `INCLUDE` and `COMPILE_FLAGS` from here,
so that what is compiled is said once. Standard library only: this module is loaded before anything
is installed.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

ROOM = Path(__file__).resolve().parent
INCLUDE = ROOM / "include"
STRICT_FLAGS = ("-Wall", "-Wextra", "-Werror", "-Wconversion", "-Wshadow")
ARCHITECTURE_ROOMS = {"x86_64": "x86", "aarch64": "arm64"}


def flags_in(file: Path) -> tuple[str, ...]:
    """A file of flags, one a line; CMake reads it too."""
    return tuple(line for line in file.read_text().splitlines() if line.startswith("-"))


COMPILE_FLAGS = flags_in(ROOM / "flags.txt")


class CompilerMissing(RuntimeError):
    """No C compiler of that name is installed."""


class CompileError(RuntimeError):
    """The compiler refused; its output is the message."""


@dataclasses.dataclass(frozen=True)
class Target:
    """A machine to compile for.

    Attributes:
        architecture: "x86_64", "aarch64", or anything else for the portable kernels alone.
        compiler: the command, with options that belong to it.
        runner: the command in front of a program on this machine; empty if it runs by itself.
    """

    architecture: str
    compiler: tuple[str, ...]
    runner: tuple[str, ...] = ()

    def missing_tools(self) -> list[str]:
        """The commands this target needs that are not installed."""
        commands = [self.compiler[0], *self.runner[:1]]
        return [command for command in commands if shutil.which(command) is None]


def host_target() -> Target:
    """This machine, with the compiler in the environment variable CC or `cc`."""
    machine = {"AMD64": "x86_64", "arm64": "aarch64"}.get(platform.machine(), platform.machine())
    return Target(machine, tuple(shlex.split(os.environ.get("CC", "cc"))))


AARCH64_QEMU = Target("aarch64", ("aarch64-linux-gnu-gcc", "-static"), ("qemu-aarch64",))


def sources(architecture: str) -> list[Path]:
    """The C files of the library for one architecture, in a fixed order."""
    rooms = ["portable", "ref"]
    if architecture in ARCHITECTURE_ROOMS:
        rooms.append(ARCHITECTURE_ROOMS[architecture])
    return sorted(file for room in rooms for file in (ROOM / room).glob("*.c"))


def headers() -> list[Path]:
    """The headers of the library, public and private."""
    return sorted(ROOM.glob("*/*.h"))


def _run(command: Sequence[str]) -> None:
    if shutil.which(command[0]) is None:
        raise CompilerMissing(
            f"a C compiler is needed. Received: {command[0]!r}, which is not installed. "
            "Install one (Debian, Ubuntu: `apt-get install gcc`) or name yours in the environment "
            "variable CC."
        )
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CompileError(f"{shlex.join(command)}\n{done.stderr}")


def build(
    output: Path,
    *,
    target: Target | None = None,
    extra_sources: Iterable[Path] = (),
    flags: Sequence[str] = (),
    shared: bool = False,
) -> Path:
    """Compile the library, with `extra_sources`, into one program or shared library.

    Args:
        output: the file to write.
        target: the machine; this one by default.
        extra_sources: C files to compile along, for instance one with `main`.
        flags: more compiler flags, after `COMPILE_FLAGS`.
        shared: a shared library instead of a program.

    Raises:
        CompilerMissing: if the compiler is not installed.
        CompileError: if it reports an error.
    """
    target = target or host_target()
    output.parent.mkdir(parents=True, exist_ok=True)
    # Beside the output, then renamed: two builds at once do not disturb each other.
    with tempfile.TemporaryDirectory(dir=output.parent) as folder:
        temporary = Path(folder) / output.name
        _run(
            [
                *target.compiler,
                *COMPILE_FLAGS,
                *(("-shared", "-fPIC") if shared else ()),
                *flags,
                f"-I{INCLUDE}",
                *map(str, sources(target.architecture)),
                *map(str, extra_sources),
                "-o",
                str(temporary),
            ]
        )
        os.replace(temporary, output)
    return output


def build_cached(
    name: str,
    folder: Path,
    *,
    target: Target | None = None,
    extra_sources: Sequence[Path] = (),
    flags: Sequence[str] = (),
    shared: bool = False,
) -> Path:
    """`build` into `folder`, once for each state of the sources, flags and compiler command."""
    target = target or host_target()
    digest = hashlib.sha256(repr((target, flags, shared)).encode())
    for file in (*sources(target.architecture), *headers(), *extra_sources):
        digest.update(file.read_bytes())
    output = folder / f"{name}-{digest.hexdigest()[:16]}"
    if not output.exists():
        build(output, target=target, extra_sources=extra_sources, flags=flags, shared=shared)
    return output


def compile_shared(source: Path, folder: Path) -> Path:
    """One C file, without the library, as a shared library of this machine."""
    digest = hashlib.sha256(source.read_bytes()).hexdigest()[:16]
    output = folder / f"{source.stem}-{digest}.so"
    folder.mkdir(parents=True, exist_ok=True)
    if not output.exists():
        _run(
            [
                *host_target().compiler,
                *COMPILE_FLAGS,
                *STRICT_FLAGS,
                "-shared",
                "-fPIC",
                str(source),
                "-o",
                str(output),
            ]
        )
    return output


def main() -> None:
    parser = argparse.ArgumentParser(description="Compile the EC2T kernel library.")
    parser.add_argument("--output", type=Path, required=True, help="shared library to write")
    parser.add_argument("--strict", action="store_true", help="treat warnings as errors")
    arguments = parser.parse_args()
    flags = STRICT_FLAGS if arguments.strict else ()
    print(build(arguments.output, flags=flags, shared=True))


if __name__ == "__main__":
    main()
