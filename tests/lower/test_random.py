"""Random models of both doors: the file is exact in both roundings, or `apply` says by name what is
not int8.

`EC2T_MODELS=2000 pytest -m slow -s tests/lower/test_random.py` follows 2,000 of each door;
`EC2T_TEST_SEED` is the first seed.
"""

from __future__ import annotations

import os

import keras
import pytest

from .random_check import Outcome, outcome
from .random_doors import DOORS, names_in_the_table
from .random_models import RandomModel

FIRST = int(os.environ.get("EC2T_TEST_SEED", "0"))
COUNT = int(os.environ.get("EC2T_MODELS", "60"))
FAST, BLOCK = {"keras_3": 4, "tf_keras": 2}, 20
# A file that computes something else is off by the spread of its outputs; roundings are not. Nets
# whose outputs are all but constant say nothing.
LEAST_SPREAD, LARGEST_SHARE = 8.0, 0.5


def fault(found: Outcome) -> str:
    if found.fault:
        return found.fault
    if found.spread > LEAST_SPREAD and found.steps > LARGEST_SHARE * found.spread:
        return f"{found.steps:.1f} steps from Keras on average, outputs spread {found.spread:.1f}"
    return ""


# What Keras says of a model that means nothing (a softmax of one value, a mask that is lost).
pytestmark = [
    pytest.mark.filterwarnings(f"ignore:.*{words}")
    for words in ("includes a `lambda`", "softmax over axis", "does not support masking")
]


@pytest.mark.parametrize(
    ("door", "seed"), [(door, FIRST + i) for door, count in FAST.items() for i in range(count)]
)
def test_random_models(door: str, seed: int) -> None:
    assert not fault(outcome(seed, DOORS[door])), f"seed {seed}"


@pytest.mark.slow
@pytest.mark.parametrize("block", range(FIRST, FIRST + COUNT, BLOCK))
@pytest.mark.parametrize("door", DOORS)
def test_more_random_models(door: str, block: int) -> None:
    faults, refused, floats = {}, 0, 0
    for seed in range(block, min(block + BLOCK, FIRST + COUNT)):
        found = outcome(seed, DOORS[door])
        refused += bool(found.refused)
        floats += bool(found.floats)
        if fault(found):
            faults[seed] = fault(found)
        keras.backend.clear_session()
    print(f"{door}, seeds {block} to {seed}: {refused} refused, {floats} with float parts")
    assert not faults


@pytest.mark.slow
def test_every_layer_of_the_table_is_drawn() -> None:
    missing, seed = names_in_the_table(), FIRST
    while missing:
        assert seed < FIRST + 3000, f"none of 3000 models has {sorted(missing)}"
        model = RandomModel(seed, DOORS["keras_3"]).make()
        missing -= {type(layer).__name__ for layer in model._flatten_layers()}
        missing -= {type(operation).__name__ for operation in model._operations}
        seed += 1
        keras.backend.clear_session()
    print(f"all are in {seed - FIRST} models")
