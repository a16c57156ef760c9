"""Pages of the site that are printed from the code when it is built: they cannot lie."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

COMMANDS = (
    "train sweep zoo convert rewrite report verify benchmark sizes summary supported boards unpack"
)


def help_of(*words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "ec2t_tf", *words, "--help"],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": "", "COLUMNS": "100"},
    )
    return done.stdout


def commands() -> str:
    parts = [f"```text\n{help_of()}```\n"]
    parts += [f"## ec2t {name}\n\n```text\n{help_of(name)}```\n" for name in COMMANDS.split()]
    return "\n".join(parts)


def supported() -> str:
    from ec2t_tf import quiet
    from ec2t_tf.export import supported as tables

    quiet.load_keras()
    return (
        f"## Operators\n\n```text\n{tables.legend()}\n```\n\n{tables.operators().markdown()}\n\n"
        f"## Layers\n\n{tables.layers().markdown()}\n"
    )


def example(match: re.Match[str]) -> str:
    text = Path(__file__).parents[1].joinpath("examples", match[1]).read_text()
    return f"```python\n{text}```"


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Called by mkdocs for each page."""
    for marker, printed in (("<!-- commands -->", commands), ("<!-- supported -->", supported)):
        if marker in markdown:
            markdown = markdown.replace(marker, printed())
    markdown = re.sub(r"\[([^]]+)\]\(\.\./examples/\w+\.py\)", r"\1", markdown)  # it is shown below
    return re.sub(r"<!-- example: (\w+\.py) -->", example, markdown)
