"""What `verify` promises and how it judges: files with state, borders, several ends."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ec2t_tf import export
from ec2t_tf.export import running, verification
from ec2t_tf.export.file_formats import rewrite
from ec2t_tf.export.tflite import read, write
from tests import nets
from tests.graph.test_round_trip import several_ends


class Net:
    """Stands for a model: it predicts."""

    def predict(self) -> None: ...


NET: Any = Net()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("verify")
    (folder / "net.tflite").write_bytes(nets.lenet5())
    for name in ("packed", "sparse", "download"):
        rewrite(nets.lenet5(), format=name, output=folder / f"{name}.tflite")
    return folder


def verified(folder: Path, *names: str, **options: object) -> dict[str, verification.Verification]:
    files = [folder / f"{name}.tflite" for name in names]
    results = verification.verify_files(folder / "net.tflite", files, **options)
    return {key.removeprefix(f"{folder}/"): one for key, one in results.items()}


def test_one_file_need_not_stand_in_a_list(folder: Path) -> None:
    found = export.verify_files(folder / "net.tflite", folder / "packed.tflite", inputs=4)
    (name,) = found
    assert name.endswith("packed.tflite in ec2t_tf")
    assert str(found) == f"{name}: 4 inputs: equal bit for bit, as promised"
    with pytest.raises(ValueError, match="at least one file"):
        export.verify_files(folder / "net.tflite", [])


@pytest.mark.parametrize(
    ("called", "message"),
    [
        (lambda path: export.verify(path, path), r"Received: a file.*verify_files\(reference"),
        (lambda path: export.verify(str(path), path), r"Received: a file.*verify_files\(reference"),
        (lambda path: export.verify(3, path), r"Received: int"),
        (lambda path: export.verify_files(3, [path]), "model or the path.* Received: int"),
        (lambda path: export.verify_files(path, [NET]), r"verify_files requires a file.*to_tflite"),
        (lambda path: export.verify(NET, NET), "verify requires a file.* Received: Net"),
        (lambda path: export.rewrite(NET, format="packed"), "rewrite requires a file.*to_tflite"),
        (lambda path: export.report(NET), "report requires a file.* Received: Net"),
        (lambda path: export.Interpreter(NET), "Interpreter requires a file.* Received: Net"),
        (lambda path: export.unpack(NET), "unpack requires a file.* Received: Net"),
        (lambda path: export.to_tflite(path, NET), r"to_tflite\(model, path\).* Received: path of"),
        (lambda path: export.exact(path), "model of Keras 3 or tf_keras.*Received: PosixPath"),
        (lambda path: export.unwritable(path), "model of Keras 3 or tf_keras.*Received: PosixPath"),
    ],
)
def test_a_model_and_a_file_confused(folder: Path, called: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        called(folder / "net.tflite")


def test_unpack_takes_a_path(folder: Path) -> None:
    path = folder / "download.tflite"
    assert export.unpack(path, to="int8") == export.unpack(path.read_bytes(), to="int8")


def test_files_of_one_net_promise_the_same_bits(folder: Path) -> None:
    results = verified(folder, "packed", "sparse", "download", inputs=16)
    assert list(results) == [
        "packed.tflite in ec2t_tf",
        "sparse.tflite in LiteRT",
        "sparse.tflite in ec2t_tf",
        "download.tflite in ec2t_tf",
    ]
    for one in results.values():
        assert one.exact
        assert one.passes()
        assert str(one) == "16 inputs: equal bit for bit, as promised"


def test_one_bias_changed_by_one_is_not_the_same_bits(folder: Path) -> None:
    graph = read(nets.lenet5())
    bias = next(t for t in graph.tensors if t.data is not None and t.dtype == "int32")
    step = max(1, int(np.abs(bias.data).max()) // 4)
    bias.data = bias.data + np.int32(step)
    (folder / "changed.tflite").write_bytes(write(graph))
    for one in verified(folder, "changed", inputs=16).values():
        assert one.exact
        assert not one.passes()
        assert "the same bits are promised" in str(one)


def test_other_weights_promise_less(folder: Path) -> None:
    graph = read(nets.lenet5())
    kernel = next(t for t in graph.tensors if t.data is not None and t.data.ndim == 4)
    flat = kernel.data.copy().reshape(-1)
    flat[np.flatnonzero(flat)[0]] = 0
    kernel.data = flat.reshape(kernel.shape)
    (folder / "close.tflite").write_bytes(write(graph))
    results = verified(folder, "close", inputs=16)
    assert not any(one.exact for one in results.values())
    assert all("at most" in str(one) for one in results.values())


def difference(steps: np.ndarray, *, classes: int = 4) -> verification.Difference:
    expected = np.zeros((len(steps) // classes, classes), np.float32)
    expected[:, 0] = 50
    return verification.compare(expected, expected + steps.reshape(expected.shape), 1.0)


def test_few_values_may_be_further_off_than_a_step() -> None:
    few, many = np.zeros(4000), np.zeros(4000)
    few[::200], many[::50] = 3, 3
    for steps, passes in ((few, True), (many, False)):
        one = verification.Verification(1000, {"y": difference(steps)})
        assert one.passes() is passes
        assert one.largest_difference == 3
    assert one.passes(most_steps=3)
    assert one.steps == {0: 3920, 3: 80}


def test_top_1_counts_where_it_is_clear() -> None:
    expected = np.array([[5.0, 4.0, 0.0], [5.0, 1.0, 0.0]], np.float32)
    actual = np.array([[4.0, 5.0, 0.0], [1.0, 5.0, 0.0]], np.float32)
    one = verification.compare(expected, actual, 1.0)
    assert one.agreement == 0
    assert one.clear_agreement == 0.5  # one step apart is a tie of roundings


def test_outputs_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="NaN or infinity"):
        verification.compare(np.array([[np.nan]]), np.array([[0.0]]), 1.0)
    with pytest.raises(ValueError, match="one shape"):
        verification.compare(np.zeros((2, 3)), np.zeros((2, 4)), 1.0)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16"])
def test_random_inputs_reach_every_code(dtype: str) -> None:
    graph = read(nets.lenet5())
    tensor = graph.tensors[graph.inputs[0]]
    tensor.dtype = dtype
    if dtype == "int16":
        tensor.zero_point = np.zeros(1, np.int64)
    (inputs,) = running.input_codes(graph, 64)
    codes = np.rint(inputs / tensor.scale[0]) + tensor.zero_point[0]
    limits = np.iinfo(dtype)
    assert codes.min() >= limits.min
    assert codes.max() <= limits.max
    assert len(np.unique(codes)) >= (256 if dtype != "int16" else 30_000)
    (again,) = running.input_codes(graph, 64)
    np.testing.assert_array_equal(inputs, again)


def test_files_of_several_inputs_and_outputs(tmp_path: Path) -> None:
    path = tmp_path / "ends.tflite"
    path.write_bytes(write(several_ends()))
    for one in verification.verify_files(path, [path]).values():
        assert list(one.outputs) == ["cls", "box"]
        assert one.passes()
    with pytest.raises(ValueError, match="each of the net's 2 inputs"):
        verification.verify_files(path, [path], [np.zeros((3, 4))])
    with pytest.raises(ValueError, match=r"\(count, 4\), \(count, 4\)"):
        verification.verify_files(path, [path], [np.zeros((3, 4)), np.zeros((3, 5))])
    zz, aa = np.full((2, 4), 3.0), np.zeros((2, 4))
    one = running.run(path.read_bytes(), [zz.astype(np.float32), aa.astype(np.float32)])
    np.testing.assert_array_equal(one[1].values, np.full((2, 4), 3.0))  # box = zz + aa
    np.testing.assert_array_equal(one[0].values, np.full((2, 4), 6.0))  # cls = zz + box


@pytest.mark.parametrize("file", ["mww__v2_vad", "tflm__trained_lstm_int8", "tinyengine__vww"])
def test_state_and_borders_of_others_files(shared: Path, tmp_path: Path, file: str) -> None:
    source = shared / "models" / "real" / f"{file}.tflite"
    again = tmp_path / "again.tflite"
    rewrite(source, format="int8", output=again)
    results = verification.verify_files(source, [again], inputs=24)
    assert set(results) == {f"{again} in LiteRT", f"{again} in ec2t_tf"}
    for one in results.values():
        assert one.exact
        assert one.passes(), str(one)


def test_state_goes_on_from_input_to_input(shared: Path) -> None:
    """A streaming net hears what came before; an LSTM starts anew."""
    vad = (shared / "models/real/mww__v2_vad.tflite").read_bytes()
    inputs = running.input_codes(read(vad), 12)
    (whole,) = running.run(vad, inputs)
    (alone,) = running.run(vad, [inputs[0][6:]])
    assert not np.array_equal(whole.values[6:], alone.values)
    lstm = (shared / "models/real/tflm__trained_lstm_int8.tflite").read_bytes()
    inputs = running.input_codes(read(lstm), 6)
    (whole,) = running.run(lstm, inputs)
    (alone,) = running.run(lstm, [inputs[0][3:]])
    np.testing.assert_array_equal(whole.values[3:], alone.values)


def test_a_file_for_microcontrollers_is_decoded(folder: Path) -> None:
    rewrite(nets.lenet5(), format="tflm", output=folder / "tflm.tflite")
    results = verified(folder, "tflm", inputs=16)
    assert all(one.exact and one.passes() for one in results.values())
    assert list(results) == ["tflm.tflite in LiteRT", "tflm.tflite in ec2t_tf"]


def test_exact_integers_stand_for_a_runtime_that_is_missing(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without LiteRT's interpreter the same inputs give the same bits, and the words say so."""
    data = running.input_codes(read(nets.lenet5()), 8)[0]
    names = ("net", "packed", "tflm")
    rewrite(nets.lenet5(), format="tflm", output=folder / "tflm.tflite")
    there, _ = verification.run(folder / "net.tflite", data)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
        results = verified(folder, *names, data=data)
        hidden, _ = verification.run(folder / "net.tflite", data)
    assert list(results) == [f"{name}.tflite in exact integers" for name in names]
    for one in results.values():
        assert one.passes()
        assert str(one) == (
            "8 inputs: equal bit for bit, as promised (computed in exact integers: LiteRT's "
            "interpreter cannot be imported here)"
        )
    np.testing.assert_array_equal(there, hidden)


