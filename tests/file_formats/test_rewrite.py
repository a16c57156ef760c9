"""`rewrite`, the list of formats, and what damaged and hostile files of them end in."""

from __future__ import annotations

import time
import warnings
from pathlib import Path

import numpy as np
import pytest

from ec2t_tf import export
from ec2t_tf.export import commands, file_formats
from ec2t_tf.export.file_formats import FORMATS, download, rewrite
from ec2t_tf.export.graph import FileError
from ec2t_tf.export.tflite import read, write
from tests import nets
from tests.fixtures.write import small_net
from tests.tflite.fixtures import dense_net, random_inputs, run

STORED = Path(__file__).parent.parent / "fixtures" / "v0_1_0"


@pytest.fixture(scope="module")
def small() -> bytes:
    return small_net()


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_written(small: bytes, tmp_path: Path, name: str) -> None:
    path = tmp_path / f"net{FORMATS[name].suffix}"
    done = rewrite(small, format=name, output=path)
    assert path.read_bytes() == done.content
    assert (done.format, done.bytes_before, done.bytes_after) == (
        name,
        len(small),
        path.stat().st_size,
    )
    assert str(done).startswith(f"{done.bytes_after:,} bytes ({name}; before: {len(small):,})")
    runtimes = file_formats.runtimes_of(done.content)
    assert set(runtimes) <= set(FORMATS[name].runtimes) | {"TFLM"}
    assert bool(runtimes) == bool(FORMATS[name].runtimes)
    if "LiteRT" in runtimes and FORMATS[name].exact:
        inputs = random_inputs(small, 4)
        np.testing.assert_array_equal(run(done.content, inputs), run(small, inputs))


def test_export_has_it_too(small: bytes) -> None:
    assert export.rewrite is rewrite
    assert export.unpack is file_formats.unpack


def test_download_files_are_a_source_too(small: bytes) -> None:
    packed = rewrite(rewrite(small, format="download").content, format="packed").content
    assert packed == rewrite(small, format="packed").content


@pytest.mark.parametrize("name", ["int8", "tflm", "download", "packed"])
def test_a_net_without_ternary_layers(name: str) -> None:
    done = rewrite(dense_net(), format=name)
    assert done.bytes_after < len(dense_net())
    said = {
        "int8": "",
        "tflm": "nothing to pack",
        "download": "compressed as it is: 1 layer: it has more than three codes",
        "packed": "nothing to pack; names, notes and what the file held twice went",
    }[name]
    assert said in str(done)
    if name == "download":
        assert file_formats.unpack(done.content, to="int8") == dense_net()
        unpacked = file_formats.unpack(done.content)
        inputs = random_inputs(dense_net(), 3)
        np.testing.assert_array_equal(run(unpacked, inputs), run(dense_net(), inputs))


def test_a_refusal_is_short() -> None:
    """Each reason once, however many layers."""
    net = nets.NetBuilder((1, 6, 6, 8), seed=5)
    x = net.input
    for _ in range(30):
        x = net.conv(x, 8, (3, 3), zeros=None)
    model = net.finish(x)
    for name in ("sparse", "int4"):
        with pytest.raises(FileError, match="30 layers: it has more than three codes") as error:
            rewrite(model, format=name)
        assert len(str(error.value)) < 300


def test_a_file_that_is_not_smaller_is_said() -> None:
    net = nets.NetBuilder((1, 4, 4, 2), seed=5)
    model = rewrite(net.finish(net.conv(net.input, 2, (1, 1), zeros=0.5)), format="int8").content
    assert "not smaller" in str(rewrite(model, format="sparse"))


def test_unknown_words(small: bytes) -> None:
    with pytest.raises(ValueError, match=r"format must be one of int8, .*'zip'"):
        rewrite(small, format="zip")
    with pytest.raises(ValueError, match="optimize is an option of packed, download"):
        rewrite(small, format="sparse", optimize="size")


