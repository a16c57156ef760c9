"""What each piece of the recipe is worth: docs/ablation.json, and a table of docs/results.md.

    python -m tests.bench.ablation --nets=watch,digits --seeds=1,2,3 --write [--tfds_dir=...]

A piece is a flag or two of `ec2t train`, given alone. The float net of a seed is trained once, but
where a piece changes its training too. Figures are of the test examples, after recalibration (but
where that is the piece); stopped and started again, the bench repeats nothing that it has written.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags

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
# Piece -> flags; those that train the float net anew come last.
PIECES: dict[str, list[str]] = {
    BASE: [],
    "distillation, share 0.5": ["--distill=0.5"],
    "distillation, share 0.7 falling to 0": ["--distill=0.7", "--distill_end=0"],
    "two cycles of the learning rate": ["--cycles=2"],
    "moving average of the weights, 0.98": ["--ema=0.98"],
    "no recalibration of batch normalisation": ["--norecalibrate"],
    "published start (not robust)": ["--start=published"],
    "codes frozen from 0.8 on": ["--frozen_from=0.8"],
    "zeros rising over half of the epochs": ["--sparsity_ramp=0.5"],
    "half the learning rate": ["--learning_rate=1e-3"],
    "mixup, 0.2": ["--mixup=0.2"],
    "without its own augmentation": ["--noaugment"],
    "Cutout": ["--cutout={side}"],
    "sounds without shifted, noisy copies": ["--nocopies"],
}
FLOAT_TOO = ("--mixup", "--noaugment", "--cutout", "--nocopies")
SIDE = {"digits": 3, "spoken_digit": 8}  # of the squares of Cutout: not on sensors
ONLY = {"sounds without shifted, noisy copies": "spoken_digit"}


def pieces_of(net: str) -> dict[str, list[str]]:
    """Piece -> flags of those that a net can have."""
    return {
        piece: [word.format(side=SIDE.get(net)) for word in words]
        for piece, words in PIECES.items()
        if ONLY.get(piece, net) == net and ("Cutout" not in piece or net in SIDE)
    }


def settings_of(words: Sequence[str], folder: Path) -> Any:
    """What `ec2t train` makes of its flags."""
    from ec2t_tf.train import __main__ as script
    from ec2t_tf.train import run

    flags.FLAGS.unparse_flags()
    for name in script.SECTIONS["training"]:
        flags.FLAGS[name].unparse()
    flags.FLAGS(["ablation", *words, f"--output_dir={folder}", "--verbose=0"])
    return run.Settings(
        **{name: flags.FLAGS[name].value for name in run.SETTINGS},
        image_size=None,
        method=script.build_method(),
        output_dir=folder,
    )


class Bench:
    """Runs pieces one after another; keeps data and float nets."""

    def __init__(self, folder: Path, tfds_dir: str | None) -> None:
        self.folder = folder
        self.places = [f"--tfds_dir={tfds_dir}"] if tfds_dir else []
        self.data: dict[tuple[str, ...], Any] = {}
        self.float_nets: dict[tuple[str, ...], Path] = {}

    def accuracy(self, net: str, seed: int, words: list[str]) -> tuple[float, float]:
        """Of the float net and of the ternary net, on the test examples."""
        import keras

        import ec2t_tf
        from ec2t_tf.train import recipe, run
        from ec2t_tf.train.distillation import Distillation
        from ec2t_tf.train.doors import Keras3

        of_float = tuple(word for word in words if word.startswith(FLOAT_TOO))
        key = (net, str(seed), *of_float)
        places = self.places if "spoken" in net else []
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        settings = settings_of([*NETS[net], *places, f"--seed={seed}", *words], folder)
        data = self.data.get((net, *of_float)) or run.load_data(settings)
        self.data[(net, *of_float)] = data
        door = Keras3()
        keras.utils.set_random_seed(seed)
        model = run.build(settings, data)
        if key in self.float_nets:
            model.load_weights(self.float_nets[key])
        else:
            run.train(door, model, data, run.float_phase(settings), settings, ternary=False)
            self.float_nets[key] = folder / "float.weights.h5"
            model.save_weights(self.float_nets[key])
        before = recipe.accuracy(door, model, data.evaluation(data.test))
        keras.utils.set_random_seed(seed)
        ternary = ec2t_tf.apply(model, run.method_for(settings, data))
        distil = None
        if settings.distill:
            steps = settings.epochs * run.steps_per_epoch(settings, data)
            distil = Distillation(
                model, settings.distill, settings.distill_temperature, settings.distill_end, steps
            )
        phase = run.ternary_phase(settings)
        run.train(door, ternary, data, phase, settings, ternary=True, distil=distil)
        recipe.compile_for_others(door, ternary)  # recalibrate saves it
        if settings.recalibrate:
            run.recalibrate(settings, data, ternary)
        after = recipe.accuracy(door, ternary, data.evaluation(data.test))
        keras.backend.clear_session()
        return before, after


def table(rows: Mapping[str, Any]) -> str:
    """Markdown: a row a piece; for each net the mean of the seeds, and the mean difference from the
    defaults with its standard error over the seeds, in points."""
    shown = [net for net in NETS if net in rows]
    head = " | ".join(f"{net} | difference" for net in shown)
    lines = [f"| piece | {head} |", "|---|" + "---:|" * 2 * len(shown)]
    for piece in PIECES:
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
            error = gain.std(ddof=1) / np.sqrt(len(gain)) if len(gain) > 1 else np.nan
            cells.append("" if piece == BASE else f"{gain.mean():+.2f} ± {error:.2f}")
        lines.append(f"| {piece} | {' | '.join(cells)} |")
    floats = []
    for net in shown:
        values = [100 * value[0] for value in rows[net].get(BASE, {}).values()]
        floats += [f"{np.mean(values):.2f}", ""]
    lines.append(f"| float net | {' | '.join(floats)} |")
    return "\n".join(lines)


def filled(page: str, rows: Mapping[str, Any]) -> str:
    """The page with its table made anew from the figures."""
    mark = re.compile(r"(<!-- ablation -->\n).*?(<!-- end of ablation -->)", re.S)
    page, count = mark.subn(lambda found: f"{found[1]}{table(rows)}\n{found[2]}", page)
    assert count == 1, "docs/results.md must have its marks once"
    return page


def load() -> dict[str, Any]:
    return json.loads((DOCS / "ablation.json").read_text())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nets", default="watch,digits")
    parser.add_argument("--seeds", default="1,2,3")
    parser.add_argument("--tfds_dir")
    parser.add_argument("--figures", type=Path, default=DOCS / "ablation.json")
    parser.add_argument("--write", action="store_true", help="the table into docs/results.md")
    given = parser.parse_args()
    rows: dict[str, Any] = json.loads(given.figures.read_text()) if given.figures.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), given.tfds_dir)
        for net in given.nets.split(","):
            for seed in given.seeds.split(","):
                for piece, words in pieces_of(net).items():
                    place = rows.setdefault(net, {}).setdefault(piece, {})
                    if seed in place:
                        continue
                    place[seed] = bench.accuracy(net, int(seed), words)
                    print(f"{net}, seed {seed}, {piece}: {place[seed][1]:.4f}", flush=True)
                    given.figures.write_text(json.dumps(rows, indent=1) + "\n")
    print(table(rows))
    if given.write:
        page = DOCS / "results.md"
        page.write_text(filled(page.read_text(), rows))


if __name__ == "__main__":
    main()
