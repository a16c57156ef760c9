"""Numbers and words through the adaptive coder."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from ec2t_tf.export.formats.number_coder import Reader, StreamError, Writer

SEED = 31


def _fields(random: np.random.Generator) -> list[tuple[str, str, object]]:
    """Method, field and value, at random."""
    words = ["", "conv", "dense", "Straße", "x" * 70]
    found: list[tuple[str, str, object]] = []
    for _ in range(400):
        size = int(random.integers(0, 63))
        number = int(random.integers(0, 1 << size, dtype=np.uint64)) if size else 0
        field = str(random.choice(["a", "b"]))
        float_bits = struct.unpack("<I", struct.pack("<f", random.normal()))[0]
        found.append(
            [
                ("flag", field, bool(random.integers(2))),
                ("number", field, number),
                ("number", field, (1 << size) - 1),
                ("signed", field, number if random.integers(2) else -number),
                ("float32", field, float_bits),
                ("text", field, str(random.choice(words))),
                ("data", field, random.bytes(int(random.integers(9)))),
            ][int(random.integers(7))]
        )
    return found


def test_what_was_written_is_read() -> None:
    fields = _fields(np.random.default_rng(SEED))
    writer = Writer(["dense"])
    for method, field, value in fields:
        assert getattr(writer, method)(field, value) == value
    stream = writer.finish()
    reader = Reader(stream, ["dense"], most=1 << 20)
    nothing = {"text": "", "data": b"", "flag": False}
    for method, field, value in fields:
        assert getattr(reader, method)(field, nothing.get(method, 0)) == value
    assert reader.ended()


def test_what_comes_up_often_costs_little() -> None:
    writer = Writer(["CONV_2D"])
    for _ in range(1000):
        writer.text("kind", "CONV_2D")
        writer.number("size", 5)
    assert len(writer.finish()) < 40


def test_symbols_are_those_of_the_range_coder() -> None:
    random = np.random.default_rng(SEED)
    shapes = [(4, 3, 3, 5), (7, 1, 1, 40)]
    layers = [random.choice([-1, 0, 0, 0, 1], int(np.prod(s))).astype(np.int8) for s in shapes]
    writer = Writer()
    for symbols, shape in zip(layers, shapes, strict=True):
        writer.symbols(symbols, shape)
    reader = Reader(writer.finish(), most=1 << 20)
    for symbols, shape in zip(layers, shapes, strict=True):
        np.testing.assert_array_equal(reader.symbols(np.zeros_like(symbols), shape), symbols)


def _read_on(reader: Reader) -> None:
    for _ in range(10_000):
        reader.data("bytes", b"")
        reader.text("word", "")
        reader.take("more", 1)


@pytest.mark.parametrize("stream", [b"", b"\xff" * 300, bytes(range(256)) * 4])
def test_any_stream_ends(stream: bytes) -> None:
    """Behind its end a stream goes on with zeros: what is read from it is bounded all the same."""
    with pytest.raises((StreamError, UnicodeDecodeError)):
        _read_on(Reader(stream, ["one"], most=500))
