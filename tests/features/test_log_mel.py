"""Log-mel features in C: their NumPy twin in every bit, the float ones but for a code of 256."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from ec2t_tf.export.features import LogMel, fixed_point, to_c
from tests.bench import qemu
from tests.features.on_cores import on_core, on_host

NET = {"mean": -8.0, "std": 3.0, "scale": 0.035, "zero_point": -30}  # about those of spoken_digit
KINDS = [
    LogMel(8000),  # 512 points: 256 complex ones, a power of 4
    LogMel(16000),  # 1024: twice a power of 4
    LogMel(8000, window_ms=30, hop_ms=10, bands=10, frames=7),
    LogMel(4000, window_ms=25, hop_ms=25, bands=5, frames=3),
    LogMel(8000, window_ms=8, hop_ms=4, bands=4, frames=5),
]


def sounds_of(features: LogMel, seed: int) -> npt.NDArray[np.int16]:
    """Tones, noise, silence, clicks, squares at full scale: loud and hardly audible ones."""
    random = np.random.default_rng(seed)
    time = np.arange(features.samples) / features.rate
    hertz = random.uniform(60.0, 0.45 * features.rate, 4)[:, None]
    tones = np.sin(2.0 * np.pi * hertz * time)
    click = (np.arange(features.samples) == features.samples // 3) * -1.0
    noise = random.standard_normal((3, features.samples))
    shapes = np.stack([*tones, *np.sign(tones), click, *noise / np.abs(noise).max()])
    loudness = 10.0 ** random.uniform(-3.2, 0.0, (len(shapes), 1))
    found = [0 * shapes[:1], shapes, shapes * loudness]
    return np.clip(np.rint(np.concatenate(found) * 32768.0), -32768, 32767).astype(np.int16)


def float_codes(features: LogMel, sounds: npt.NDArray[np.int16], **net: float) -> np.ndarray:
    """The codes of the float features, with float32 sounds made equally loud."""
    loud = sounds / 32768.0
    loud *= fixed_point.PEAK / np.maximum(np.abs(loud).max(axis=1, keepdims=True), 1e-3)
    values = (features(loud.astype(np.float32)) - net["mean"]) / net["std"] / net["scale"]
    return np.clip(np.rint(values) + net["zero_point"], -128, 127)


@pytest.mark.parametrize("features", KINDS, ids=str)
def test_c_is_its_twin(features: LogMel, tmp_path: Path) -> None:
    to_c(features, tmp_path, **NET)
    sounds = sounds_of(features, seed=features.fft)
    found = on_host(tmp_path, features, sounds)
    np.testing.assert_array_equal(
        found, fixed_point.codes(sounds, fixed_point.tables(features, **NET))
    )
    off = np.abs(found - float_codes(features, sounds, **NET))
    assert off.max() <= 1
    assert (found > -128).any()  # not all silence
    assert (off > 0).mean() < 0.02


def test_the_transform_is_a_transform() -> None:
    """Powers of random frames, against NumPy's transform of the same whole numbers."""
    features = LogMel(8000)
    made = fixed_point.tables(features, **NET)
    random = np.random.default_rng(4)
    frame = random.integers(-(2**21), 2**21, features.fft)
    arrays = {name: values for name, (_, values) in made.arrays.items()}
    re, im = frame[0::2][arrays["order"]], frame[1::2][arrays["order"]]
    for factor, quarter in fixed_point._passes(features.fft // 2):
        re, im = fixed_point._joined(re, im, factor, quarter, arrays["sine"])
    found = np.sqrt(fixed_point._powers(re, im, arrays["sine"]) * 2.0**16)
    expected = np.abs(np.fft.rfft(frame))[: features.fft // 2]
    np.testing.assert_allclose(found, expected, atol=1e-6 * expected.max() + 512)


@pytest.mark.parametrize("core", ["m0", "m4"])
def test_on_a_core(core: str, tmp_path: Path) -> None:
    if qemu.missing_tools(core):
        pytest.skip(qemu.missing_tools(core))
    features = KINDS[0]
    to_c(features, tmp_path, **NET)
    sounds = sounds_of(features, seed=1)[[0, 3, 11, 14]]
    found, counts = on_core(core, tmp_path, features, sounds)
    np.testing.assert_array_equal(
        found, fixed_point.codes(sounds, fixed_point.tables(features, **NET))
    )
    print(core, [count.instructions for count in counts])
    assert max(count.instructions for count in counts) < {"m4": 2_000_000, "m0": 14_000_000}[core]


def test_others_are_refused(tmp_path: Path) -> None:
    for features, net, message in (
        (LogMel(48000, window_ms=100), {}, "32 to 4096 points"),
        (LogMel(8000, window_ms=8, bands=32), {}, "Every mel band must hold a bin"),
        (LogMel(8000), {"std": 0.0}, "std and scale must be positive"),
        (LogMel(8000), {"mean": np.nan}, "all of them finite"),
    ):
        with pytest.raises(ValueError, match=message):
            to_c(features, tmp_path / "none", **{**NET, **net})
        assert not (tmp_path / "none").exists()


def test_the_headers_compile_strictly(tmp_path: Path) -> None:
    to_c(LogMel(8000), tmp_path, **NET)
    flags = ["-std=c11", "-O2", "-ffreestanding", "-pedantic", "-Wshadow", *qemu.WARNINGS]
    command = ["gcc", *flags, "-c", str(tmp_path / "log_mel.c"), "-o", str(tmp_path / "object.o")]
    subprocess.run(command, check=True)


@pytest.mark.slow
@pytest.mark.parametrize("split", ["random", "speaker"])
def test_all_of_spoken_digit(split: str, tmp_path: Path, shared: Path) -> None:
    """At most one code of 256 off the features that the nets were trained on, in every clip."""
    from ec2t_tf.train.tasks import speech
    from ec2t_tf.train.trained import cards

    name = {"random": "digits_ds_cnn_80", "speaker": "digits_ds_cnn_80_speakers"}[split]
    card = cards.card(name)
    with np.load(cards.FOLDER / f"{name}.npz") as kept:
        scale, zero_point = float(kept["scale"]), int(kept["zero_point"])
    net = {"mean": card.mean[0], "std": card.std[0], "scale": scale, "zero_point": zero_point}
    features = LogMel(8000)
    builder = speech.builder_of("spoken_digit", str(shared / "tfds"), "audio")
    clips, _, _ = speech._clips(builder, "train")
    sounds = np.stack([whole(clip, features.samples) for clip in clips])
    to_c(features, tmp_path, **net)
    found = on_host(tmp_path, features, sounds, sanitize=False)
    np.testing.assert_array_equal(
        found[::50], fixed_point.codes(sounds[::50], fixed_point.tables(features, **net))
    )
    placed = speech.placed(clips, features.samples, None)
    values = (features(placed) - card.mean[0]) / card.std[0] / scale
    off = np.abs(found - np.clip(np.rint(values) + zero_point, -128, 127))
    print(f"{split}: {len(clips)} clips, {(off > 0).mean():.5%} of the codes differ, by one")
    assert len(clips) == 3000
    assert off.max() <= 1


def whole(clip: npt.NDArray[np.float32], samples: int) -> npt.NDArray[np.int16]:
    """A clip in the middle of silence, as recorded: the C makes it loud."""
    out = np.zeros(samples, np.int16)
    room = samples - len(clip)
    start = abs(room) // 2
    as_read = np.rint(clip * 32768.0).astype(np.int16)
    if room >= 0:
        out[start : start + len(clip)] = as_read
    else:
        out[:] = as_read[start : start + samples]
    return out
