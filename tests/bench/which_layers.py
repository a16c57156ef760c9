"""What it brings to make more layers ternary: docs/which_layers.json, a table of docs/results.md.

    python -m tests.bench.which_layers --nets=watch,digits --seeds=1,2,3 --write

By default the first, the last and the depthwise layers are int8. Here each of them, and all, are
ternary too, or pruned (int8 with zeros); the rest is the ablation's, 90 % zeros. Accuracy is of the
file on the test examples; bytes and instructions are of the first seed. Stopped and started again,
the bench repeats nothing that it has written.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tests.bench import in_process
from tests.bench.ablation import NETS
from tests.pages import between

DOCS = Path(__file__).resolve().parents[2] / "docs"
BASE = "the default: these are int8"
LAST, DEPTHWISE = "classifier", "depthwise.*"
FIRST_OF = {"watch": "conv0", "digits": "stem", "spoken_digit": "stem"}


def points_of(net: str) -> dict[str, list[dict[str, str]]]:
    """What is made ternary or pruned besides -> the rules of its policy."""
    first = FIRST_OF[net]
    depthwise = [] if net == "watch" else [DEPTHWISE]
    points: dict[str, list[tuple[str, str]]] = {
        BASE: [],
        "the last one ternary": [("ternary", LAST)],
        "the first one ternary": [("ternary", first)],
        "depthwise ones ternary": [("ternary", name) for name in depthwise],
        "all ternary": [("ternary", name) for name in (first, LAST, *depthwise)],
        "all pruned": [("prune", name) for name in (first, LAST, *depthwise)],
    }
    return {
        point: [{"treatment": treatment, "name": name} for treatment, name in rules]
        for point, rules in points.items()
        if rules or point == BASE
    }


def measure(
    runs: in_process.Runs, words: list[str], rules: list[dict[str, str]], *, costs: bool
) -> dict[str, Any]:
    """A training: the accuracy of its file, and what that costs."""
    from ec2t_tf import export
    from ec2t_tf.export.file_formats import rewrite
    from ec2t_tf.export.verification import run as run_file
    from ec2t_tf.train.trained.add import counts

    policy = runs.folder / "policy.json"
    policy.write_text(json.dumps({"rules": rules}))
    trained = runs.train([*words, f"--policy={policy}"])
    path = runs.folder / "net.tflite"
    export.to_tflite(trained.net, path)
    test = trained.data.test
    outputs, _ = run_file(path, np.asarray(trained.data.normalise(test.inputs)))
    found: dict[str, Any] = {"accuracy": float((outputs.argmax(axis=1) == test.labels).mean())}
    if costs:
        int8 = path.read_bytes()
        for form in ("packed", "download"):
            found[form] = len(rewrite(int8, format=form).content)
        for core in ("m4", "m0", "m55"):
            found[core] = counts(int8, core)
    return found


def table(net: str, rows: Mapping[str, Any]) -> str:
    """Markdown of a net: a row a point; differences from the default over seeds, in points."""
    lines = [
        "| layers | accuracy, % | difference (seeds) | packed | download | constants, M4 | "
        "instructions, M4 | M0 | M55 |",
        "|---|" + "---:|" * 8,
    ]
    for point in points_of(net):
        if point not in rows:
            continue
        seeds = sorted(rows[point].keys() & rows[BASE].keys())
        after, base = (
            100 * np.array([rows[name][seed]["accuracy"] for seed in seeds])
            for name in (point, BASE)
        )
        gain = after - base
        error = f" ± {gain.std(ddof=1) / np.sqrt(len(gain)):.2f}" if len(gain) > 1 else ""
        difference = "" if point == BASE else f"{gain.mean():+.2f}{error} "
        cost = next(row for row in rows[point].values() if "m4" in row)
        cells = [f"{after.mean():.2f}", f"{difference}({len(seeds)})"]
        cells += [f"{cost[form]:,}" for form in ("packed", "download")]
        cells += [f"{cost['m4']['flash']:,}"]
        cells += [f"{cost[core]['instructions']:,}" for core in ("m4", "m0", "m55")]
        lines.append(f"| {point} | {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nets", default="watch,digits")
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--tfds_dir")
    parser.add_argument("--figures", type=Path, default=DOCS / "which_layers.json")
    parser.add_argument("--write", action="store_true", help="the tables into docs/results.md")
    given = parser.parse_args()
    nets, seeds = given.nets.split(","), given.seeds.split(",")
    wanted = ((net, point, seed) for seed in seeds for net in nets for point in points_of(net))

    def measured(runs: in_process.Runs, net: str, point: str, seed: str) -> dict[str, Any]:
        words = [*NETS[net], f"--seed={seed}"]
        if given.tfds_dir and "spoken" in net:
            words.append(f"--tfds_dir={given.tfds_dir}")
        return measure(runs, words, points_of(net)[point], costs=seed == seeds[0])

    rows = in_process.fill(given.figures, wanted, measured)
    page = (DOCS / "results.md").read_text()
    for net in rows:
        print(f"{net}\n{table(net, rows[net])}\n")
        page = between(page, f"which layers, {net}", table(net, rows[net]))
    if given.write:
        (DOCS / "results.md").write_text(page)


if __name__ == "__main__":
    main()
