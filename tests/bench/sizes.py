"""Sizes of nets in every format: docs/sizes.json, and from it docs/sizes.md.

    python -m tests.bench.sizes [--published=resnet20_t64.npz] [--on_grid=resnet20_fp.npz] \
        [--net=NAME:FILE.tflite ...] [--write]

The nets of `tests` are always measured; others keep their rows unless given. The published
file is the EC2T authors' ternary ResNet-20 as a PyTorch state dict; a net is the int8 file that
`python -m ec2t_tf.train` exported. The published net has no ranges of activations: they are
measured on random images, which changes no weight code.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ec2t_tf.export.sizes import FormatSize, Sizes, sizes, table
from tests import nets
from tests.fixtures import write
from tests.pages import between

DOCS = Path(__file__).resolve().parents[2] / "docs"
OF_TESTS: dict[str, Callable[[], bytes]] = {
    "ResNet-8 of tests/nets.py, random weights": nets.resnet8,
    "small net of tests/fixtures, random weights on seven levels": write.small_net,
}


def load() -> dict[str, Any]:
    return json.loads((DOCS / "sizes.json").read_text())


def from_row(row: Mapping[str, Any]) -> Sizes:
    formats = {name: FormatSize(**size) for name, size in row["formats"].items()}
    return Sizes(**{**row, "formats": formats})


def to_row(net: Sizes) -> dict[str, Any]:
    row = dataclasses.asdict(net)
    for size in row["formats"].values():
        del size["note"]  # names every layer
    return row


def filled(page: str, rows: Mapping[str, Any]) -> str:
    """The page with its table made anew from the figures."""
    return between(page, "measured", table(from_row(row) for row in rows.values()))


def of_tests(name: str, folder: Path) -> Sizes:
    file = folder / "net.tflite"
    file.write_bytes(OF_TESTS[name]())
    return sizes(file, name=name)


def published(path: Path, folder: Path) -> Sizes:
    """The authors' ternary ResNet-20."""
    from ec2t_tf.export.convert import to_tflite
    from ec2t_tf.train import zoo
    from ec2t_tf.train.zoo.published import load_weights

    model = zoo.build("resnet20", input_shape=(32, 32, 3), classes=10)
    load_weights(model, path)
    images = np.random.default_rng(0).normal(size=(64, 32, 32, 3)).astype(np.float32)
    file = to_tflite(model, folder / "published.tflite", representative_data=images)
    return sizes(file, name=f"ResNet-20, {path.name}")


def on_grid(path: Path, folder: Path) -> Sizes:
    """A float ResNet-20 ternarised on the levels of INT4, without training."""
    import ec2t_tf
    from ec2t_tf import methods
    from ec2t_tf.export.convert import to_tflite
    from ec2t_tf.train import zoo
    from ec2t_tf.train.zoo.published import load_weights

    net = zoo.build("resnet20", input_shape=(32, 32, 3), classes=10)
    load_weights(net, path)
    model = ec2t_tf.apply(net, method=methods.EC2T(level_grid=7, target_sparsity=0.8))
    images = np.random.default_rng(0).normal(size=(64, 32, 32, 3)).astype(np.float32)
    model(images, training=True)  # ranges of activations
    file = to_tflite(model, folder / "on_grid.tflite")
    return sizes(file, name=f"ResNet-20, {path.name} on seven levels, not trained")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--published", type=Path, help="resnet20_t64.npz")
    parser.add_argument("--on_grid", type=Path, help="resnet20_fp.npz, for the line of int4")
    parser.add_argument("--net", action="append", default=[], metavar="NAME:FILE")
    parser.add_argument("--write", action="store_true", help="write docs/sizes.json and .md")
    arguments = parser.parse_args()
    pairs = [(name, Path(file)) for name, _, file in (m.partition(":") for m in arguments.net)]
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        found = {f"{name}:{file.name}": sizes(file, name=name) for name, file in pairs}
        if arguments.published:
            found["--published"] = published(arguments.published, folder)
        if arguments.on_grid:
            found["--on_grid"] = on_grid(arguments.on_grid, folder)
        found |= {name: of_tests(name, folder) for name in OF_TESTS}
    print(table(found.values()))
    if arguments.write:
        rows = load() | {key: to_row(net) for key, net in found.items()}
        (DOCS / "sizes.json").write_text(json.dumps(rows, indent=1) + "\n")
        page = DOCS / "sizes.md"
        page.write_text(filled(page.read_text(), rows))


if __name__ == "__main__":
    main()