@pytest.mark.parametrize("old", ["sparse", "int4", "packed", "download", "align_to_int4"])
def test_former_names_warn(small: bytes, old: str) -> None:
    from ec2t_tf.export import tflite

    with pytest.warns(DeprecationWarning, match=r"now ec2t_tf\.export\.rewrite"):
        former = getattr(tflite, old)
    name = "int8_on_int4_levels" if old == "align_to_int4" else old
    assert former(small) == rewrite(small, format=name).content


def test_former_errors_are_the_one_error() -> None:
    import importlib

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        former = importlib.import_module("ec2t_tf.export.tflite_file")
        assert former.FileError is FileError is export.FileError
        assert former.ConversionError is export.ConversionError


class TestDownload:
    def test_a_file_of_version_1_comes_back(self) -> None:
        file = (STORED / "small_download.ec2d").read_bytes()
        assert file[4] == 1
        int8 = file_formats.unpack(file, to="int8")
        assert int8 == (STORED / "small_int8.tflite").read_bytes()

    def test_shared_scales_come_back(self, small: bytes) -> None:
        """Two layers whose biases share a list of scales in the file."""
        graph = read(small)
        assert len({tensor.scale.tobytes() for tensor in graph.tensors}) < len(graph.tensors)
        content = write(graph)
        assert file_formats.unpack(download.to_download(content), to="int8") == content

    def test_one_layer_ten_times(self, small: bytes) -> None:
        """In a file of version 2, which has a record for each layer."""
        file = bytearray(download._as_it_is(small, "size"))
        header = download._Header._make(download._HEADER.unpack_from(file))
        start = download._HEADER.size + header.compressed_size
        first = download._LAYER.unpack_from(file, start)
        size = download._LAYER.size + first[3] + {0: 0, 1: 2, 2: 24}[first[4]]
        record = bytes(file[start : start + size])
        hostile = download._HEADER.pack(*header._replace(layers=10))
        hostile += bytes(file[download._HEADER.size : start]) + record * 10
        started = time.process_time()
        with pytest.raises(FileError, match="come twice"):
            file_formats.unpack(hostile)
        assert time.process_time() - started < 0.5

    def test_more_weights_than_bytes_can_tell(self, small: bytes) -> None:
        """A few bytes of stream for 16 million weights."""
        graph = read(small)
        layer = next(o for o in graph.operators if o.kind == "FULLY_CONNECTED")
        graph.operators = [layer]
        graph.inputs, graph.outputs = layer.inputs[:1], layer.outputs
        shapes = {layer.inputs[0]: (1, 4096), layer.outputs[0]: (1, 4096)}
        for index, shape in shapes.items():
            graph.tensors[index].shape = shape
        weights, bias = (graph.tensors[index] for index in layer.inputs[1:])
        weights.data = np.zeros((4096, 4096), np.int8)
        weights.shape = weights.data.shape
        bias.data = np.zeros(4096, np.int32)
        bias.shape = bias.data.shape
        for tensor in (weights, bias):
            tensor.scale, tensor.zero_point = np.ones(1, np.float32), np.zeros(1, np.int64)
        skeleton = download._compressed(write(graph))
        size = len(write(graph))
        header = download._Header(b"EC2D", 2, 0, 0, size, 0, 0, len(skeleton), 1)
        record = download._LAYER.pack(0, 0, 9, 4, 0, 1, -1) + bytes(4)
        started = time.process_time()
        with pytest.raises(FileError, match=r"not valid|at most [0-9,]* weights"):
            file_formats.unpack(download._HEADER.pack(*header) + skeleton + record)
        assert time.process_time() - started < 0.5


