"""Sizes of real nets in every format: writes docs/sizes.md.

    python -m tests.bench.sizes --published=resnet20_t64.npz --on_grid=resnet20_fp.npz \
        [--net=NAME:FILE.tflite ...] [--write]

The published file is the EC2T authors' ternary ResNet-20 as a PyTorch state dict; a net is the int8
file that `python -m ec2t_tf.train` exported. The published net has no ranges of activations: they
are measured on random images, which changes no weight code.
"""

from __future__ import annotations

import argparse
import shlex
import tempfile
from pathlib import Path

import numpy as np
from ec2t_tf.export.convert import to_tflite
from ec2t_tf.export.sizes import Sizes, sizes, table

import ec2t_tf
from ec2t_tf import methods

OUTPUT = Path(__file__).resolve().parents[2] / "docs" / "sizes.md"
TEXT = """# Sizes

One net in every file format. Every figure is the size of a file that was written, or of the weight
streams inside one; `gzip -9` is that file compressed. "Of entropy" compares the streams with the
first-order entropy of the ternary layers' codes, layer by layer. `download` is turned back into
`packed` or `int8` by `ec2t_tf.export.unpack`. `int4` needs centroids whose ratio is k/7
(`EC2T(level_grid=7)`) and refuses other nets.

    {command}

{table}

Any int8 file gives such a table: `python -m ec2t_tf.export sizes model.tflite`.
"""


def published(path: Path, folder: Path) -> Sizes:
    """The authors' ternary ResNet-20."""
    from ec2t_tf.train import zoo
    from ec2t_tf.train.zoo.published import load_weights

    model = zoo.build("resnet20", input_shape=(32, 32, 3), classes=10)
    load_weights(model, path)
    images = np.random.default_rng(0).normal(size=(64, 32, 32, 3)).astype(np.float32)
    file = to_tflite(model, folder / "published.tflite", representative_data=images)
    return sizes(file, name=f"ResNet-20, {path.name}")


def on_grid(path: Path, folder: Path) -> Sizes:
    """A float ResNet-20 ternarised on the levels of INT4, without training."""
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
    parser.add_argument("--write", action="store_true", help="write docs/sizes.md")
    arguments = parser.parse_args()
    pairs = [(name, Path(file)) for name, _, file in (m.partition(":") for m in arguments.net)]
    with tempfile.TemporaryDirectory() as folder:
        rows = [sizes(file, name=name) for name, file in pairs]
        if arguments.published:
            rows.insert(0, published(arguments.published, Path(folder)))
        if arguments.on_grid:
            rows.append(on_grid(arguments.on_grid, Path(folder)))
    result = table(rows)
    print(result)
    if arguments.write:
        command = "python -m tests.bench.sizes --write"
        if arguments.published:
            command += f" --published={arguments.published.name}"
        if arguments.on_grid:
            command += f" --on_grid={arguments.on_grid.name}"
        command += "".join(f" --net={shlex.quote(f'{name}:{file.name}')}" for name, file in pairs)
        OUTPUT.write_text(TEXT.format(command=command, table=result))


if __name__ == "__main__":
    main()
