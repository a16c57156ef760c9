"""What a sweep found: tables, Pareto plots as PNG, and both as one page."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ec2t_tf import files
from ec2t_tf.export.page import Figure, Section, html, plots
from ec2t_tf.export.page.made_by import made_by
from ec2t_tf.export.page.plots import Palette
from ec2t_tf.tables import Cell, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

Row = Mapping[str, str]
SIZE = (plots.WIDTH * 1.3, 4.0)  # inches; each is as wide as the page
MOST_NAMED = 12  # cells: of more only those of the front have their names
# Column -> what a plot calls it, its factor, whether more of it is better.
AXES = {
    "zeros": ("zeros in ternary layers, %", 100.0, True),
    "entropy_bytes": ("ternary weights at their entropy, kB", 1e-3, False),
}


@dataclasses.dataclass(frozen=True)
class Cells:
    """Runs that differ in nothing but the seed.

    Attributes:
      name: the knobs that tell it from the others.
      knobs: all of them.
      rows: of its runs.
    """

    name: str
    knobs: dict[str, str]
    rows: tuple[Row, ...]

    def values(self, column: str) -> list[float]:
        """A figure of all its runs."""
        return [float(row[column]) for row in self.rows]

    def mean(self, column: str) -> float:
        return statistics.fmean(self.values(column))

    def spread(self, column: str) -> float | None:
        """Sample standard deviation; None of one run."""
        values = self.values(column)
        return statistics.stdev(values) if len(values) > 1 else None


def varied(rows: Sequence[Row], key: Sequence[str]) -> list[str]:
    """The knobs that have more than one value, the seed not among them."""
    return [name for name in key if name != "seed" and len({row[name] for row in rows}) > 1]


def cells(rows: Iterable[Row], key: Sequence[str]) -> list[Cells]:
    """The runs by cell of the grid, in the order in which they were run."""
    rows = list(rows)
    knobs = varied(rows, key)
    groups: dict[tuple[str, ...], list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[name] for name in key if name != "seed"), []).append(row)
    found = []
    for group in groups.values():
        chosen = {name: group[0][name] for name in knobs if group[0][name] != "-"}
        name = ", ".join(f"{_short(knob)} {value}" for knob, value in chosen.items())
        every = {knob: group[0][knob] for knob in key if knob != "seed"}
        found.append(Cells(name or group[0]["method"], every, tuple(group)))
    return found


def _short(knob: str) -> str:
    shorter = {"target_sparsity": "target", "centroid_scale": "s", "entropy_gain": "gamma"}
    return "" if knob == "method" else shorter.get(knob, knob)


def pareto(points: Iterable[tuple[float, float]], *, larger: bool) -> list[tuple[float, float]]:
    """Points (x, accuracy) that no other beats in both; `larger` if a larger x is better."""
    best: list[tuple[float, float]] = []
    for x, accuracy in sorted(
        points, key=lambda point: (-point[0] if larger else point[0], -point[1])
    ):
        if not best or accuracy > best[-1][1]:
            best.append((x, accuracy))
    return best


def together(points: Mapping[str, tuple[float, float]]) -> dict[tuple[float, float], list[str]]:
    """Names by point; of points so near that their names would cover each other by the first."""
    spans = [(max(values) - min(values)) or 1.0 for values in zip(*points.values(), strict=True)]
    found: dict[tuple[float, float], list[str]] = {}
    for name, (x, y) in points.items():
        near = (
            place
            for place in found
            if abs(place[0] - x) < 0.06 * spans[0] and abs(place[1] - y) < 0.04 * spans[1]
        )
        found.setdefault(next(near, (x, y)), []).append(name)
    return found


def tables(rows: Iterable[Row], key: Sequence[str], *, figure: str = "top-1") -> list[Table]:
    """Every run; before it the mean and the spread of each cell where there are several seeds."""
    rows = list(rows)
    knobs = varied(rows, key) or ["method"]
    head = [*knobs, "seed", "float", "ternary", "zeros", "bytes at entropy", ".tflite"]
    formats = [*[""] * (len(knobs) + 1), "{:.2%}", "{:.2%}", "{:.2%}", "{:,.0f}", "{:,.0f}"]
    columns = ("float_accuracy", "ternary_accuracy", "zeros", "entropy_bytes", "tflite_bytes")
    runs: list[list[Cell]] = [
        [*(row[name] for name in knobs), row["seed"], *(float(row[name]) for name in columns)]
        for row in rows
    ]
    found = [Table(head, runs, formats, f"Every run; {figure} of the nets.")]
    groups = cells(rows, key)
    if len(groups) < len(rows):
        head = [*knobs, "seeds", "float", "ternary", "ternary +-", "zeros", "zeros +-"]
        head.append("bytes at entropy")
        formats = [*[""] * (len(knobs) + 1), *["{:.2%}"] * 5, "{:,.0f}"]
        means: list[list[Cell]] = [
            [
                *(one.knobs[name] for name in knobs),
                len(one.rows),
                *(one.mean("float_accuracy"), one.mean("ternary_accuracy")),
                *(one.spread("ternary_accuracy"), one.mean("zeros"), one.spread("zeros")),
                one.mean("entropy_bytes"),
            ]
            for one in groups
        ]
        caption = f"Mean {figure} over seeds; +- is the sample standard deviation over them."
        found.insert(0, Table(head, means, formats, caption))
    return found


def draw(
    canvas: Canvas, palette: Palette, groups: Sequence[Cells], column: str, *, figure: str
) -> None:
    """A point a cell, named, bars from its worst seed to its best; the Pareto front as a line."""
    label, factor, larger = AXES[column]
    axis = canvas.subplots()
    points = {
        one.name: (factor * one.mean(column), 100 * one.mean("ternary_accuracy")) for one in groups
    }
    front = pareto(points.values(), larger=larger)
    for one in groups:
        x, y = points[one.name]
        best = (x, y) in front
        colour = palette.blue if best else palette.grey
        accuracies = [100 * value for value in one.values("ternary_accuracy")]
        bars = [[y - min(accuracies)], [max(accuracies) - y]]
        axis.errorbar([x], [y], yerr=bars, fmt="o", color=colour, markersize=5, capsize=2)
    shown = points if len(groups) <= MOST_NAMED else {n: p for n, p in points.items() if p in front}
    middle = statistics.fmean(x for x, _ in points.values())
    for (x, y), names in together(shown).items():
        right = x > middle
        axis.annotate(  # beside the bar, away from the edge of the picture
            ", ".join(names),
            (x, y),
            (-6 if right else 6, 5 if right is larger else -11),
            textcoords="offset points",
            ha="right" if right else "left",
            fontsize=8,
            color=palette.text,
        )
    axis.plot(
        *zip(*front, strict=True),
        "o-",
        markersize=5,
        color=palette.blue,
        linewidth=1,
        label="Pareto front",
    )
    floats = [100 * value for one in groups for value in one.values("float_accuracy")]
    mean = statistics.fmean(floats)
    axis.axhline(mean, color=palette.green, linestyle="--", label=f"float net: {mean:.2f} %")
    if len(groups) > len(front):
        axis.plot([], [], "o", color=palette.grey, label="beaten by another in both")
    axis.margins(0.12, 0.12)
    axis.set_xlabel(label)
    axis.set_ylabel(f"{figure} of the ternary net on test examples, %")
    canvas.legend(loc="outside upper center", ncols=3)


def write(
    rows: Iterable[Row], key: Sequence[str], folder: Path, *, figure: str = "top-1"
) -> list[Path]:
    """sweep.html, accuracy_zeros.png, accuracy_bytes.png, and mean_and_spread.csv of several seeds.

    Args:
      figure: what the task measures, "top-1" or "AUC"; in the tables too.

    Returns:
      What was written.
    """
    rows = list(rows)
    groups = cells(rows, key)
    written, figures = [], []
    seeds = max(len(one.rows) for one in groups)
    for column, (label, _, larger) in AXES.items():
        with plots.drawing(*SIZE, plots.PAPER) as canvas:
            draw(canvas, plots.PAPER, groups, column, figure=figure)
            written.append(folder / f"accuracy_{'zeros' if larger else 'bytes'}.png")
            plots.png(canvas, written[-1])
        with plots.drawing(*SIZE) as canvas:
            draw(canvas, plots.PAGE, groups, column, figure=figure)
            better = "right" if larger else "left"
            caption = f"{figure} against {label.rpartition(', ')[0]}: up and to the {better} is "
            caption += f"better. A point is the mean of up to {seeds} seeds, its bar their range."
            figures.append(Figure(plots.svg(canvas), caption, wide=True))
    found = tables(rows, key, figure=figure)
    if len(found) > 1:
        written.append(folder / "mean_and_spread.csv")
        files.write_text(written[-1], found[0].csv())
    written.append(folder / "sweep.html")
    sections = [Section(f"{figure}, zeros and bytes", figures), Section("Tables", found), made_by()]
    files.write_text(written[-1], html(f"Sweep {folder.name}", sections))
    return written
