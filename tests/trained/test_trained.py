"""Every trained net that comes with the package gives the outputs that were stored with it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ec2t_tf.export import report
from ec2t_tf.export.running import run
from ec2t_tf.train import tasks, trained
from ec2t_tf.train.trained.recount import recounted

PLACES = {"tfds_dir": "tfds", "data_dir": "data/hand_signs"}


@pytest.mark.parametrize("name", trained.names())
class TestNet:
    def test_outputs(self, name: str) -> None:
        inputs, labels, outputs = trained.examples(name)
        assert inputs.shape[1:] == trained.card(name).input_shape
        (found,) = run(trained.path(name).read_bytes(), [inputs], "ec2t_tf")
        np.testing.assert_array_equal(found.values, outputs)
        assert (outputs.argmax(axis=1) == labels).mean() > 0.5

    def test_card(self, name: str) -> None:
        card = trained.card(name)
        file = report(trained.path(name))
        assert file.file_bytes == card.packed_bytes <= 100_000
        assert file.zeros == pytest.approx(card.zeros, abs=5e-4)
        assert set(card.cores) == {"m4", "m0", "m55"}
        assert card.ternary_accuracy > card.float_accuracy - 0.02
        assert name in trained.table().text()
        assert card.command.startswith("ec2t train --")
        assert str(card).count("instructions in QEMU") == 3

    @pytest.mark.slow
    def test_counts(self, name: str) -> None:
        """Today's kernels give the card's; else: python -m ec2t_tf.train.trained.recount."""
        if not all(shutil.which(tool) for tool in ("arm-none-eabi-gcc", "qemu-system-arm")):
            pytest.skip("arm-none-eabi-gcc and qemu-system-arm are needed")
        assert recounted(name) == trained.card(name).cores

    @pytest.mark.slow
    def test_accuracy(self, name: str, request: pytest.FixtureRequest) -> None:
        """The whole test set gives the card's figure."""
        card = trained.card(name)
        words = dict(word[2:].split("=", 1) for word in card.command.split()[2:])
        places = {key: PLACES[key] for key in PLACES if key in words}
        if words["dataset"] not in tasks.OWN:
            places["tfds_dir"] = PLACES["tfds_dir"]
        shared = request.getfixturevalue("shared") if places else Path()
        data = tasks.load(
            words["dataset"],
            split=words.get("split", "random"),
            **{key: str(shared / place) for key, place in places.items()},
        )
        inputs = np.asarray(data.normalise(data.test.inputs))
        (found,) = run(trained.path(name).read_bytes(), [inputs], "ec2t_tf")
        accuracy = (found.values.argmax(axis=1) == data.test.labels).mean()
        assert accuracy == pytest.approx(card.ternary_accuracy, abs=1e-6)


def test_unknown() -> None:
    with pytest.raises(ValueError, match="Received: 'none'"):
        trained.path("none")


def test_listed_without_tensorflow() -> None:
    code = (
        "import sys\nfrom ec2t_tf.__main__ import main\nassert main(['zoo']) == 0\n"
        "assert main(['zoo', 'none']) == 2\nassert 'tensorflow' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for name in trained.names():
        assert name in done.stdout
    assert "Received: 'none'" in done.stderr
