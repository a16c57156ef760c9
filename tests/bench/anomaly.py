"""How well a ternary autoencoder tells a class that it has never seen: a table of docs/results.md.

    python -m tests.bench.anomaly --write

Each class of a data set is left out in turn; the float net and the ternary net, as its .tflite file
computes it, are tested on the same examples. Stopped and started again, the bench repeats nothing.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tests.bench import in_process
from tests.pages import between

DOCS = Path(__file__).resolve().parents[2] / "docs"
COMMON = [
    *("--model=autoencoder", "--batch_size=64", "--target_sparsity=0.8", "--seed=1"),
    *("--float_learning_rate=0.05", "--float_weight_decay=0"),
]
TASKS = {
    "digits": ["--dataset=digits", "--width=0.5", "--float_epochs=30", "--epochs=30"],
    "watch": ["--dataset=watch", "--float_epochs=15", "--epochs=15"],
}
CLASSES = {"digits": 10, "watch": 7}


def measure(runs: in_process.Runs, words: list[str]) -> dict[str, float]:
    """AUC of the float net and of the ternary net's file; bytes of that, int8 and packed."""
    from ec2t_tf import export
    from ec2t_tf.export.file_formats import rewrite
    from ec2t_tf.export.verification import run as run_file
    from ec2t_tf.train import recipe
    from ec2t_tf.train.doors import Keras3

    trained = runs.train(words)
    path = runs.folder / "net.tflite"
    export.to_tflite(trained.net, path)
    test = trained.data.test
    outputs, _ = run_file(path, np.asarray(trained.data.normalise(test.inputs)))
    return {
        "float": recipe.figure(Keras3(), trained.float_net, trained.data),
        "ternary": trained.data.figure(outputs, test),
        "int8_bytes": path.stat().st_size,
        "packed_bytes": len(rewrite(path.read_bytes(), format="packed").content),
    }


def table(rows: Mapping[str, Any]) -> str:
    """Markdown: a row a data set; means over the classes left out, and the mean difference with its
    standard error over them, in points."""
    lines = [
        "| data | classes left out, one each | float net, AUC % | ternary net, AUC % | difference "
        "| least, float | least, ternary | int8 file | packed |",
        "|---|" + "---:|" * 8,
    ]
    for name, row in rows.items():
        before, after = (
            100 * np.array([one[net] for one in row.values()]) for net in ("float", "ternary")
        )
        gain = after - before
        error = gain.std(ddof=1) / np.sqrt(len(gain)) if len(gain) > 1 else np.nan
        one = next(iter(row.values()))
        cells = [str(len(row)), f"{before.mean():.2f}", f"{after.mean():.2f}"]
        cells += [f"{gain.mean():+.2f} ± {error:.2f}", f"{before.min():.2f}", f"{after.min():.2f}"]
        cells += [f"{one['int8_bytes']:,}", f"{one['packed_bytes']:,}"]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def load() -> dict[str, Any]:
    return json.loads((DOCS / "anomaly.json").read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--figures", type=Path, default=DOCS / "anomaly.json")
    parser.add_argument("--write", action="store_true", help="the table into docs/results.md")
    given = parser.parse_args()
    rows: dict[str, Any] = json.loads(given.figures.read_text()) if given.figures.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        runs = in_process.Runs(Path(folder))
        for name, words in TASKS.items():
            for left_out in map(str, range(CLASSES[name])):
                place = rows.setdefault(name, {})
                if left_out in place:
                    continue
                place[left_out] = measure(runs, [*words, *COMMON, f"--leave_out={left_out}"])
                print(f"{name} without {left_out}: {place[left_out]}", flush=True)
                given.figures.write_text(json.dumps(rows, indent=1) + "\n")
    print(table(rows))
    if given.write:
        page = DOCS / "results.md"
        page.write_text(between(page.read_text(), "anomaly", table(rows)))


if __name__ == "__main__":
    main()
