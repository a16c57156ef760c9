"""A step of a stream against the whole net on every window, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from ec2t_tf.export import tflite
from ec2t_tf.export.graph import Graph
from ec2t_tf.export.graph.streaming import CannotStream, stream
from ec2t_tf.export.integer import Interpreter
from ec2t_tf.export.mcu import emit, ram, to_c
from ec2t_tf.export.mcu.streaming import stream_from_silence
from tests.bench import qemu
from tests.mcu import many_nets
from tests.mcu.random_streams import Draw
from tests.mcu.test_ram import in_any_strips
from tests.nets import NetBuilder

Codes = npt.NDArray[np.int8]
WAKE_WORD = "mlperf_tiny_str_ww_ref_model.tflite"
SLOW_CORES = ("m0", "m3", "m33", "rv32")


def _windows(graph: Graph, frames: int, steps: int, seed: int) -> tuple[Codes, Codes]:
    """New frames [step, frames of a step, ...], and of each step the window that ends with them,
    zeros before the first."""
    entry = graph.tensors[graph.inputs[0]]
    shape = entry.shape
    axis = 2 if len(shape) == 4 and shape[1] == 1 else 1
    one = (*shape[:axis], frames, *shape[axis + 1 :])
    new = np.random.default_rng(seed).integers(-128, 128, (steps, *one)).astype(np.int8)
    silence = np.full(shape, int(entry.zero_point[0]), np.int8)
    everything = np.concatenate([silence, *new], axis)
    size = shape[axis]
    places = [range((i + 1) * frames, (i + 1) * frames + size) for i in range(steps)]
    windows = np.concatenate([np.take(everything, place, axis) for place in places])
    return new.reshape(steps, *one[1:]), windows


def _wanted(model: bytes, steps: int, seed: int) -> tuple[Codes, Codes]:
    """New frames and the outputs of the whole net on its windows."""
    graph = tflite.read(model)
    new, windows = _windows(graph, stream(graph).frames, steps, seed)
    return new, np.asarray(Interpreter(graph)(windows)).reshape(steps, -1)


def _compare(
    models: list[bytes], folder: Path, core: str, *, steps: int = 6, optimize: str = ""
) -> None:
    pairs = [_wanted(model, steps, seed) for seed, model in enumerate(models)]
    values = [new.reshape(steps, -1) for new, _ in pairs]
    if core == "host":
        got = many_nets.on_host(
            models, values, folder, sanitize=True, stream=True, optimize=optimize
        )
    else:
        if qemu.missing_tools(core):
            pytest.skip(qemu.missing_tools(core))
        got = many_nets.on_core(core, models, values, folder, stream=True, optimize=optimize)
    assert not many_nets.differences(range(len(models)), got, [want for _, want in pairs])


@pytest.mark.parametrize("first", range(0, 200, 50))
def test_the_streaming_graph_gives_the_windows_bits(first: int) -> None:
    numbers = []
    for seed in range(first, first + 50):
        graph = tflite.read(Draw(seed).model)
        found = stream_from_silence(graph)
        new, windows = _windows(graph, found.frames, 5, seed)
        want, step = Interpreter(graph)(windows), Interpreter(found.graph)
        got = np.concatenate([step(one[None]) for one in new])
        np.testing.assert_array_equal(got, want, err_msg=f"seed {seed}")
        numbers.append(len(np.unique(want)))
    assert np.mean(numbers) > 5  # nets whose outputs do not vary would prove nothing


@pytest.mark.few(2)
@pytest.mark.parametrize("core", ["host", "m4", "m0", "m55"])
def test_c_gives_the_windows_bits(tmp_path: Path, core: str) -> None:
    first, count = {"host": (1000, 30), "m4": (2000, 20), "m0": (3000, 20), "m55": (4000, 20)}[core]
    _compare([Draw(seed).model for seed in range(first, first + count)], tmp_path, core)


@pytest.mark.slow
@pytest.mark.parametrize("core", ["host", "m0", "m3", "m4", "m7", "m33", "m55", "rv32"])
def test_many_in_c_give_the_windows_bits(tmp_path: Path, core: str) -> None:
    _compare([Draw(seed).model for seed in range(5000, 5100)], tmp_path, core, steps=10)


def _wide_maps(seed: int) -> bytes:
    """A net of a step so wide that the rows of a step are computed in strips."""
    net = NetBuilder((1, 48, 20, 2), seed=seed)
    x = net.conv(net.input, 4, (3, 3), zeros=0.6, same=False)
    x = net.conv(x, 16 + 8 * (seed % 5), (3, 3), zeros=0.6, same=False)
    x = net.pool(net.conv(x, 4, (1, 1), zeros=0.6), (4, 1), (4, 1), maximum=seed % 2 == 0)
    x = net.conv(x, 6, (3, 3), (1, 2), zeros=0.6, same=False)
    return net.finish(net.dense(net.mean(x), 5))


def _can_be_in_strips(model: bytes) -> bool:
    step = stream_from_silence(tflite.read(model)).graph
    return any(True for _ in ram.regions(step, []))


@pytest.mark.parametrize(
    "core",
    ["host", *(pytest.param(core, marks=pytest.mark.slow) for core in ("m0", "m4", "m55", "rv32"))],
)
@pytest.mark.parametrize("strips", ["least RAM", "any"])
def test_steps_in_strips_give_the_windows_bits(
    tmp_path: Path, core: str, strips: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows stay whole; what is computed of them is in strips."""
    choose = {"least RAM": emit.with_least_ram, "any": in_any_strips}[strips]
    changed: list[bool] = []

    def chosen(graph: Graph, core: str, cost: ram.Cost) -> Graph:
        found = choose(graph, core, cost)
        changed.append(len(found.operators) > len(graph.operators))
        return found

    monkeypatch.setattr(emit, "with_least_ram", chosen)
    models = [_wide_maps(seed) for seed in range(10)]
    if strips == "any":
        drawn = [Draw(seed).model for seed in range(7000, 7150)]
        models += [model for model in drawn if _can_be_in_strips(model)]
    _compare(models, tmp_path, core, optimize="ram")
    assert len(changed) == len(models)
    assert all(changed[:10])
    assert sum(changed) > len(models) / 2


