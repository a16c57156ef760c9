"""Random models: the file is exact in both roundings, or `apply` says by name what is not int8.

`EC2T_MODELS=2000 pytest -m slow tests/lower/test_random.py` follows 2,000; `EC2T_TEST_SEED` is the
first seed.
"""

from __future__ import annotations

import os

import keras
import pytest

from .random_check import Outcome, outcome

FIRST = int(os.environ.get("EC2T_TEST_SEED", "0"))
COUNT = int(os.environ.get("EC2T_MODELS", "60"))
FAST, BLOCK = 4, 20
# A file that computes something else is off by the spread of its outputs; roundings are not. Nets
# whose outputs are all but constant say nothing.
LEAST_SPREAD, LARGEST_SHARE = 8.0, 0.5


def fault(found: Outcome) -> str:
    if found.fault:
        return found.fault
    if found.spread > LEAST_SPREAD and found.steps > LARGEST_SHARE * found.spread:
        return f"{found.steps:.1f} steps from Keras on average, outputs spread {found.spread:.1f}"
    return ""


@pytest.mark.parametrize("seed", range(FIRST, FIRST + FAST))
@pytest.mark.filterwarnings("ignore:.*includes a `lambda`")
def test_random_models(seed: int) -> None:
    assert not fault(outcome(seed)), f"seed {seed}"


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*includes a `lambda`")
@pytest.mark.parametrize("block", range(FIRST + FAST, FIRST + COUNT, BLOCK))
def test_more_random_models(block: int) -> None:
    faults, refused, floats = {}, 0, 0
    for seed in range(block, min(block + BLOCK, FIRST + COUNT)):
        found = outcome(seed)
        refused += bool(found.refused)
        floats += bool(found.floats)
        if fault(found):
            faults[seed] = fault(found)
        keras.backend.clear_session()
    print(f"seeds {block} to {seed}: {refused} refused, {floats} with float parts")
    assert not faults
