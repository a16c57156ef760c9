"""Tables of inverse roots as three numbers: every value is that of the file's table."""

from __future__ import annotations

import numpy as np
import pytest

from ec2t_tf.export.graph.inverse_roots import LARGEST, PLACES, places
from ec2t_tf.export.lower.rules.standardised import inverse_roots
from ec2t_tf.export.mcu.roots import FIRST, Root, root_of, twice_middles

USED = np.unique(places())


def _table(seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    step = (255 * 2.0 ** random.uniform(-12, 4)) ** 2 / 4 / LARGEST
    values = inverse_roots(step, 1e-24 if seed % 5 == 0 else 10.0 ** random.uniform(-7, -2))
    return np.rint(values / values.max() * LARGEST).astype(np.int64)


def _value(root: Root, place: int) -> int:
    """As C looks for it."""
    divisor = int(twice_middles()[place - FIRST]) * root.slope + root.offset
    assert divisor < 1 << 32
    found = 0
    for bit in range(14, -1, -1):
        odd = 2 * (found + (1 << bit)) - 1
        if odd * odd * divisor <= root.limit:
            found += 1 << bit
    return found


@pytest.mark.few(8)
@pytest.mark.parametrize("seed", range(20))
def test_every_value(seed: int) -> None:
    table = _table(seed)
    root = root_of(table, USED)
    assert root is not None
    assert root.limit < 1 << 64
    used = USED[USED >= FIRST]
    assert [_value(root, int(place)) for place in used] == table[used].tolist()


def test_all_writers_tables_are_of_that_form() -> None:
    assert all(root_of(_table(seed), USED) is not None for seed in range(100, 300))


def test_another_table_is_none() -> None:
    table = _table(1)
    table[500] += 3
    assert root_of(table, USED) is None
    assert root_of(np.zeros(PLACES, np.int64), USED) is None


def test_of_an_epsilon_beside_which_nothing_counts() -> None:
    root = root_of(np.full(PLACES, LARGEST), USED)
    assert root is not None
    assert {_value(root, int(place)) for place in USED[USED >= FIRST]} == {LARGEST}
