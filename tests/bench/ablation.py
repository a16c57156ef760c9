"""What each piece of the recipe is worth: docs/ablation.json, and a table of docs/results.md.

    python -m tests.bench.ablation --nets=watch,digits --seeds=1,2,3 --write [--tfds_dir=...]

A piece is a flag or two of `ec2t train`, given alone. The float net of a seed is trained once, but
where a piece changes its training too. Figures are of the test examples, after recalibration (but
where that is the piece); stopped and started again, the bench repeats nothing that it has written.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tests.bench import in_process
from tests.pages import between

DOCS = Path(__file__).resolve().parents[2] / "docs"
NETS = {
    "watch": [
        *("--dataset=watch", "--model=sensor_cnn", "--float_epochs=12", "--epochs=10"),
        *("--batch_size=64", "--float_learning_rate=0.05", "--float_weight_decay=5e-4"),
        "--target_sparsity=0.9",
    ],
    "digits": [
        *("--dataset=digits", "--model=ds_cnn", "--depth=0.5", "--float_epochs=15"),
        *("--epochs=12", "--batch_size=64", "--target_sparsity=0.9"),
    ],
    "spoken_digit": [
        *("--dataset=spoken_digit", "--split=speaker", "--model=ds_cnn", "--float_epochs=15"),
        *("--epochs=12", "--batch_size=64", "--float_learning_rate=0.05"),
        *("--float_weight_decay=5e-4", "--target_sparsity=0.9"),
    ],
}
BASE = "none: the script's defaults"
# Piece -> flags; the most wanted first, for a bench that is cut short.
PIECES: dict[str, list[str]] = {
    BASE: [],
    "distillation, share 0.5": ["--distill=0.5"],
    "distillation, share 0.7 falling to 0": ["--distill=0.7", "--distill_end=0"],
    "two cycles of the learning rate": ["--cycles=2"],
    "moving average of the weights, 0.98": ["--ema=0.98"],
    "no recalibration of batch normalisation": ["--norecalibrate"],
    "codes left by a margin of 0.2": ["--hysteresis=0.2"],
    "codes frozen from 0.8 on": ["--frozen_from=0.8"],
    "zeros rising over half of the epochs": ["--sparsity_ramp=0.5"],
    "mixup, 0.2": ["--mixup=0.2"],
    "half the learning rate": ["--learning_rate=1e-3"],
    "published start (not robust)": ["--start=published"],
    "without its own augmentation": ["--noaugment"],
    "Cutout": ["--cutout={side}"],
    "sounds without shifted, noisy copies": ["--nocopies"],
}
SIDE = {"digits": 3, "spoken_digit": 8}  # of the squares of Cutout: not on sensors
ONLY = {"sounds without shifted, noisy copies": "spoken_digit"}


def pieces_of(net: str) -> dict[str, list[str]]:
    """Piece -> flags of those that a net can have."""
    return {
        piece: [word.format(side=SIDE.get(net)) for word in words]
        for piece, words in PIECES.items()
        if ONLY.get(piece, net) == net and ("Cutout" not in piece or net in SIDE)
    }


def accuracies(run: in_process.Trained) -> tuple[float, float]:
    """Of the float net and of the ternary net, on the test examples."""
    from ec2t_tf.train import recipe
    from ec2t_tf.train.doors import Keras3

    door = Keras3()
    return recipe.figure(door, run.float_net, run.data), recipe.figure(door, run.net, run.data)


def table(rows: Mapping[str, Any]) -> str:
    """Markdown: a row a piece; for each net the mean of the seeds, and the mean difference from the
    defaults with its standard error over the seeds, in points; in brackets how many seeds."""
    shown = [net for net in NETS if net in rows]
    head = " | ".join(f"{net}, % | difference (seeds)" for net in shown)
    lines = [f"| piece | {head} |", "|---|" + "---:|" * 2 * len(shown)]
    for piece in PIECES:
        if not any(piece in rows[net] for net in shown):
            continue
        cells = []
        for net in shown:
            found = rows[net].get(piece, {})
            seeds = sorted(found.keys() & rows[net].get(BASE, {}).keys())
            if not seeds:
                cells += ["", ""]
                continue
            after = 100 * np.array([found[seed][1] for seed in seeds])
            base = 100 * np.array([rows[net][BASE][seed][1] for seed in seeds])
            cells.append(f"{after.mean():.2f}")
            gain = after - base
            error = f" ± {gain.std(ddof=1) / np.sqrt(len(gain)):.2f}" if len(gain) > 1 else ""
            count = f"({len(gain)})"
            cells.append(count if piece == BASE else f"{gain.mean():+.2f}{error} {count}")
        lines.append(f"| {piece} | {' | '.join(cells)} |")
    floats = []
    for net in shown:
        values = [100 * value[0] for value in rows[net].get(BASE, {}).values()]
        floats += [f"{np.mean(values):.2f}", ""]
    lines.append(f"| float net | {' | '.join(floats)} |")
    return "\n".join(lines)


def filled(page: str, rows: Mapping[str, Any]) -> str:
    """The page with its table made anew from the figures."""
    return between(page, "ablation", table(rows))


def load() -> dict[str, Any]:
    return json.loads((DOCS / "ablation.json").read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nets", default="watch,digits")
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--first", type=int, default=len(PIECES), help="so many of the pieces")
    parser.add_argument("--tfds_dir")
    parser.add_argument("--figures", type=Path, default=DOCS / "ablation.json")
    parser.add_argument("--write", action="store_true", help="the table into docs/results.md")
    given = parser.parse_args()
    nets, seeds = given.nets.split(","), given.seeds.split(",")
    wanted = (
        (net, piece, seed)
        for seed in seeds
        for net in nets
        for piece in list(pieces_of(net))[: given.first]
    )

    def measure(runs: in_process.Runs, net: str, piece: str, seed: str) -> tuple[float, float]:
        words = [*NETS[net], *pieces_of(net)[piece], f"--seed={seed}"]
        if given.tfds_dir and "spoken" in net:
            words.append(f"--tfds_dir={given.tfds_dir}")
        return accuracies(runs.train(words))

    rows = in_process.fill(given.figures, wanted, measure)
    print(table(rows))
    if given.write:
        page = DOCS / "results.md"
        page.write_text(filled(page.read_text(), rows))


if __name__ == "__main__":
    main()
