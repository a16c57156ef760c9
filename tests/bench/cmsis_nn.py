"""CMSIS-NN as a yardstick: its sources out of the installed pip package `bakenn`.

Only compiled at bench time; nothing of it is kept in this repository.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path


def root() -> Path | None:
    """The folder that holds `cmsis_nn/` and `cmsis_core/`, or None without `bakenn`."""
    spec = importlib.util.find_spec("bakenn")
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent / "backend" / "cmsis_nn" / "vendor"


def sources() -> list[Path]:
    """Every C file of the library."""
    found = root()
    if found is None:
        raise RuntimeError("the CMSIS-NN yardstick needs the package bakenn: pip install bakenn")
    return sorted((found / "cmsis_nn" / "Source").rglob("*.c"))


def include() -> list[Path]:
    """Its include folders."""
    found = root()
    assert found is not None
    return [found / "cmsis_nn" / "Include", found / "cmsis_core" / "Include"]
