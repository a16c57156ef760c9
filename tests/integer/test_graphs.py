"""Random nets of several operators in exact integers against the runtimes."""

from __future__ import annotations

import os

import numpy as np
import pytest

from ec2t_tf.export import tflite
from ec2t_tf.export.integer import ROUNDINGS, Interpreter, NotExactError
from tests.mcu.random_graphs import Draw

from .runtimes import compute, run
from .test_files import input_codes

SEED = int(os.environ.get("EC2T_TEST_SEED", "0")) * 1_000_000


def differences(seed: int, rounding: str) -> int | None:
    """How many outputs differ; None where an operator is refused."""
    content = Draw(seed).model
    graph = tflite.read(content)
    inputs = input_codes(graph, np.random.default_rng(seed), 3)
    try:
        found = compute(Interpreter(graph, rounding=rounding), inputs)
    except NotExactError:
        return None
    wanted = run(content, rounding, inputs)
    return sum(
        int(np.count_nonzero(a.reshape(b.shape) != b)) for a, b in zip(found, wanted, strict=True)
    )


def check(rounding: str, seeds: range) -> None:
    results = {seed: differences(seed, rounding) for seed in seeds}
    done = {seed: count for seed, count in results.items() if count is not None}
    print(f"{rounding}, seeds {seeds}: {len(done)} of {len(results)} computed")
    assert done
    assert not any(done.values()), f"values that differ by seed: {done}"


@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_random_graphs_equal_the_runtime(rounding: str) -> None:
    check(rounding, range(SEED, SEED + 20))


@pytest.mark.slow
@pytest.mark.parametrize("rounding", ROUNDINGS)
def test_many_random_graphs_equal_the_runtime(rounding: str) -> None:
    check(rounding, range(SEED + 20, SEED + 1000))
