"""Random models: the file is exact in both roundings, or `apply` says by name what is not int8."""

from __future__ import annotations

import os

import keras
import pytest

import ec2t_tf
from ec2t_tf.export.integer import NotExactError

from .models import trained
from .nets import differences
from .random_models import RandomModel

FIRST = int(os.environ.get("EC2T_TEST_SEED", "0"))


def check(seed: int) -> None:
    print(f"replay: seed {seed}")
    keras.utils.set_random_seed(seed)
    model = RandomModel(seed).make()
    try:
        made, (data,) = trained(model, steps=1, policy=ec2t_tf.Policy([ec2t_tf.Rule("ternary")]))
    except ec2t_tf.UnsupportedLayerError as refused:
        found, why = {}, str(refused)
    else:
        try:
            found, why = differences(made, {"x": data[:4]}), ""
        except NotExactError:
            found, why = {}, "".join(f"Received: '{n}'" for n in made.ec2t_report.of("float"))
    assert found or "Received: '" in why  # by name
    for rounding, (exact, _) in found.items():
        assert exact == 0, f"seed {seed}, {rounding}"


@pytest.mark.parametrize("seed", range(FIRST, FIRST + 2))
def test_random_models(seed: int) -> None:
    check(seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(FIRST + 2, FIRST + 60))
def test_more_random_models(seed: int) -> None:
    check(seed)
