"""Zeros a layer right after `apply`, for nets with heavy tails: published start, default, TWN.

    python -m tests.bench.zeros_at_start FILE.h5 ...

A cell is the median / the most of all ternary layers, and how many have more than 95 %. Files that
Keras 3 opens are treated there and in tf_keras, the others in tf_keras.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np

import ec2t_tf
from ec2t_tf.callbacks import ternary_layers
from ec2t_tf.methods import EC2T, TWN
from ec2t_tf.methods.base import TernaryMethod

METHODS = {"published": EC2T(start="published"), "default": EC2T(), "TWN": TWN()}


def opened(path: str) -> Iterator[tuple[str, Any]]:
    """The file in each Keras that opens it."""
    with contextlib.suppress(TypeError, ValueError):  # written by an old Keras
        yield "Keras 3", keras.models.load_model(path, compile=False)
    import tf_keras

    yield "tf_keras", tf_keras.models.load_model(path, compile=False)


def cell(model: Any, method: TernaryMethod) -> tuple[int, str]:
    trained = ec2t_tf.apply(model, method, verbose=0)
    zeros = 100 * np.array([x.assign().sparsity for x in ternary_layers(trained)])
    above = int((zeros > 95).sum())
    return len(zeros), f"{np.median(zeros):.1f} / {zeros.max():.1f} ({above})"


def main(paths: list[str]) -> None:
    print("| net | in | layers | " + " | ".join(METHODS) + " |")
    print("|---" * (3 + len(METHODS)) + "|")
    for path in paths:
        for library, model in opened(path):
            found = [cell(model, method) for method in METHODS.values()]
            cells = " | ".join(text for _, text in found)
            print(f"| {Path(path).stem} | {library} | {found[0][0]} | {cells} |", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
