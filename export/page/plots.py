"""Pictures by matplotlib, as SVG whose colours are the page's, in light and in dark."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ec2t_tf import lazy

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# What matplotlib is told -> what the page makes of it.
COLOURS = {
    "#010203": "currentColor",
    "#010204": "var(--blue)",
    "#010205": "var(--orange)",
    "#010206": "var(--green)",
    "#010207": "var(--grey)",
    "#010208": "var(--line)",
}
TEXT, BLUE, ORANGE, GREEN, GREY, LINE = COLOURS
CYCLE = (BLUE, ORANGE, GREEN, GREY)
_STYLE: Any = {
    "svg.fonttype": "none",  # text stays text: it can be read, searched and takes the page's font
    "svg.hashsalt": "ec2t_tf",
    "font.family": "sans-serif",
    "font.size": 9,
    "text.color": TEXT,
    "axes.labelcolor": TEXT,
    "axes.edgecolor": LINE,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": LINE,
    "xtick.color": TEXT,
    "ytick.color": TEXT,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "legend.frameon": False,
}
WIDTH = 5.6  # inches: two stand side by side, and a telephone shows one large enough to read


@contextlib.contextmanager
def drawing(width: float, height: float) -> Iterator[Figure]:
    """A figure of inches in the page's style.

    Raises:
      ImportError: matplotlib is missing; the message says how to get it.
    """
    with lazy.needed_by("the HTML report"):
        import matplotlib
        from matplotlib.figure import Figure
    with matplotlib.rc_context(_STYLE):
        yield Figure(figsize=(width, height), layout="constrained")


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
        axis.legend(loc="lower center", bbox_to_anchor=(0.4, 1.0), ncols=len(parts), fontsize=8)
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