@pytest.mark.parametrize("file", ["mww__v2_vad", "tflm__trained_lstm_int8", "tinyengine__vww"])
def test_exact_integers_keep_state_as_litert_does(shared: Path, file: str) -> None:
    content = (shared / f"models/real/{file}.tflite").read_bytes()
    data = running.input_codes(read(content), 4)
    there, here = (running.run(content, data, runtime) for runtime in ("LiteRT", running.EXACT))
    for one, other in zip(there, here, strict=True):
        assert (one.name, one.step) == (other.name, other.step)
        np.testing.assert_array_equal(one.values, other.values)


def test_without_our_library_packed_files_are_computed_in_exact_integers(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = verified(folder, "packed", inputs=8)
    monkeypatch.setenv("EC2T_LITERT_LIBRARY", str(folder / "nothing.so"))
    results = verified(folder, "packed", "sparse", inputs=8)
    assert list(there) == ["packed.tflite in ec2t_tf"]
    assert list(results) == [
        "packed.tflite in exact integers",
        "sparse.tflite in LiteRT",
        "sparse.tflite in exact integers",
    ]
    assert all(one.passes() and one.largest_difference == 0 for one in results.values())
    assert "the native library of ec2t_tf was not built" in str(
        results["packed.tflite in exact integers"]
    )


def test_exact_integers_see_a_difference(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = read(nets.lenet5())
    bias = next(t for t in graph.tensors if t.data is not None and t.dtype == "int32")
    bias.data = bias.data + np.int32(max(1, int(np.abs(bias.data).max()) // 4))
    (folder / "other.tflite").write_bytes(write(graph))
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    (one,) = verified(folder, "other", inputs=8).values()
    assert not one.passes()
    assert "computed in exact integers" in str(one)
