"""Random operators in exact integers against the runtimes."""

from __future__ import annotations

import os

import numpy as np
import pytest

from ec2t_tf.export import tflite
from ec2t_tf.export.integer import ROUNDINGS, Interpreter, NotExactError

from .operators import CASES, inputs_of
from .runtimes import compute, run

# What LiteRT's own reference does not have, or has wrong (see docs/integer.md).
ORACLES = {("SUM", "reference"): "micro", ("ELU", "reference"): "builtin"}
SEED = int(os.environ.get("EC2T_TEST_SEED", "0"))


def differences(name: str, rounding: str, seed: int, *, samples: int = 4) -> int | None:
    """How many outputs differ in one random net; None where it is refused."""
    rng = np.random.default_rng([SEED, seed])
    graph = CASES[name](rng)
    inputs = inputs_of(graph, rng, samples)
    try:
        found = compute(Interpreter(graph, rounding=rounding), inputs)
    except NotExactError:
        return None
    oracle = ORACLES.get((name, rounding), rounding)
    wanted = run(tflite.write(graph), oracle, inputs)
    return sum(
        int(np.count_nonzero(a.reshape(b.shape) != b)) for a, b in zip(found, wanted, strict=True)
    )


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("name", sorted(CASES))
def test_random_operators_equal_the_runtime(name: str, rounding: str) -> None:
    results = {seed: differences(name, rounding, seed) for seed in range(12)}
    done = {seed: count for seed, count in results.items() if count is not None}
    print(f"EC2T_TEST_SEED={SEED} {name} {rounding}: {len(done)} of {len(results)} computed")
    assert not any(done.values()), f"seeds with values that differ: {done}"
