"""Every method and its options: in docs/methods.md and on the command line."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import ec2t_tf
from ec2t_tf import methods
from ec2t_tf.methods.base import TernaryMethod
from ec2t_tf.tfmot.quantize_config import ternary_layers
from tests import models
from tests.method_contract import Layer


def test_the_example_of_a_new_method(capsys: pytest.CaptureFixture[str]) -> None:
    """docs/methods.md: the program of 30 lines is a method like the others."""
    text = (Path(__file__).parents[1] / "docs" / "methods.md").read_text()
    (program,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    lines = [line for line in program.splitlines() if line.strip()]
    assert len(lines) <= 35
    names: dict = {}
    try:
        exec(compile(program, "docs/methods.md", "exec"), names)
        latent = np.random.default_rng(0).normal(size=(10, 20)).astype(np.float32)
        layer = Layer(methods.get("largest_share"), latent)
        assignment = layer.assign()
        np.testing.assert_array_equal(layer.weights(), assignment.dequantise())
        assert assignment.sparsity == pytest.approx(0.8)
        again = methods.deserialize(methods.serialize(names["LargestShare"](share=0.1)))
        assert again.share == 0.1
        model = models.sequential()
        quantised = ec2t_tf.apply(model, "largest_share")
        (hidden,) = ternary_layers(quantised)
        assert hidden.assign().sparsity == pytest.approx(0.8, abs=0.01)
    finally:
        methods.METHODS.pop("largest_share", None)


def test_docs_name_every_method_and_option() -> None:
    text = (Path(__file__).parents[1] / "docs" / "methods.md").read_text()
    for name, kind in methods.METHODS.items():
        if name == "ecp":  # the treatment `prune` of a policy
            continue
        assert f"`{name}`" in text
        page = text.split(f"\n## {kind.__name__}\n")[1].split("\n## ")[0]
        for option in kind().get_config():
            assert f"`{option}`" in page, (name, option)


def test_command_line_knows_every_method_and_its_knobs() -> None:
    from absl.testing import flagsaver

    from ec2t_tf.train import __main__ as script

    def built(*arguments: str) -> TernaryMethod:
        with flagsaver.flagsaver():
            script.FLAGS(["script", *arguments])
            return script.build_method()

    assert set(script.METHOD_FLAGS) == set(methods.METHODS) - {"ecp"}
    for name, kind in methods.METHODS.items():
        if name == "ecp":  # the treatment `prune` of a policy
            continue
        method = built(f"--method={name}")
        assert type(method) is kind
        assert set(script.METHOD_FLAGS[name]) <= set(method.get_config())
    config = built("--method=twn", "--twn_threshold=exact", "--twn_per_channel").get_config()
    assert config == {"threshold": "exact", "factor": None, "per_channel": True}
    assert built("--method=sparsity_regularized", "--sr_mode=learned").ramp_until is None
