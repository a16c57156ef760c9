"""Two nets on the same test examples: how far apart they are, with a paired interval.

    python -m ec2t_tf.train.paired runs/fold1 runs/fold2 --of=ternary --against=float
    python -m ec2t_tf.train.paired runs/narrow_1 runs/narrow_2 --with runs/wide_1 runs/wide_2

Every run keeps, in predictions.npz, what its nets said of each test example. Two nets that err on
the same examples differ by less than their accuracies' own errors say, so the difference is taken
example by example. Runs over the same examples (seeds) are averaged before that; runs over others
(the folds of a cross-validation) are put side by side.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ec2t_tf import files
from ec2t_tf.train.tasks.base import Split

NAME = "predictions.npz"
NETS = ("ternary", "float", "int8")
NORMAL_95 = 1.96  # half of a 95 % interval in standard errors


@dataclasses.dataclass(frozen=True)
class Difference:
    """Of two nets, or groups of nets, all in shares of 1.

    Attributes:
      first, second: accuracy over all examples.
      interval: half the width of the 95 % interval of `first - second` over test examples. What
        another seed would give is not in it.
      examples: different ones.
      runs: how many nets were averaged an example.
    """

    first: float
    second: float
    interval: float
    examples: int
    runs: int

    @property
    def difference(self) -> float:
        return self.first - self.second

    def __str__(self) -> str:
        return (
            f"{100 * self.first:.2f} % - {100 * self.second:.2f} % = "
            f"{100 * self.difference:+.2f} points, 95 % interval +-{100 * self.interval:.2f} "
            f"({self.examples} examples, {self.runs} runs each)"
        )


def save(folder: Path, test: Split, predicted: Mapping[str, np.ndarray]) -> None:
    """Adds the classes that nets gave to `folder`/predictions.npz; a net's earlier ones go.

    Args:
      test: the test examples, of which a hash and the labels are kept.
      predicted: net ("float", "int8", "ternary") -> classes (count,).
    """
    path = folder / NAME
    kept = files.read_arrays(path) if path.exists() else {}
    digest = hashlib.sha256(np.ascontiguousarray(test.inputs).tobytes()).digest()
    kept |= {"examples": np.frombuffer(digest, np.uint8), "labels": test.labels, **predicted}
    with files.replacing(path) as fresh, fresh.open("wb") as stream:
        whole: dict[str, Any] = {name: np.asarray(v, np.int16) for name, v in kept.items()}
        np.savez_compressed(stream, **whole)


def right(folder: Path, net: str) -> tuple[bytes, np.ndarray]:
    """(hash of the test examples, whether the net was right of each as bool).

    Raises:
      FileNotFoundError: the run kept no predictions.
      ValueError: it has none of this net.
    """
    path = folder / NAME
    if not path.exists():
        raise FileNotFoundError(
            f"A finished run with its {NAME} is required. Received: '{folder}', which has none."
        )
    found = files.read_arrays(path)
    if not {net, "labels", "examples"} <= found.keys():
        raise ValueError(f"'{path}' must hold predictions of '{net}'. Received: {sorted(found)}.")
    return found["examples"].tobytes(), found["labels"] == found[net]


def compare(first: Sequence[Path], second: Sequence[Path], *, of: str, against: str) -> Difference:
    """Accuracy of `of` in the runs `first`, and of `against` in `second`, example by example.

    Raises:
      ValueError: the runs were not tested on the same examples.
    """
    one, runs = _by_examples(first, of)
    other, _ = _by_examples(second, against)
    if one.keys() != other.keys():
        raise ValueError(
            "Runs on the same test examples are required on both sides. Received: "
            f"{[str(x) for x in first]} and {[str(x) for x in second]}, which have others."
        )
    a = np.concatenate([one[key] for key in one])
    b = np.concatenate([other[key] for key in one])
    return difference(a, b, runs=runs)


def difference(first: np.ndarray, second: np.ndarray, *, runs: int) -> Difference:
    """Of two nets, by the share of `runs` that was right of each example, (examples,) each."""
    error = float(np.std(first - second, ddof=1)) / np.sqrt(len(first))
    half = NORMAL_95 * error
    return Difference(float(first.mean()), float(second.mean()), half, len(first), runs)


def _by_examples(folders: Sequence[Path], net: str) -> tuple[dict[bytes, np.ndarray], int]:
    """Set of test examples -> share of the runs that were right of each; and how many runs.

    Raises:
      ValueError: some sets have more runs than others, which would weigh more.
    """
    found: dict[bytes, list[np.ndarray]] = {}
    for folder in folders:
        examples, correct = right(folder, net)
        found.setdefault(examples, []).append(correct)
    counts = {len(runs) for runs in found.values()}
    if len(counts) != 1:
        raise ValueError(
            "As many runs of each fold are required. Received: "
            f"{sorted(len(runs) for runs in found.values())} runs of {len(found)} folds."
        )
    return {key: np.mean(runs, axis=0) for key, runs in found.items()}, counts.pop()


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m ec2t_tf.train.paired",
        description="How far apart two nets are on the same test examples.",
    )
    parser.add_argument("runs", nargs="+", type=Path, help="folders of finished runs")
    parser.add_argument(
        "--with",
        dest="second",
        nargs="+",
        type=Path,
        default=None,
        help="folders to compare with; default: the same runs",
    )
    parser.add_argument("--of", choices=NETS, default="ternary", help="net of the runs")
    parser.add_argument(
        "--against", choices=NETS, default=None, help="net to compare with; default: float, or --of"
    )
    given = parser.parse_args(argv)
    against = given.against or ("float" if given.second is None else given.of)
    try:
        print(compare(given.runs, given.second or given.runs, of=given.of, against=against))
    except (FileNotFoundError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
