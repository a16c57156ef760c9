"""The int8 file: what it holds, what it computes, what is refused."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
import tf_keras
from ai_edge_litert.interpreter import Interpreter
from tf_keras import layers

import ec2t_tf
from ec2t_tf import export
from ec2t_tf.export.tflite import read
from ec2t_tf.tfmot.quantize_config import ternary_layers
from tests import models
from tests.kernels_of import kernels_of
from tests.tflite.fixtures import RESOLVERS


@pytest.fixture(scope="module")
def ternary() -> tf_keras.Model:
    """Trained, with some negative batch normalisation gains, which mirror a channel's codes."""
    model = models.convolutional()
    gamma = model.get_layer("norm").gamma
    gamma.assign(gamma * tf.constant([1.0, -1.0, 1.0, -1.0]))
    return models.trained(ec2t_tf.apply(model), epochs=4)


@pytest.fixture(scope="module")
def path(ternary: tf_keras.Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export.to_tflite(ternary, tmp_path_factory.mktemp("export") / "model.tflite")


class TestInt8File:
    def test_kernels_are_the_assignment(self, ternary: tf_keras.Model, path: Path) -> None:
        """Signs in the file are the assignment's, mirrored where the gain is negative."""
        kernels = kernels_of(path.read_bytes())
        assert [k.operator.kind for k in kernels] == ["CONV_2D"] * 2 + ["FULLY_CONNECTED"] * 2
        assert [kernel.is_ternary for kernel in kernels] == [False, True, True, False]
        middle, hidden = (layer.assign() for layer in ternary_layers(ternary))
        expected = np.moveaxis(middle.codes, -1, 0).reshape(4, -1)
        mirror = np.array([1, -1, 1, -1])[:, None]
        np.testing.assert_array_equal(np.sign(kernels[1].codes), expected * mirror)
        np.testing.assert_array_equal(np.sign(kernels[2].codes), hidden.codes.T)
        ratio = hidden.levels / np.abs(hidden.levels).max()
        codes = np.unique(kernels[2].codes)
        np.testing.assert_array_equal(
            codes, np.rint(127 * ratio[np.isin([-1, 0, 1], hidden.codes)])
        )

    def test_nothing_float_inside(self, path: Path) -> None:
        graph = read(path)
        names = [operator.kind for operator in graph.operators]
        assert names[0] == "QUANTIZE"
        assert names[-1] == "DEQUANTIZE"
        inside = [i for operator in graph.operators[1:-1] for i in operator.inputs]
        assert {graph.tensors[i].dtype for i in inside} <= {"int8", "int32"}

    def test_file_computes_what_training_showed(self, ternary: tf_keras.Model, path: Path) -> None:
        images, _ = models.examples(200, seed=1)
        check = export.verify(ternary, path, images)
        assert check.inputs == 200
        # tf_keras computes in floats, and a step of this output is 0.002.
        assert check.largest_difference <= 4
        assert sum(n for step, n in check.steps.items() if step > 1) <= 0.02 * 200 * 4
        assert check.agreement >= 0.98
        exactly = export.exact(ternary, rounding="xnnpack")
        assert export.verify(exactly, path, images).largest_difference == 0
        assert "200 inputs: at most" in str(check)

    def test_verification_sees_a_difference(
        self, ternary: tf_keras.Model, path: Path, tmp_path: Path
    ) -> None:
        """A changed weight does not go unnoticed."""
        content = bytearray(path.read_bytes())
        kernel = kernels_of(bytes(content))[2].tensor.data.tobytes()
        start = bytes(content).index(kernel)
        content[start : start + len(kernel)] = bytes(len(kernel))
        damaged = tmp_path / "damaged.tflite"
        damaged.write_bytes(content)
        check = export.verify(ternary, damaged, models.examples()[0])
        assert check.largest_difference > 1

    def test_int8_input_and_output(self, ternary: tf_keras.Model, tmp_path: Path) -> None:
        path = export.to_tflite(ternary, tmp_path / "io.tflite", io_dtype="int8")
        graph = read(path)
        ends = (*graph.inputs, *graph.outputs)
        assert [graph.tensors[i].dtype for i in ends] == ["int8", "int8"]
        images, _ = models.examples()
        assert export.verify(ternary, path, images).largest_difference <= 4
        exactly = export.exact(ternary, rounding="xnnpack")
        assert export.verify(exactly, path, images).largest_difference == 0

    def test_plain_model_with_representative_data(
        self, ternary: tf_keras.Model, tmp_path: Path
    ) -> None:
        plain = ec2t_tf.strip(ternary)
        images, _ = models.examples()
        path = tmp_path / "plain.tflite"
        with pytest.raises(ValueError, match="representative_data"):
            export.to_tflite(plain, path)
        export.to_tflite(plain, path, representative_data=list(images))
        kernels = kernels_of(path.read_bytes())
        assert [kernel.is_ternary for kernel in kernels] == [False, True, True, False]


class TestOtherFormats:
    """Written from the checked int8 file; each room tests its own format in depth."""

    @pytest.mark.parametrize("format", ["sparse", "packed", "download", "tflm"])
    def test_is_written(self, ternary: tf_keras.Model, tmp_path: Path, format: str) -> None:
        path = export.to_tflite(ternary, tmp_path / "model.tflite", format=format)
        assert path.stat().st_size > 400

    def test_int4_needs_levels_on_its_grid(self, ternary: tf_keras.Model, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="7"):
            export.to_tflite(ternary, tmp_path / "model.tflite", format="int4")
        assert not (tmp_path / "model.tflite").exists()

    def test_download_turns_back_into_int8(self, ternary: tf_keras.Model, tmp_path: Path) -> None:
        download = export.to_tflite(ternary, tmp_path / "d.tflite", format="download")
        int8 = export.to_tflite(ternary, tmp_path / "i.tflite")
        assert export.unpack(download.read_bytes(), to="int8") == int8.read_bytes()


class TestPromises:
    """Float is what `apply` said, and nothing else."""

    def test_float_part(self, tmp_path: Path) -> None:
        model = tf_keras.Sequential(
            [
                layers.InputLayer((6,), dtype="int32"),
                layers.Embedding(9, 4, name="table"),
                layers.Flatten(),
                layers.Dense(4, name="first"),
                layers.Dense(4, name="hidden"),
                layers.Dense(2, name="last"),
            ]
        )
        quantised = ec2t_tf.apply(model, policy={"table": "float"})
        assert quantised.ec2t_report.of("float") == ["table"]
        quantised(np.arange(12).reshape(2, 6) % 9, training=True)
        path = tmp_path / "model.tflite"
        with pytest.warns(DeprecationWarning, match="allow_float goes"):
            export.to_tflite(quantised, path, allow_float=True)
        graph = read(export.to_tflite(quantised, path))
        floats = {
            graph.tensors[i].name.split("/")[0]
            for operator in graph.operators
            if operator.kind not in ("QUANTIZE", "DEQUANTIZE")
            for i in operator.outputs
            if graph.tensors[i].dtype == "float32"
        }
        assert floats == {"table"}
        assert [kernel.is_ternary for kernel in kernels_of(path.read_bytes())][1]

    def test_bad_options(self, ternary: tf_keras.Model, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="Received: format='int7'"):
            export.to_tflite(ternary, tmp_path / "x.tflite", format="int7")
        with pytest.raises(ValueError, match="io_dtype"):
            export.to_tflite(ternary, tmp_path / "x.tflite", io_dtype="int4")
        with pytest.raises(ValueError, match="Received: int"):
            export.to_tflite(3, tmp_path / "x.tflite")

    def test_folder_that_does_not_exist(self, ternary: tf_keras.Model, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError, match="existing folder"):
            export.to_tflite(ternary, tmp_path / "nowhere" / "x.tflite")


class TestReport:
    def test_adds_up_to_the_file(self, path: Path) -> None:
        report = export.report(path)
        content = path.read_bytes()
        parts = sum(k.weights_bytes + k.bias_bytes + k.table_bytes for k in report.kernels)
        assert parts + report.other_bytes + report.structure_bytes == len(content)
        assert report.file_bytes == path.stat().st_size
        # Not by definition: every buffer is really in the file, and the tables are too.
        for kernel, row in zip(kernels_of(content), report.kernels, strict=True):
            assert kernel.tensor.data.tobytes() in content
            assert row.weights_bytes == kernel.tensor.data.nbytes
            assert kernel.tensor.scale.tobytes() in content
            bias = kernel.bias
            assert bias is not None
            assert row.bias_bytes == bias.data.nbytes
            channels = len(kernel.tensor.scale) + len(bias.scale)
            assert 0 < row.table_bytes <= 12 * channels  # equal lists are in the file once
        names = sum(len(tensor.name) for tensor in read(content).tensors)
        assert report.structure_bytes > names

    def test_measures(self, ternary: tf_keras.Model, path: Path) -> None:
        report, table = export.report(path), ec2t_tf.summary(ternary)
        assert report.zeros == pytest.approx(table.zeros)
        assert [k.name for k in report.kernels] == [row.layer for row in table.rows]
        for kernel, row in zip(report.ternary, table.ternary, strict=True):
            assert kernel.zeros == pytest.approx(row.zeros)
            if kernel.name == "hidden":  # "middle" has mirrored channels, which mix the signs
                assert kernel.entropy == pytest.approx(row.entropy)
            assert kernel.bound_bytes >= kernel.entropy * row.weights / 8
        assert "bytes on disk" in str(report)


class TestHostileFiles:
    def test_not_a_tflite_file(self, tmp_path: Path) -> None:
        path = tmp_path / "x.tflite"
        for content in (b"", b"TFL3", b"\0" * 64, b"\x10\0\0\0TFL3" + b"\xff" * 40):
            path.write_bytes(content)
            with pytest.raises(export.FileError, match=r"required|damaged"):
                export.report(path)

    def test_cut_and_flipped_files(self, path: Path, tmp_path: Path) -> None:
        """An error that says so, or a report: never another exception."""
        content = path.read_bytes()
        generator = random.Random(7)
        damaged = tmp_path / "damaged.tflite"
        refused = 0
        for trial in range(60):
            data = bytearray(content)
            if trial % 2:
                data = data[: generator.randrange(len(data))]
            for _ in range(generator.randrange(1, 20)):
                if data:
                    data[generator.randrange(len(data))] = generator.randrange(256)
            damaged.write_bytes(data)
            try:
                export.report(damaged)
            except export.FileError:
                refused += 1
        assert refused > 20


def test_command_line(ternary: tf_keras.Model, tmp_path: Path) -> None:
    ternary.save(tmp_path / "model.keras")
    np.save(tmp_path / "images.npy", models.examples()[0])
    output = tmp_path / "model.tflite"
    command = [sys.executable, "-m", "ec2t_tf.export", f"--model={tmp_path / 'model.keras'}"]
    command += [f"--output={output}", f"--verify={tmp_path / 'images.npy'}"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "bytes on disk" in done.stdout
    assert "64 inputs: at most" in done.stdout
    assert kernels_of(output.read_bytes())[1].is_ternary
    folder = tmp_path / "model_c"
    to_c = [*command[:4], f"--output={folder}", "--format=c", "--core=m4"]
    done = subprocess.run(to_c, capture_output=True, text=True, check=True)
    assert "bytes of flash" in done.stdout
    assert (folder / "model.c").exists()
    command[3] = f"--model={tmp_path / 'missing.keras'}"
    failed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert failed.returncode == 2
    assert "error: load_model requires" in failed.stderr


class TestExact:
    @pytest.mark.parametrize("rounding", ["reference", "xnnpack"])
    def test_equals_the_file(self, ternary: tf_keras.Model, path: Path, rounding: str) -> None:
        images, _ = models.examples(200, seed=1)
        interpreter = Interpreter(
            str(path), experimental_op_resolver_type=RESOLVERS[rounding], num_threads=1
        )
        interpreter.allocate_tensors()
        (entry,), (end,) = interpreter.get_input_details(), interpreter.get_output_details()
        expected = np.asarray(export.exact(ternary, rounding=rounding)(images))
        for image, values in zip(images, expected, strict=True):
            interpreter.set_tensor(entry["index"], image[None])
            interpreter.invoke()
            np.testing.assert_array_equal(interpreter.get_tensor(end["index"])[0], values)
