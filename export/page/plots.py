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
    with drawing(8, 0.9 + 0.28 * len(names)) as figure:
        axis = figure.subplots()
        left = [0.0] * len(names)
        for (part, values), colour in zip(parts.items(), CYCLE, strict=False):
            axis.barh(range(len(names)), values, left=left, color=colour, label=part, height=0.7)
            left = [a + b for a, b in zip(left, values, strict=True)]
        _name_rows(axis, names, label)
        axis.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=len(parts))
        return svg(figure)


def bars(names: Sequence[str], values: Sequence[float], label: str, limit: float | None) -> str:
    """A bar a name."""
    with drawing(8, 0.6 + 0.28 * len(names)) as figure:
        axis = figure.subplots()
        axis.barh(range(len(names)), values, color=BLUE, height=0.7)
        if limit is not None:
            axis.set_xlim(0, limit)
        _name_rows(axis, names, label)
        return svg(figure)


def _name_rows(axis: Any, names: Sequence[str], label: str) -> None:
    axis.set_yticks(range(len(names)), names)
    axis.invert_yaxis()
    axis.grid(axis="y", visible=False)
    axis.set_xlabel(label)
