"""Parts of docs/ that are printed from the code: `make docs` writes them anew.

Between `<!-- NAME -->` and `<!-- end of NAME -->` of docs/NAME.md.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tests.pages import between

DOCS = Path(__file__).resolve().parents[1] / "docs"


def formats() -> str:
    """A row a file format of the registry."""
    from ec2t_tf.export.file_formats import FORMATS

    lines = ["| format | file | runs in | same bits | what it is |", "|---|---|---|---|---|"]
    for form in FORMATS.values():
        runtimes = ", ".join(form.runtimes) or "nothing: `unpack` it first"
        exact = "yes" if form.exact else "no"
        lines.append(f"| `{form.name}` | {form.suffix} | {runtimes} | {exact} | {form.summary} |")
    return "\n".join(lines)


def layers() -> str:
    """The layers that a file can hold, by the least bits of each."""
    from ec2t_tf import quiet

    quiet.load_keras()
    from ec2t_tf.export.lower.table import as_text

    return as_text()


PRINTED: dict[str, Callable[[], str]] = {"formats": formats, "layers": layers}


def filled(name: str, page: str) -> str:
    """The page with its printed part as it is today."""
    return between(page, name, PRINTED[name]())


if __name__ == "__main__":
    for name in PRINTED:
        path = DOCS / f"{name}.md"
        path.write_text(filled(name, path.read_text()))
