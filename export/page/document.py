"""Headings, text, tables and pictures as one HTML document that loads nothing."""

from __future__ import annotations

import dataclasses
import html as escaping
from collections.abc import Sequence
from importlib import resources


@dataclasses.dataclass(frozen=True)
class Text:
    """A paragraph, or `preformatted` lines."""

    text: str
    preformatted: bool = False


@dataclasses.dataclass(frozen=True)
class Figure:
    """A picture as SVG (see `plots.svg`) and what it shows, for those who cannot see it too."""

    svg: str
    caption: str


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows under a head; a click on a head sorts.

    Numbers are sorted as numbers and stand on the right: give them as numbers, with `formats` by
    column ("{:,}", "{:.1%}"). None is an empty cell.
    """

    head: Sequence[str]
    rows: Sequence[Sequence[str | int | float | None]]
    formats: Sequence[str] = ()
    caption: str = ""


@dataclasses.dataclass(frozen=True)
class Section:
    """A heading and what stands below it."""

    title: str
    parts: Sequence[Text | Figure | Table]


@dataclasses.dataclass(frozen=True)
class Headline:
    """A figure that is seen first: "96,312 bytes", "on disk"."""

    value: str
    label: str


def html(title: str, sections: Sequence[Section], headlines: Sequence[Headline] = ()) -> str:
    """The whole document."""
    here = resources.files(__package__)
    style = here.joinpath("page.css").read_text(encoding="utf-8")
    script = here.joinpath("page.js").read_text(encoding="utf-8")
    cards = "".join(
        f"<div class=card><b>{_text(one.value)}</b><span>{_text(one.label)}</span></div>"
        for one in headlines
    )
    body = "".join(_section(section) for section in sections)
    return (
        "<!doctype html>\n<html lang=en><head><meta charset=utf-8>"
        '<meta name=viewport content="width=device-width, initial-scale=1">'
        "<meta http-equiv=Content-Security-Policy content=\"default-src 'none'; "
        "img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'\">"
        '<link rel=icon href="data:,">'
        f"<title>{_text(title)}</title><style>{style}</style></head>\n"
        f"<body><main><h1>{_text(title)}</h1><div class=cards>{cards}</div>\n{body}</main>"
        f"<script>{script}</script></body></html>\n"
    )


def _text(text: str) -> str:
    return escaping.escape(text)


def _section(section: Section) -> str:
    return (
        f"<section><h2>{_text(section.title)}</h2>"
        + "".join(_part(part) for part in section.parts)
        + "</section>\n"
    )


def _part(part: Text | Figure | Table) -> str:
    if isinstance(part, Text):
        tag = "pre" if part.preformatted else "p"
        return f"<{tag}>{_text(part.text)}</{tag}>"
    if isinstance(part, Figure):
        return f"<figure>{part.svg}<figcaption>{_text(part.caption)}</figcaption></figure>"
    return _table(part)


def _table(table: Table) -> str:
    formats = [*table.formats, *[""] * (len(table.head) - len(table.formats))]
    numbers = [
        any(isinstance(row[column], int | float) for row in table.rows)
        for column in range(len(table.head))
    ]
    head = "".join(
        f"<th scope=col aria-sort=none{' class=n' * number}><button>{_text(name)}</button></th>"
        for name, number in zip(table.head, numbers, strict=True)
    )
    rows = []
    for row in table.rows:
        cells = []
        for value, form in zip(row, formats, strict=True):
            if isinstance(value, str) or value is None:
                cells.append(f"<td>{_text(value or '')}</td>")
            else:
                cells.append(f'<td class=n data-v="{value!r}">{(form or "{}").format(value)}</td>')
        rows.append(f"<tr>{''.join(cells)}</tr>")
    caption = f"<caption>{_text(table.caption)}</caption>" if table.caption else ""
    return (
        f"<div class=scroll><table>{caption}<thead><tr>{head}</tr></thead>"
        f"<tbody>{''.join(rows)}</tbody></table></div>"
    )
