"""`verify_c`: C that is run beside the exact integers of its file, with state and without."""

from __future__ import annotations

from pathlib import Path

import pytest

from ec2t_tf.export import c_verification, commands, verify_c
from ec2t_tf.export.mcu import to_c
from tests import nets
from tests.bench import qemu
from tests.mcu.test_ends_and_state import _models


@pytest.mark.parametrize("core", ["generic", "m4"])
def test_state_and_several_ends(core: str) -> None:
    if core != "generic" and qemu.missing_tools(core):
        pytest.skip(qemu.missing_tools(core))
    for model in _models() if core == "generic" else _models()[2:]:
        result = verify_c(model, core=core, calls=6, seed=1)
        assert result.inputs == 6
        assert result.passes(), result


def test_a_micro_wake_word_model_over_40_calls(shared: Path) -> None:
    result = verify_c(shared / "models" / "real" / "mww__v2_vad.tflite", calls=40)
    assert result.passes(), result


def test_says_that_another_net_is_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """C of other weights in the place of the file's."""
    monkeypatch.setattr(
        c_verification, "to_c", lambda _, folder, **o: to_c(nets.lenet5(seed=9), folder, **o)
    )
    result = verify_c(nets.lenet5(), calls=2)
    assert not result.passes()


def test_state_that_is_lost_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that resets before every call."""

    def forgetful(model: bytes, folder: Path, **options: object) -> None:
        to_c(model, folder, **options)  # type: ignore[arg-type]
        text = (folder / "net.c").read_text()
        head, _, rest = text.partition("int net_invoke(")
        arguments, brace, body = rest.partition("{")
        text = f"{head}int net_invoke({arguments}{brace} net_reset(arena);{body}"
        (folder / "net.c").write_text(text)

    monkeypatch.setattr(c_verification, "to_c", forgetful)
    assert not verify_c(_models()[2], calls=6, seed=1).passes()


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "net.tflite"
    file.write_bytes(nets.lenet5())
    assert commands.main(["verify", str(file), "--cores=generic", "--inputs=3"]) == 0
    assert f"{file}, C for generic: 3 inputs" in capsys.readouterr().out


def test_names_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"calls must be at least 1\. Received: 0"):
        verify_c(nets.lenet5(), calls=0)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ValueError, match="a C compiler is required"):
        verify_c(nets.lenet5())
    with pytest.raises(ValueError, match="Missing: make, arm-none-eabi-gcc, qemu-system-arm"):
        verify_c(nets.lenet5(), core="m4")
