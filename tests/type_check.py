"""mypy over the package as it is installed: `train/` and `export/` are rooms of `ec2t_tf`.

    python -m tests.type_check

From the checkout's folders mypy would call them `train` and `export`, find no `ec2t_tf.export`, and
take all that comes from there for `Any`. So it gets a folder of links in the installed layout.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def run(arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """mypy with `arguments`, in a folder that holds the package."""
    with tempfile.TemporaryDirectory() as scratch:
        package = Path(scratch, "ec2t_tf")
        package.mkdir()
        for source in [*ROOT.joinpath("ec2t_tf").iterdir(), ROOT / "train", ROOT / "export"]:
            package.joinpath(source.name).symlink_to(source)
        options = ["--config-file", str(ROOT / "pyproject.toml")]
        options += ["--cache-dir", str(ROOT / ".mypy_cache" / "rooms")]
        return subprocess.run(
            [sys.executable, "-m", "mypy", *options, *arguments],
            cwd=scratch,
            capture_output=True,
            text=True,
        )


def main() -> int:
    done = run(["-p", "ec2t_tf"])
    for room in ("train", "export"):
        done.stdout = done.stdout.replace(f"ec2t_tf/{room}/", f"{room}/")
    print(done.stdout, end="")
    print(done.stderr, end="", file=sys.stderr)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
