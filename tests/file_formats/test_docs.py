"""docs/formats.md shows the registry: `python -m tests.file_formats.test_docs` writes it anew."""

from __future__ import annotations

import re
from pathlib import Path

from ec2t_tf.export.file_formats import FORMATS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "formats.md"
_MARK = re.compile(r"(<!-- formats -->\n).*?(<!-- end of formats -->)", re.S)


def table() -> str:
    lines = ["| format | file | runs in | same bits | what it is |", "|---|---|---|---|---|"]
    for form in FORMATS.values():
        runtimes = ", ".join(form.runtimes) or "nothing: `unpack` it first"
        exact = "yes" if form.exact else "no"
        lines.append(f"| `{form.name}` | {form.suffix} | {runtimes} | {exact} | {form.summary} |")
    return "\n".join(lines) + "\n"


def filled(page: str) -> str:
    page, count = _MARK.subn(lambda found: found[1] + table() + found[2], page)
    assert count == 1, "docs/formats.md must have its marks once"
    return page


def test_page_shows_the_registry() -> None:
    page = PAGE.read_text()
    assert filled(page) == page


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text()))