class TestCommandLine:
    @pytest.mark.parametrize("command", ["report", "sizes", "rewrite", "verify", "unpack"])
    @pytest.mark.parametrize("content", [b"", b"TFL3", b"EC2D" + bytes(40), bytes(64)])
    def test_rubbish_is_one_line_and_2(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, content: bytes
    ) -> None:
        file = tmp_path / "rubbish.tflite"
        file.write_bytes(content)
        rest = {
            "rewrite": ["--format=packed", f"--output={tmp_path / 'out'}"],
            "verify": [str(file)],
            "unpack": [f"--output={tmp_path / 'out'}"],
        }.get(command, [])
        assert commands.main([command, str(file), *rest]) == 2
        assert capsys.readouterr().err.count("\n") == 1
        assert not (tmp_path / "out").exists()

    def test_notes_are_printed(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        file = tmp_path / "net.tflite"
        file.write_bytes(dense_net())
        command = ["rewrite", str(file), "--format=tflm", f"--output={tmp_path / 'out'}"]
        assert commands.main(command) == 0
        assert "nothing to pack" in capsys.readouterr().out


@pytest.mark.no_cover  # long in Python; other tests run its lines
@pytest.mark.parametrize("name", FORMATS)
def test_damaged_files_are_rewritten_or_refused(small: bytes, name: str) -> None:
    """`FileError` or a file that reads; what is unpacked first comes back even if damaged."""
    rng = np.random.default_rng(FORMATS[name].suffix.encode()[1] + len(name))
    written = 0
    for _ in range(40):
        damaged = bytearray(small)
        for position in rng.integers(len(small) - 4000, len(small) - 4, rng.integers(1, 4)):
            damaged[position] ^= 1 << rng.integers(8)
        try:
            content = rewrite(bytes(damaged), format=name).content
        except FileError:
            continue
        written += 1
        if (unpack := FORMATS[name].unpack) is not None:
            assert unpack(content) == damaged
        else:
            read(content)
    assert written > 0


class TestPlain:
    """The readers: every format comes back to plain int8."""

    @pytest.mark.parametrize("net", ["small", *nets.NETS])
    @pytest.mark.parametrize("name", FORMATS)
    def test_it_computes_the_same(self, small: bytes, net: str, name: str) -> None:
        source = small if net == "small" else nets.NETS[net]()
        try:
            file = rewrite(source, format=name).content
        except FileError as error:
            assert "k/7" in str(error)  # noqa: PT017
            return
        again = FORMATS[name].read(file)
        assert not {one.kind for one in read(again).operators if one.custom is not None}
        inputs = random_inputs(source, 3)
        expected = source if FORMATS[name].exact else file
        for kernels in ("reference", *(["xnnpack"] if FORMATS[name].exact else [])):
            np.testing.assert_array_equal(
                run(again, inputs, kernels), run(expected, inputs, kernels)
            )

    def test_any_format_from_any(self, small: bytes) -> None:
        files = {name: rewrite(small, format=name).content for name in FORMATS}
        inputs = random_inputs(small, 3)
        for first, file in files.items():
            for second in FORMATS:
                again = file_formats.plain(rewrite(file, format=second).content)
                expected = run(small, inputs, "reference")
                off = np.abs(run(again, inputs, "reference") - expected).max()
                exact = FORMATS[first].exact and FORMATS[second].exact
                assert off <= (0 if exact else 1), f"{first} to {second}"

    def test_damaged_blobs_and_streams(self, small: bytes) -> None:
        rng = np.random.default_rng(3)
        for name in ("packed", "tflm"):
            file = rewrite(small, format=name).content
            graph = read(file)
            blobs = [t.data for t in graph.tensors if t.data is not None and t.dtype == "uint8"]
            blobs = [blob.tobytes() for blob in blobs]
            blobs += [one.custom for one in graph.operators if one.custom and name == "packed"]
            refused = 0
            for _ in range(30):
                damaged = bytearray(file)
                blob = blobs[rng.integers(len(blobs))]
                start = file.index(blob)
                damaged[start + rng.integers(min(len(blob), 24))] ^= 1 << rng.integers(8)
                try:
                    file_formats.plain(bytes(damaged))
                except FileError:
                    refused += 1
            assert refused > 0

    def test_c_from_a_packed_file(self, tmp_path: Path) -> None:
        """The same files as from the int8 file."""
        model = nets.lenet5()
        for name in ("int8", "packed", "download"):
            export.to_c(rewrite(model, format=name).content, tmp_path / name)
        int8 = (tmp_path / "int8" / "model.c").read_text()
        assert (tmp_path / "download" / "model.c").read_text() == int8
        assert len((tmp_path / "packed" / "model.c").read_text()) > 1000
