"""`format="download"` and `unpack`."""

import hashlib
import lzma
from pathlib import Path

import numpy as np
import pytest

from ec2t_tf.export import formats
from ec2t_tf.export.file_formats import plain, unpack
from ec2t_tf.export.file_formats.download import _HEADER, _LAYER, _as_it_is, stream_bytes
from ec2t_tf.export.file_formats.layers import find_layers
from ec2t_tf.export.graph import FileError
from ec2t_tf.export.tflite import read, write
from ec2t_tf.train.trained.cards import FOLDER as TRAINED
from tests.fixtures.write import small_net
from tests.nets import mobilenet, odds_and_ends
from tests.tflite.fixtures import download, packed

VERSION_3 = Path(__file__).parents[1] / "fixtures" / "download_3.ec2d"
VERSION_3_HOLDS = "16fb4a99827e26f2f6731e1ef0b5169597e814839bd7b09d49fb150b3c525bd6"
NETS = ("lenet5", "resnet8", "depthwise")
OWN = {"mobilenet": mobilenet, "odds and ends": odds_and_ends, "small": small_net}


@pytest.fixture(scope="module")
def files(int8_nets):
    """Version 2, which any file can have."""
    return {net: _as_it_is(int8_nets[net], "size") for net in NETS}


@pytest.fixture(scope="module")
def graphs():
    """Files of our writer, and what they are as version 4."""
    own = {name: write(read(make())) for name, make in OWN.items()}
    return {name: (file, download(file)) for name, file in own.items()}


@pytest.mark.no_cover  # long in Python; other tests run its lines
@pytest.mark.parametrize("net", NETS)
def test_comes_back_bit_for_bit(int8_nets, files, net):
    assert unpack(files[net], to="int8") == int8_nets[net]
    assert unpack(files[net]) == packed(int8_nets[net])


@pytest.mark.parametrize("net", OWN)
def test_files_of_our_writer_come_back_bit_for_bit(graphs, net):
    own, file = graphs[net]
    old = _as_it_is(own, "size")
    assert (file[4], old[4]) == (4, 2)
    assert len(file) < len(old)
    assert unpack(file, to="int8") == unpack(old, to="int8") == own
    assert unpack(file) == packed(own)
    assert 0 < stream_bytes(file) < 1.01 * stream_bytes(old) + 8


def test_version_3_is_read():
    """A file of an earlier writer, by the checksum of what it was made of."""
    int8 = unpack(VERSION_3, to="int8")
    assert hashlib.sha256(int8).hexdigest() == VERSION_3_HOLDS
    assert stream_bytes(VERSION_3.read_bytes()) == 615


@pytest.mark.no_cover  # long in Python; other tests run its lines
def test_a_trained_resnet8():
    """ResNet-8 on Fashion-MNIST at 79.8 % zeros, of the trained nets."""
    own = plain(TRAINED / "fashion_resnet8_80.tflite")
    file = download(own)
    assert (len(file), len(download(own, names=False))) == (9624, 9602)
    assert unpack(file, to="int8") == own


def test_names_go_on_request(graphs):
    own, file = graphs["small"]
    nameless = download(own, names=False)
    assert len(nameless) < len(file)
    net = read(unpack(nameless, to="int8"))
    assert not net.signatures
    assert not any(tensor.name for tensor in net.tensors)
    for tensor, other in zip(net.tensors, read(own).tensors, strict=True):
        np.testing.assert_array_equal(tensor.scale, other.scale)
        if other.data is not None:
            np.testing.assert_array_equal(tensor.data, other.data)
    packed_net = packed(own, names=False)
    assert len(packed_net) <= len(packed(own))
    assert not any(tensor.name for tensor in read(packed_net).tensors)


@pytest.mark.parametrize("net", NETS)
def test_smaller_than_the_others(int8_nets, files, net):
    """A file of another writer comes back byte for byte; its packed form need not keep its
    structure, and may be a little smaller."""
    size = len(files[net])
    assert size < 1.04 * len(packed(int8_nets[net]))
    assert size < len(lzma.compress(int8_nets[net]))


@pytest.mark.parametrize("net", NETS)
def test_streams_are_near_the_entropy(int8_nets, files, net):
    layers, _ = find_layers(read(int8_nets[net]))
    entropy = sum(
        formats.first_order_entropy_bytes(formats.ternary_codes(layer.rows).symbols)
        for layer in layers
    )
    # Random weights have nothing for the contexts to find; each layer costs a few bytes to learn.
    assert stream_bytes(files[net]) < 1.02 * entropy + 12 * len(layers)


def test_the_goal_of_packing_is_kept(int8_nets):
    file = download(int8_nets["lenet5"], optimize="speed")
    assert unpack(file) == packed(int8_nets["lenet5"], optimize="speed")


def test_other_files_and_words_are_refused(int8_nets, files):
    with pytest.raises(ValueError, match="starts with b'EC2D'"):
        unpack(int8_nets["lenet5"])
    with pytest.raises(ValueError, match="'float'"):
        unpack(files["lenet5"], to="float")
    with pytest.raises(ValueError, match="'beauty'"):
        download(int8_nets["lenet5"], optimize="beauty")
    newer = bytearray(files["lenet5"])
    newer[4] = 6
    with pytest.raises(ValueError, match=r"versions 1 to 5\. Received: version 6"):
        unpack(bytes(newer))


@pytest.mark.parametrize("version", [2, 3, 4])
def test_damaged_files_are_refused(graphs, version):
    own, newest = graphs["small"]
    file = {2: _as_it_is(own, "size"), 3: VERSION_3.read_bytes(), 4: newest}[version]
    assert file[4] == version
    rng = np.random.default_rng(5)
    for length in rng.integers(0, len(file), 10):
        with pytest.raises(ValueError):  # noqa: PT011 (several messages, all ValueError)
            unpack(file[:length])
    for _ in range(12):
        flipped = bytearray(file)
        position = int(rng.integers(len(file)))
        flipped[position] ^= 1 << rng.integers(8)
        if position == 6:
            continue  # the goal: another packed file, the same weights
        with pytest.raises(ValueError):  # noqa: PT011
            unpack(bytes(flipped))


def test_a_bomb_is_refused():
    """A header that promises gigabytes."""
    bomb = lzma.compress(bytes(1 << 20), lzma.FORMAT_RAW, filters=[{"id": lzma.FILTER_LZMA2}])
    header = b"EC2D\x01\x00\x00\x00" + np.array([1 << 31, 0, 0, len(bomb), 0], "<u4").tobytes()
    with pytest.raises(ValueError, match="not valid"):
        unpack(header + bomb)


def test_a_layer_named_ten_times_is_refused(files):
    """Decoded ten times it would take ten times as long."""
    file = files["lenet5"]
    header = list(_HEADER.unpack(file[: _HEADER.size]))
    start = _HEADER.size + header[-2]
    _, operator, _, stream_size, flags, *_ = _LAYER.unpack(file[start : start + _LAYER.size])
    assert flags == 0
    record = file[start : start + _LAYER.size + stream_size]
    header[-1] = 10
    with pytest.raises(FileError, match=f"the weights of operator {operator} come twice"):
        unpack(_HEADER.pack(*header) + file[_HEADER.size : start] + 10 * record)
