"""Pictures by matplotlib: SVG whose colours are the page's, in light and in dark, or PNG."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ec2t_tf import files, lazy

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclasses.dataclass(frozen=True)
class Palette:
    """Colours as matplotlib takes them."""

    text: str
    blue: str
    orange: str
    green: str
    grey: str
    line: str
    back: str


PAGE = Palette("#010203", "#010204", "#010205", "#010206", "#010207", "#010208", "none")
"""Stand for the page's colours, in light and in dark; `svg` puts those in their place."""
PAPER = Palette("#1f2937", "#2563a8", "#c2610c", "#2f855a", "#9ca3af", "#e5e7eb", "#ffffff")
"""Of pictures that lie beside a page."""
COLOURS = {
    PAGE.text: "currentColor",
    PAGE.blue: "var(--blue)",
    PAGE.orange: "var(--orange)",
    PAGE.green: "var(--green)",
    PAGE.grey: "var(--grey)",
    PAGE.line: "var(--line)",
}
TEXT, BLUE, ORANGE, GREEN, GREY, LINE = COLOURS
CYCLE = (BLUE, ORANGE, GREEN, GREY)
WIDTH = 5.6  # inches: two stand side by side, and a telephone shows one large enough to read


def _style(palette: Palette) -> Any:
    return {
        "svg.fonttype": "none",  # text stays text: it can be read, searched, has the page's font
        "svg.hashsalt": "ec2t_tf",
        "font.family": "sans-serif",
        "font.size": 9,
        "axes.titlesize": 10,
        "text.color": palette.text,
        "axes.labelcolor": palette.text,
        "axes.edgecolor": palette.line,
        "axes.grid": True,
        "axes.axisbelow": True,
        "grid.color": palette.line,
        "xtick.color": palette.text,
        "ytick.color": palette.text,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.facecolor": palette.back,
        "figure.facecolor": palette.back,
        "savefig.facecolor": palette.back,
        "legend.frameon": False,
        "legend.fontsize": 8,
    }


@contextlib.contextmanager
def drawing(width: float, height: float, palette: Palette = PAGE) -> Iterator[Figure]:
    """A figure of inches in the page's style.

    Raises:
      ImportError: matplotlib is missing; the message says how to get it.
    """
    with lazy.needed_by("the HTML report"):
        import matplotlib
        from matplotlib.figure import Figure
    with matplotlib.rc_context(_style(palette)):
        yield Figure(figsize=(width, height), layout="constrained")


def png(figure: Figure, path: str | os.PathLike) -> None:
    """The picture as a file."""
    with files.replacing(path) as fresh:
        figure.savefig(fresh, dpi=150)


def svg(figure: Figure) -> str:
    """The picture as an `<svg>` element to put into a page."""
    stream = io.StringIO()
    figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    for told, meant in COLOURS.items():
        text = text.replace(told, meant)
    # Two pictures of a page must not share the names of their parts.
    salt = f"f{abs(hash(text)):x}"
    text = re.sub(r'\bid="([^"]+)"', rf'id="{salt}\1"', text)
    text = re.sub(r"url\(#([^)]+)\)", rf"url(#{salt}\1)", text)
    text = re.sub(r'href="#([^"]+)"', rf'href="#{salt}\1"', text)
    return re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)


def stacked(names: Sequence[str], parts: Mapping[str, Sequence[float]], label: str) -> str:
    """A bar a name, made of parts side by side."""
    with drawing(WIDTH, 0.9 + 0.24 * len(names)) as figure:
        axis = figure.subplots()
        left = [0.0] * len(names)
        for (part, values), colour in zip(parts.items(), CYCLE, strict=False):
            axis.barh(range(len(names)), values, left=left, color=colour, label=part, height=0.7)
            left = [a + b for a, b in zip(left, values, strict=True)]
        _name_rows(axis, names, label)
        axis.xaxis.set_major_formatter("{x:,.0f}")
        axis.legend(loc="lower center", bbox_to_anchor=(0.4, 1.0), ncols=len(parts))
        return svg(figure)


def bars(names: Sequence[str], values: Sequence[float], label: str, limit: float | None) -> str:
    """A bar a name."""
    with drawing(WIDTH, 0.6 + 0.24 * len(names)) as figure:
        axis = figure.subplots()
        axis.barh(range(len(names)), values, color=BLUE, height=0.7)
        if limit is not None:
            axis.set_xlim(0, limit)
        _name_rows(axis, names, label)
        return svg(figure)


def scatter(points: Sequence[tuple[str, float, float]], x: str, y: str) -> str:
    """A named point for each (name, x, y)."""
    with drawing(WIDTH, 3.6) as figure:
        axis = figure.subplots()
        axis.plot([p[1] for p in points], [p[2] for p in points], "o", color=BLUE, markersize=6)
        ordered = sorted(points, key=lambda point: point[1])
        for place, (name, left, up) in enumerate(ordered):
            above = place % 2 == 0  # neighbours do not write over each other
            axis.annotate(
                name,
                (left, up),
                (0, 7 if above else -7),
                textcoords="offset points",
                ha="center",
                va="bottom" if above else "top",
            )
        axis.margins(0.12, 0.2)
        axis.set_xlabel(x)
        axis.set_ylabel(y)
        axis.xaxis.set_major_formatter("{x:,.0f}")
        return svg(figure)


def lines(curves: Mapping[str, Sequence[float]], x: str, y: str) -> str:
    """A line a name, from 1 on."""
    with drawing(WIDTH, 3.2) as figure:
        axis = figure.subplots()
        for (name, values), colour in zip(curves.items(), CYCLE, strict=False):
            axis.plot(range(1, len(values) + 1), values, color=colour, label=name)
        whole_numbers(axis)
        axis.set_xlabel(x)
        axis.set_ylabel(y)
        axis.legend(loc="lower right")
        return svg(figure)


def whole_numbers(axis: Any) -> None:
    """Epochs are no fractions."""
    from matplotlib.ticker import MaxNLocator

    axis.xaxis.set_major_locator(MaxNLocator(integer=True))


def _name_rows(axis: Any, names: Sequence[str], label: str) -> None:
    axis.set_yticks(range(len(names)), names)
    axis.invert_yaxis()
    axis.grid(axis="y", visible=False)
    axis.set_xlabel(label)