@pytest.mark.parametrize("core", ["host", "m4"])
def test_the_wake_word_net(shared: Path, tmp_path: Path, core: str) -> None:
    model = (shared / "models" / WAKE_WORD).read_bytes()
    _compare([model], tmp_path, core, steps=100)


@pytest.mark.parametrize(
    "core", ["m4", "m55", *(pytest.param(c, marks=pytest.mark.slow) for c in SLOW_CORES)]
)
def test_a_step_of_the_wake_word_net_is_a_tenth_of_its_window(
    shared: Path, tmp_path: Path, core: str
) -> None:
    if qemu.missing_tools(core):
        pytest.skip(qemu.missing_tools(core))
    report = to_c(shared / "models" / WAKE_WORD, tmp_path, core=core, stream=True, measure=True)
    of = report.stream
    assert of is not None
    assert report.instructions is not None
    assert of.window_instructions is not None
    assert (of.frames, of.window) == (1, 30)
    assert of.macs / of.window_macs < 0.06
    assert report.instructions <= of.window_instructions / 10
    assert f"{of.window_instructions:,}" in str(report)
    header = (tmp_path / "model.h").read_text()
    assert "#define MODEL_FRAMES 1" in header
    assert "#define MODEL_INPUT_SIZE 40" in header
    assert "int model_step(const int8_t input" in header
    assert "void model_reset(" in header


# --- what cannot stream -----------------------------------------------------------------------


def _padded_same(net: NetBuilder) -> int:
    return net.mean(net.conv(net.input, 4, (3, 1)))


def _causal_and_mean(net: NetBuilder) -> int:
    padded = net.pad(net.input, [[0, 0], [2, 0], [0, 0], [0, 0]])
    return net.mean(net.conv(padded, 4, (3, 1), same=False))


def _padded_behind(net: NetBuilder) -> int:
    return net.mean(net.pad(net.input, [[0, 0], [0, 1], [0, 0], [0, 0]]))


def _gate(net: NetBuilder) -> int:
    x = net.conv(net.input, 4, (3, 1), same=False)
    gate = net.elementwise("LOGISTIC", net.mean(x, keep=True), 1 / 256, -128)
    out = net.like(x, net.shape(x))
    return net.mean(net.operator("MUL", [x, gate], out, None))


def _joined_in_time(net: NetBuilder) -> int:
    return net.mean(net.concatenate([net.input, net.input], 1))


def _upsampled(net: NetBuilder) -> int:
    return net.mean(net.transpose_conv(net.input, 4, (3, 1), (1, 1)))


REFUSED: dict[Callable[[NetBuilder], int], str] = {
    _padded_same: "CONV_2D .*padding='same' puts 2 columns of zeros .*padding='valid'",
    _causal_and_mean: "PAD .* cannot stream: MEAN .* reads the 2 first columns.*'valid'",
    _padded_behind: "PAD .*1 columns behind the newest frame.*Pad in front",
    _gate: "MUL .* follows from the whole window, changes every column.*last mean or dense",
    _joined_in_time: "CONCATENATION .*joins along time. Join along channels",
    _upsampled: "TRANSPOSE_CONV .*may mix moments.*use convolutions, poolings",
}


@pytest.mark.parametrize("make", REFUSED, ids=lambda make: make.__name__.strip("_"))
def test_what_cannot_stream_is_refused_by_name(
    tmp_path: Path, make: Callable[[NetBuilder], int]
) -> None:
    net = NetBuilder((1, 24, 1, 3), seed=1)
    model = net.finish(make(net))
    with pytest.raises(CannotStream, match=REFUSED[make]):
        to_c(model, tmp_path / "net", stream=True)
    assert not (tmp_path / "net").exists()


def test_inputs_without_time_are_refused(tmp_path: Path) -> None:
    net = NetBuilder((1, 24), seed=1)
    with pytest.raises(CannotStream, match=r"\(1, frames, features\)"):
        to_c(net.finish(net.dense(net.input, 3)), tmp_path, stream=True)
    net = NetBuilder((1, 24, 1, 3), seed=1)
    other = net.tensor((1, 24, 1, 3), 0.03, 4)
    model = net.finish(net.mean(net.add(net.input, other)), inputs=[other])
    with pytest.raises(CannotStream, match="one input"):
        to_c(model, tmp_path, stream=True)


def test_a_window_shorter_than_a_step_is_refused(tmp_path: Path) -> None:
    """Strides 2 and 3 side by side: a step has six frames."""
    net = NetBuilder((1, 6, 1, 3), seed=1)
    parts = [
        net.mean(net.pool(net.input, (1, 1), (stride, 1), maximum=True), keep=True)
        for stride in (2, 3)
    ]
    with pytest.raises(CannotStream, match="longer window, or smaller strides"):
        to_c(net.finish(net.concatenate(parts, 3)), tmp_path, stream=True)


def test_nets_with_state_are_refused(shared: Path, tmp_path: Path) -> None:
    with pytest.raises(CannotStream, match="keeps state from call to call already"):
        to_c(shared / "models" / "real" / "mww__v2_vad.tflite", tmp_path, stream=True)
