"""Headings, text, tables and pictures as one HTML document that loads nothing."""

from __future__ import annotations

import dataclasses
import html as escaping
import itertools
from collections.abc import Sequence
from importlib import resources
from typing import Any

from ec2t_tf.tables import Cell, Table

LONG = 48  # characters of a cell that wraps


@dataclasses.dataclass(frozen=True)
class Text:
    """A paragraph, or `preformatted` lines."""

    text: str
    preformatted: bool = False


@dataclasses.dataclass(frozen=True)
class Figure:
    """A picture as SVG (see `plots.svg`) and what it shows, for those who cannot see it too.

    Two stand side by side where there is room, but `wide` ones.
    """

    svg: str
    caption: str
    wide: bool = False


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


def tables(sections: Sequence[Section]) -> list[dict[str, Any]]:
    """All tables of a page in JSON's types, under the titles of their sections."""
    return [
        {
            "section": section.title,
            "caption": part.caption,
            "head": list(part.head),
            "rows": [list(row) for row in part.rows],
            "total": list(part.total),
        }
        for section in sections
        for part in section.parts
        if isinstance(part, Table)
    ]


def html(
    title: str,
    sections: Sequence[Section],
    headlines: Sequence[Headline] = (),
    *,
    subtitle: str = "",
) -> str:
    """The whole document."""
    here = resources.files(__package__)
    style = here.joinpath("page.css").read_text(encoding="utf-8")
    script = here.joinpath("page.js").read_text(encoding="utf-8")
    cards = "".join(
        f"<div class=card><b>{_text(one.value)}</b><span>{_text(one.label)}</span></div>"
        for one in headlines
    )
    below = f"<p class=sub>{_text(subtitle)}</p>" if subtitle else ""
    links = "".join(
        f'<a href="#part{number}">{_text(section.title)}</a>'
        for number, section in enumerate(sections)
    )
    nav = f"<nav>{links}</nav>" if len(sections) > 2 else ""
    body = "".join(_section(section, number) for number, section in enumerate(sections))
    return (
        "<!doctype html>\n<html lang=en><head><meta charset=utf-8>"
        '<meta name=viewport content="width=device-width, initial-scale=1">'
        "<meta http-equiv=Content-Security-Policy content=\"default-src 'none'; "
        "img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'\">"
        '<link rel=icon href="data:,">'
        f"<title>{_text(title)}</title><style>{style}</style></head>\n"
        f"<body><main><h1>{_text(title)}</h1>{below}<div class=cards>{cards}</div>{nav}\n"
        f"{body}</main><script>{script}</script></body></html>\n"
    )


def _text(text: str) -> str:
    return escaping.escape(text)


def _section(section: Section, number: int) -> str:
    parts = []
    for is_figure, group in itertools.groupby(section.parts, lambda p: isinstance(p, Figure)):
        found = "".join(map(_part, group))
        parts.append(f"<div class=figures>{found}</div>" if is_figure else found)
    return f"<section id=part{number}><h2>{_text(section.title)}</h2>{''.join(parts)}</section>\n"


def _part(part: Text | Figure | Table) -> str:
    if isinstance(part, Text):
        tag = "pre" if part.preformatted else "p"
        return f"<{tag}>{_text(part.text)}</{tag}>"
    if isinstance(part, Figure):
        wide = " class=wide" if part.wide else ""
        caption = f"<figcaption>{_text(part.caption)}</figcaption>"
        return f"<figure{wide}><div>{part.svg}</div>{caption}</figure>"
    return _table(part)


def _table(table: Table) -> str:
    head = "".join(
        f"<th scope=col aria-sort=none{' class=n' * number}><button>{_text(name)}</button></th>"
        for name, number in zip(table.head, table.is_number, strict=True)
    )
    body = "".join(_row(table, row) for row in table.rows)
    foot = f"<tfoot>{_row(table, table.total)}</tfoot>" if table.total else ""
    # Not a <caption>: that is as wide as the table, and scrolls with it.
    caption = f"<p class=caption>{_text(table.caption)}</p>" if table.caption else ""
    label = f' role=region aria-label="{_text(table.caption)}"' if table.caption else ""
    return (
        f"{caption}<div class=scroll tabindex=0{label}><table><thead><tr>{head}</tr></thead>"
        f"<tbody>{body}</tbody>{foot}</table></div>"
    )


def _row(table: Table, row: Sequence[Cell]) -> str:
    cells = []
    for column, value in enumerate(row):
        shown = _text(table.form(column, value))
        number = isinstance(value, int | float)
        words = f"<td{' class=long' * (len(shown) > LONG)}>{shown}</td>"
        cells.append(f'<td class=n data-v="{value!r}">{shown}</td>' if number else words)
    return f"<tr>{''.join(cells)}</tr>"
