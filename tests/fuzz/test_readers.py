"""Damaged files through every reader in Python: one clear error, or a graph that is well-formed.

Bytes of valid files are flipped, cut, repeated and overwritten with numbers that hurt.
"""

from __future__ import annotations

import struct
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ec2t_tf.export import formats
from ec2t_tf.export.file_formats import FORMATS, rewrite, unpack
from ec2t_tf.export.file_formats.graph_code import to_stream
from ec2t_tf.export.file_formats.rounding import rounded
from ec2t_tf.export.graph import FileError, Graph, check
from ec2t_tf.export.tflite import read, write
from tests.litert.test_hostile_files import KINDS, net
from tests.litert.test_state_and_ends import several_ends, streaming

from .targets import blobs, compact_seeds

NUMBERS = (0, 1, 127, 128, 255, 256, 4095, 65535, 1 << 24, (1 << 31) - 1, 1 << 31, (1 << 32) - 1)
SECONDS = 2.0  # of processor time, for files of some kilobytes


def files() -> list[bytes]:
    nets = [net(kind) for kind in KINDS] + [several_ends(), streaming()]
    written = [write(each) for each in nets]
    int8 = written[0]
    others = [rewrite(int8, format=name) for name in FORMATS if name in ("sparse", "tflm")]
    return written + [each.content for each in others]


def damaged(content: bytes, rng: np.random.Generator) -> bytes:
    """One to four changes."""
    data = bytearray(content)
    for _ in range(rng.integers(1, 5)):
        at = int(rng.integers(max(len(data) - 4, 1)))
        match rng.integers(7):
            case 0 | 1:
                data[at] ^= 1 << rng.integers(8)
            case 2:
                data[at] = rng.integers(256)
            case 3 | 4:
                struct.pack_into("<I", data, at // 4 * 4, int(rng.choice(NUMBERS)))
            case 5:
                other = int(rng.integers(max(len(data) - 4, 1)))
                data[at // 4 * 4 : at // 4 * 4 + 4] = data[other // 4 * 4 : other // 4 * 4 + 4]
            case _:
                if rng.integers(8) == 0:
                    del data[at:]
                if len(data) < 12:
                    break
    return bytes(data)


def read_again(content: bytes) -> Graph:
    """What is read is well-formed, can be written, and is read again."""
    graph = read(content)
    check(graph)
    again = read(write(graph))
    assert len(again.operators) == len(graph.operators)
    return graph


def attempt(reader: Callable[[bytes], object], content: bytes) -> bool:
    """Whether the reader takes it; all that it may raise is `FileError`, and at once."""
    start = time.process_time()
    try:
        reader(content)
        taken = True
    except (FileError, formats.BlobError):
        taken = False
    except Exception as error:
        raise AssertionError(f"replay with: {content.hex()}") from error
    assert time.process_time() - start < SECONDS, f"replay with: {content.hex()}"
    return taken


def fuzz(
    seeds: list[bytes], reader: Callable[[bytes], object], count: int, rng: np.random.Generator
) -> None:
    for seed in seeds:
        assert attempt(reader, seed)
    outcomes = [
        attempt(reader, damaged(seeds[int(rng.integers(len(seeds)))], rng)) for _ in range(count)
    ]
    assert sum(outcomes) < count


def download_files() -> list[bytes]:
    return [rewrite(write(net("CONV_2D")), format="download").content]


def graph_streams() -> list[bytes]:
    """What stands in a download file behind its checksum."""
    return [to_stream(read(write(net(kind)))) for kind in ("CONV_2D", "DEPTHWISE_CONV_2D")]


def graph_streams_5() -> list[bytes]:
    graph = rounded(read(write(net("CONV_2D"))), 0.5)[0]
    return [to_stream(graph, version=5)]


def stream_of_version_3() -> list[bytes]:
    return [(Path(__file__).parents[1] / "fixtures" / "download_3.ec2d").read_bytes()[12:]]


def of_stream(stream: bytes, version: int = 4) -> bytes:
    """The net of a stream, whatever is wrong with it: its checksum is right."""
    header = struct.pack("<4sHBBI", b"EC2D", version, 0, 0, zlib.crc32(stream))
    return unpack(header + stream, to="int8")


def of_stream_3(stream: bytes) -> bytes:
    return of_stream(stream, 3)


def of_stream_5(stream: bytes) -> bytes:
    return of_stream(stream, 5)


def compact_streams() -> list[bytes]:
    return [bytes([seed[0] & 1]) + seed[1:] for seed in compact_seeds()]


def of_compact(data: bytes) -> formats.Layer:
    """The layer of a compact blob's version and stream: its checksum is right."""
    version, stream = bytes([2 + (data[:1] == b"\1")]), data[1:]
    check = (zlib.crc32(stream) & 0xFFFF).to_bytes(2, "little")
    ends = formats.Ends(0.05, -3, 0.1, 7)
    return formats.unpack_compact(version + check + stream, ends)


CASES: dict[str, tuple[Callable[[], list[bytes]], Callable[[bytes], object], int]] = {
    "tflite": (files, read_again, 1200),
    "blob": (lambda: list(blobs()), formats.unpack, 1200),
    "compact blob": (compact_streams, of_compact, 300),
    "download": (download_files, unpack, 150),
    "graph stream": (graph_streams, of_stream, 150),
    "graph stream of version 5": (graph_streams_5, of_stream_5, 80),
    "graph stream of version 3": (stream_of_version_3, of_stream_3, 40),
}


@pytest.mark.parametrize("name", CASES)
def test_damaged_files_shortly(name, rng):
    seeds, reader, count = CASES[name]
    fuzz(seeds(), reader, count, rng)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_damaged_files_for_long(name, rng):
    seeds, reader, count = CASES[name]
    fuzz(seeds(), reader, 60 * count, rng)
