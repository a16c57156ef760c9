"""What a run was made by and of: enough to repeat it."""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from ec2t_tf import __version__
from ec2t_tf.export.page.made_by import program

PACKAGES = ("numpy", "keras", "tensorflow", "jax", "torch", "tf_keras", "ai-edge-litert")
# Flags that name a file. That of --policy is kept whole.
FILES = ("float_weights", "teacher_weights", "ternary_start")


def record() -> dict[str, Any]:
    """The command line, the revision of the source, versions, backend, processor and threads."""
    import keras

    versions = {"ec2t_tf": __version__, "Python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    affinity = getattr(os, "sched_getaffinity", None)
    return {
        "command": shlex.join([*program(), *sys.argv[1:]]),
        "revision": revision(),
        "versions": versions,
        "backend": keras.backend.backend(),
        "machine": platform.machine(),
        "threads": len(affinity(0)) if affinity else os.cpu_count(),
    }


def differences(before: Mapping[str, Any]) -> list[str]:
    """What is not as it was: "threads: 1 then, 2 now". Any of it may change the weights of a run.

    Args:
      before: what `record` gave.
    """
    now = record()
    found = []
    for name in ("revision", "backend", "machine", "threads"):
        if name in before and before[name] != now[name]:
            found.append(f"{name}: {before[name]} then, {now[name]} now")
    versions = before.get("versions", {})
    for package in sorted(set(versions) & set(now["versions"])):
        if versions[package] != now["versions"][package]:
            found.append(f"{package}: {versions[package]} then, {now['versions'][package]} now")
    return found


def hashes(flags: Mapping[str, Any]) -> dict[str, str]:
    """SHA-256 of the files that these flags name, by flag; a file that is missing has none."""
    found = {}
    for name in FILES:
        if flags.get(name):
            path = Path(flags[name])
            path = path / "model.keras" if path.is_dir() else path
            if path.is_file():
                found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def revision() -> str:
    """Of the checkout that holds the package, or "unknown" for an installed one."""
    done = subprocess.run(
        ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"],
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or "unknown"
