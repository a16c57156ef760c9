"""Super-networks by compound scaling: step 0 of EC2T.

A small net is made deeper by d^phi and wider by w^phi before it is ternarised (EfficientNet's
rule, with the resolution fixed). First (d, w) is searched at phi = 1 under d * w^2 ~ 2, then phi
grows until the net reaches the accuracy asked for. Source: EC2T (arXiv 2004.01077) and the
authors' thesis, section 5.2; `published` figures are in the project's specification.

Both searches keep their rows in a CSV file (`RunTable`), so a killed search resumes.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from ec2t_tf import files
from ec2t_tf.run_table import RunTable

BuildFunction = Callable[..., Any]
"""Takes the keywords `depth` and `width` (multipliers) and returns a built Keras model."""
EvaluateFunction = Callable[[Any], float]
"""Trains the model it is given and returns its accuracy in 0..1 on *validation* data."""

PUBLISHED_GRID = ((1.0, 1.4), (1.2, 1.3), (1.4, 1.2), (1.6, 1.1), (1.7, 1.1), (1.9, 1.0))
"""The (d, w) pairs searched by the authors, each with d * w^2 about 2."""
PUBLISHED_PHIS = (1.0, 1.5, 2.0, 3.0, 3.5, 4.0)


def round_channels(channels: float, *, divisor: int = 8) -> int:
    """The multiple of `divisor` nearest to `channels` (halves go up), at least `divisor`.

    One `divisor` is added when rounding down would lose more than 10 %.
    """
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


def round_blocks(blocks: float) -> int:
    """The number of blocks, rounded up. 7.000000001 is still 7: powers carry rounding noise."""
    return max(1, math.ceil(blocks - 1e-9))


def _multiplier(name: str, value: float) -> float:
    if not (math.isfinite(value) and value > 0):
        raise ValueError(
            f"`{name}` must be a positive number. Received: {name}={value}. "
            "1.0 leaves the net as it is."
        )
    return float(value)


def compound_scale(
    build_fn: BuildFunction, *, depth: float, width: float, phi: float = 1.0, **options: Any
) -> Any:
    """Build a net depth^phi times as deep and width^phi times as wide.

    Args:
      build_fn: called as `build_fn(depth=depth**phi, width=width**phi, **options)`. It rounds
        with `round_blocks` and `round_channels`, as the nets of the zoo do.
      depth: growth of the number of blocks per step of phi; above 0.
      width: growth of the number of channels per step of phi; above 0.
      phi: how far to scale; 0 gives the base net.
      **options: passed on to `build_fn`.

    Returns:
      What `build_fn` returns.
    """
    _multiplier("depth", depth)
    _multiplier("width", width)
    if not (math.isfinite(phi) and phi >= 0):
        raise ValueError(f"`phi` must be 0 or more. Received: phi={phi}. 0 gives the base net.")
    return build_fn(depth=depth**phi, width=width**phi, **options)


@dataclass(frozen=True)
class Trial:
    """One net of a search.

    Attributes:
      depth, width, phi: its compound scaling.
      parameters: all parameters of the net, batch normalisation's moving statistics included.
      macs: multiply-accumulates of one inference.
      accuracy: in 0..1, as `evaluate` returned it.
    """

    depth: float
    width: float
    phi: float
    parameters: int
    macs: int
    accuracy: float


@dataclass(frozen=True)
class SearchResult:
    """The trials of a search in the order they were asked for.

    Attributes:
      trials: every trial.
      best: the trial chosen.
      target: the accuracy asked for, or None.
      reached: whether `best` has that accuracy; True when none was asked for.
    """

    trials: tuple[Trial, ...]
    best: Trial
    target: float | None = None

    @property
    def reached(self) -> bool:
        return self.target is None or self.best.accuracy >= self.target

    def table(self) -> str:
        """The trials as text, the chosen one marked with `*`."""
        lines = ["    d     w   phi   parameters           MACs  accuracy"]
        for trial in self.trials:
            lines.append(
                f"{trial.depth:5.2f} {trial.width:5.2f} {trial.phi:5.2f} {trial.parameters:12,d}"
                f" {trial.macs:14,d}  {100 * trial.accuracy:6.2f} %"
                f"{' *' if trial == self.best else ''}"
            )
        return "\n".join(lines)

    def plot(self, path: str | os.PathLike) -> None:
        """Write accuracy against parameters as a PNG (needs matplotlib)."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(6, 4), layout="constrained")
        axes = figure.subplots()
        axes.plot(
            [trial.parameters / 1e6 for trial in self.trials],
            [100 * trial.accuracy for trial in self.trials],
            "o",
        )
        for trial in self.trials:
            axes.annotate(
                f" d={trial.depth:g} w={trial.width:g} φ={trial.phi:g}",
                (trial.parameters / 1e6, 100 * trial.accuracy),
                fontsize=7,
            )
        if self.target is not None:
            axes.axhline(100 * self.target, linestyle="--", linewidth=1, label="target")
            axes.legend()
        axes.set_xlabel("parameters, millions")
        axes.set_ylabel("accuracy, %")
        with files.replacing(path) as fresh:
            figure.savefig(fresh, dpi=120)


