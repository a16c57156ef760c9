"""Zeros a layer right after `apply`, for nets with heavy tails: published start, default, TWN.

    python -m tests.bench.zeros_at_start FILE.h5 ...

Files that Keras 3 opens are treated in Keras 3, the others in tf_keras.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import keras
import numpy as np

import ec2t_tf
from ec2t_tf.callbacks import ternary_layers
from ec2t_tf.methods import EC2T, TWN

METHODS = {"published": EC2T(start="published"), "default": EC2T(), "TWN": TWN()}


def opened(path: str) -> Any:
    try:
        return keras.models.load_model(path, compile=False)
    except (TypeError, ValueError):  # written by an old Keras
        import tf_keras

        return tf_keras.models.load_model(path, compile=False)


def main(paths: list[str]) -> None:
    print("| net | layers | " + " | ".join(METHODS) + " |")
    for path in paths:
        model, cells = opened(path), []
        for method in METHODS.values():
            trained = ec2t_tf.apply(model, method, verbose=0)
            zeros = 100 * np.array([x.assign().sparsity for x in ternary_layers(trained)])
            above = int((zeros > 95).sum())
            cells.append(f"{np.median(zeros):.1f} / {zeros.max():.1f} ({above})")
        print(f"| {Path(path).stem} | {len(zeros)} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main(sys.argv[1:])
