"""Keras models of random operators against NumPy, on the backend in KERAS_BACKEND.

Run as `KERAS_BACKEND=jax python -m tests.integer.on_backend SEEDS [PATTERN]`; it prints what
differs and ends with the number of values.
"""

from __future__ import annotations

import re
import sys

import numpy as np

from ec2t_tf.export.graph import Graph, Tensor
from ec2t_tf.export.integer import Interpreter, NotExactError, keras_model

from .operators import CASES, inputs_of


def real(codes: np.ndarray, tensor: Tensor) -> np.ndarray:
    if tensor.dtype == "float32" or not tensor.scale.size:
        return codes.astype(np.float32)
    return (codes.astype(np.float32) - np.float32(tensor.zero_point[0])) * tensor.scale[0]


def differences(graph: Graph, rounding: str, rng: np.random.Generator) -> tuple[int, int]:
    """Values that differ, of how many; (0, 0) where it is refused."""
    inputs = inputs_of(graph, rng, 3)
    try:
        net = Interpreter(graph, rounding=rounding)
    except NotExactError:
        return 0, 0
    wanted = net(*inputs)
    wanted = wanted if isinstance(wanted, list) else [wanted]
    model = keras_model(graph, rounding=rounding)
    given = [real(x, graph.tensors[i]) for x, i in zip(inputs, graph.inputs, strict=True)]
    found = model.predict_on_batch(given if len(given) > 1 else given[0])
    found = found if isinstance(found, list | tuple) else [found]
    pairs = [
        (np.asarray(a), real(b, graph.tensors[i]))
        for a, b, i in zip(found, wanted, graph.outputs, strict=True)
    ]
    return sum(int(np.count_nonzero(a != b)) for a, b in pairs), sum(a.size for a, _ in pairs)


def main(seeds: int, pattern: str = "") -> int:
    total = wrong = 0
    for name, make in sorted(CASES.items()):
        if not re.search(pattern, name):
            continue
        for seed in range(seeds):
            for rounding in ("reference", "xnnpack"):
                rng = np.random.default_rng(seed)
                count, size = differences(make(rng), rounding, rng)
                total, wrong = total + size, wrong + count
                if count:
                    print(f"{name}, {rounding}, seed {seed}: {count} of {size} values differ")
    print(f"{wrong} of {total} values differ")
    return int(wrong > 0 or total == 0)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), *sys.argv[2:]))