class _Search:
    """Runs trials, each at most once however often the search is started."""

    def __init__(
        self, build_fn: BuildFunction, evaluate: EvaluateFunction, rows: str | os.PathLike
    ):
        self._build_fn = build_fn
        self._evaluate = evaluate
        self._table = RunTable(
            rows, key=("depth", "width", "phi"), columns=("parameters", "macs", "accuracy")
        )

    def trial(self, depth: float, width: float, phi: float) -> Trial:
        key = {"depth": float(depth), "width": float(width), "phi": float(phi)}
        row = self._table.find(**key)
        if row is None:
            from ec2t_tf.counting import plain_count

            model = compound_scale(self._build_fn, depth=depth, width=width, phi=phi)
            parameters, macs = model.count_params(), plain_count(model).macs
            accuracy = float(self._evaluate(model))
            if not 0 <= accuracy <= 1:
                raise ValueError(
                    f"`evaluate` must return an accuracy in 0..1. Received: {accuracy} for {key}. "
                    "Return the share of right answers, not per cent."
                )
            row = self._table.add(**key, parameters=parameters, macs=macs, accuracy=accuracy)
        return Trial(
            **key,
            parameters=int(row["parameters"]),
            macs=int(row["macs"]),
            accuracy=float(row["accuracy"]),
        )


def _most_accurate(trials: Iterable[Trial]) -> Trial:
    """Highest accuracy; among equals the fewest parameters."""
    return max(trials, key=lambda trial: (trial.accuracy, -trial.parameters))


def search_depth_width(
    build_fn: BuildFunction,
    evaluate: EvaluateFunction,
    *,
    rows: str | os.PathLike,
    grid: Sequence[tuple[float, float]] = PUBLISHED_GRID,
) -> SearchResult:
    """Grid search of (d, w) at phi = 1.

    Args:
      build_fn: see `compound_scale`.
      evaluate: trains a model and returns its validation accuracy in 0..1.
      rows: CSV file of finished trials; those found in it are not repeated.
      grid: (d, w) pairs to try.

    Returns:
      All trials, the most accurate as `best` (the smaller net among equals).
    """
    if not grid:
        raise ValueError("At least one (d, w) pair is required. Received: an empty `grid`.")
    search = _Search(build_fn, evaluate, rows)
    trials = tuple(search.trial(depth, width, 1.0) for depth, width in grid)
    return SearchResult(trials, _most_accurate(trials))


def search_phi(
    build_fn: BuildFunction,
    evaluate: EvaluateFunction,
    *,
    depth: float,
    width: float,
    target_accuracy: float,
    rows: str | os.PathLike,
    phis: Sequence[float] = PUBLISHED_PHIS,
) -> SearchResult:
    """Raise phi until the net reaches `target_accuracy`; stop at the first that does.

    Args:
      build_fn, evaluate, rows: as in `search_depth_width`; both searches may share one file.
      depth, width: d and w, as found by `search_depth_width`.
      target_accuracy: in 0..1.
      phis: tried in rising order.

    Returns:
      The trials made. `best` is the first that reached the target; when none did, the most
      accurate, and `reached` is False.
    """
    if not 0 <= target_accuracy <= 1:
        raise ValueError(
            f"`target_accuracy` must be in 0..1. Received: {target_accuracy}. Is it in per cent?"
        )
    if not phis:
        raise ValueError("At least one phi is required. Received: an empty `phis`.")
    search = _Search(build_fn, evaluate, rows)
    trials: list[Trial] = []
    for phi in sorted(phis):
        trials.append(search.trial(depth, width, phi))
        if trials[-1].accuracy >= target_accuracy:
            return SearchResult(tuple(trials), trials[-1], target_accuracy)
    return SearchResult(tuple(trials), _most_accurate(trials), target_accuracy)
