"""Where a page comes from."""

from __future__ import annotations

import platform
import shlex
import sys
from importlib import metadata
from pathlib import Path

from ec2t_tf import __version__
from ec2t_tf.tables import Table

from .document import Section, Text


def made_by() -> Section:
    """Versions, and the command that made the page."""
    rows = [("ec2t_tf", __version__), ("Python", platform.python_version())]
    for package in ("numpy", "ai-edge-litert", "keras", "tensorflow", "jax", "torch"):
        try:
            rows.append((package, metadata.version(package)))
        except metadata.PackageNotFoundError:
            continue
    command = Text(shlex.join([*program(), *sys.argv[1:]]), preformatted=True)
    return Section("How this page was made", [command, Table(("package", "version"), rows)])


def program() -> list[str]:
    """The first words of the command that runs: "ec2t", or "python -m" and a module."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    if spec is None or spec.name == "__main__":
        return [Path(sys.argv[0]).name]
    return ["python", "-m", spec.name.removesuffix(".__main__")]
