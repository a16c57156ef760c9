"""What is known of each net, and where its files are."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np

from ec2t_tf.tables import Table

FOLDER = Path(__file__).with_name("nets")


@dataclasses.dataclass(frozen=True)
class Card:
    """A trained net.

    Attributes:
      data: the set, how it was split, and its licence.
      command: what trained it; `revision` is the commit of the source.
      float_accuracy, ternary_accuracy: top-1 on the test examples, 0 to 1, of the float net and of
        the file.
      test_examples: how many they are.
      zeros: share of zero weights in the ternary layers.
      packed_bytes, int8_bytes: the file here, and the int8 .tflite file that it was made of.
      input_shape: of one input, without the batch; float32, normalised by `mean` and `std` after
        a division by `full_scale`.
      labels: names of the classes.
      cores: by core the `instructions` of one run, counted in QEMU, the `flash` of the constants
        and the `arena` of RAM, of generated C ("balanced").
    """

    name: str
    model: str
    task: str
    data: str
    command: str
    revision: str
    date: str
    seed: int
    float_accuracy: float
    ternary_accuracy: float
    test_examples: int
    zeros: float
    packed_bytes: int
    int8_bytes: int
    input_shape: tuple[int, ...]
    full_scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    labels: tuple[str, ...]
    cores: dict[str, dict[str, int]]

    def __str__(self) -> str:
        lines = [
            f"{self.name}: {self.task}",
            f"  net        {self.model}, {100 * self.zeros:.1f} % zeros in ternary layers",
            f"  data       {self.data}",
            f"  top-1      {100 * self.ternary_accuracy:.2f} % of {self.test_examples:,} (float "
            f"net {100 * self.float_accuracy:.2f} %)",
            f"  file       {self.packed_bytes:,} bytes packed, {self.int8_bytes:,} as int8 .tflite",
            f"  input      {self.input_shape}, divided by {self.full_scale:g}, mean "
            f"{self.mean}, deviation {self.std}",
            f"  classes    {', '.join(self.labels)}",
        ]
        lines += [
            f"  {core:10} {counts['instructions']:,} instructions in QEMU, {counts['flash']:,} "
            f"bytes of constants, {counts['arena']:,} of RAM"
            for core, counts in self.cores.items()
        ]
        lines += [
            f"  trained    seed {self.seed}, {self.date}, source {self.revision}",
            f"             {self.command}",
            f"  run        ec2t_tf.export.Interpreter(ec2t_tf.train.trained.path('{self.name}'))",
        ]
        return "\n".join(lines)


def names() -> list[str]:
    """All nets."""
    return sorted(file.stem for file in FOLDER.glob("*.json"))


def path(name: str) -> Path:
    """The packed .tflite file, which `ec2t_tf.export.Interpreter` runs.

    Raises:
      ValueError: there is no such net.
    """
    if name not in names():
        raise ValueError(f"name must be one of {', '.join(names())}. Received: '{name}'.")
    return FOLDER / f"{name}.tflite"


def card(name: str) -> Card:
    """What is known of a net.

    Raises:
      ValueError: there is no such net.
    """
    values = json.loads(path(name).with_suffix(".json").read_text())
    lists = ("input_shape", "mean", "std", "labels")
    return Card(**{**values, **{key: tuple(values[key]) for key in lists}})


def examples(name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Test examples: float32 inputs (count, *shape), labels, and the outputs (count, classes).

    The outputs are LiteRT's (2.3, by default) of the int8 file.
    """
    with np.load(path(name).with_suffix(".npz"), allow_pickle=False) as kept:
        inputs = (kept["codes"].astype(np.float32) - kept["zero_point"]) * kept["scale"]
        return inputs.astype(np.float32), kept["labels"], kept["outputs"]


def table() -> Table:
    """One row a net."""
    head = ("net", "task", "top-1", "float", "zeros", "packed bytes", "M4 instructions")
    rows = []
    for one in map(card, names()):
        counts = one.cores.get("m4")
        rows.append(
            (
                *(one.name, one.task, one.ternary_accuracy, one.float_accuracy, one.zeros),
                *(one.packed_bytes, counts["instructions"] if counts else None),
            )
        )
    return Table(head, rows, ("", "", "{:.2%}", "{:.2%}", "{:.1%}", "{:,}", "{:,}"))
