"""The native library of the runtime: where it is, and how it is built.

Standard library only: `setup.py` loads this module before anything is installed.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

ROOM = Path(__file__).resolve().parent
NAME = "libec2t_litert.dylib" if sys.platform == "darwin" else "libec2t_litert.so"
VARIABLE = "EC2T_LITERT_LIBRARY"
LIBRARIES = ("-lm",)


def _kernels() -> ModuleType:
    """`export/kernels/build.py`, from its file: setup.py has no package to import it from."""
    file = ROOM.parent / "kernels" / "build.py"
    spec = importlib.util.spec_from_file_location("ec2t_kernels_build", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def sources() -> list[Path]:
    """The C files of the delegate itself; the kernels' come on top."""
    return sorted(ROOM.glob("*.c"))


def build(output: Path, *, target: Any = None, flags: Sequence[str] = ()) -> Path:
    """Compile the delegate with the kernels into the shared library `output`.

    Args:
        output: the file to write.
        target: a `Target` of export/kernels/build.py; this machine by default.
        flags: more compiler flags.

    Raises:
        CompilerMissing, CompileError: see export/kernels/build.py.
    """
    kernels = _kernels()
    own = (*kernels.flags_in(ROOM / "flags.txt"), f"-I{ROOM}")
    return kernels.build(
        output,
        target=target,
        extra_sources=sources(),
        flags=(*own, *flags, *LIBRARIES),
        shared=True,
    )


def path() -> Path:
    """The native library: the one the environment variable names, or the installed one.

    Raises:
        FileNotFoundError: it was not built.
    """
    named = os.environ.get(VARIABLE)
    file = Path(named) if named else ROOM / NAME
    if not file.is_file():
        raise FileNotFoundError(
            f"the native library of the EC2T runtime is needed. Received: no file {file}. "
            "It is built when the package is installed: install a C compiler (Debian, Ubuntu: "
            "`apt-get install gcc`) and run `pip install --force-reinstall --no-deps ec2t_tf` "
            f"(in a checkout: `pip install -e .`), or set {VARIABLE} to a library built elsewhere"
        )
    return file
