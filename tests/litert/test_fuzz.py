"""libFuzzer with AddressSanitizer and UBSan on the delegate's intake of blobs and shapes."""

import shutil
import subprocess
import zlib
from pathlib import Path

import numpy as np
import pytest

from ec2t_tf.export import formats
from ec2t_tf.export.kernels import build as kernels
from ec2t_tf.export.litert import library

HERE = Path(__file__).resolve().parent
FLAGS = (
    "-g",
    "-O1",
    "-fsanitize=fuzzer,address,undefined",
    "-fno-sanitize-recover=all",
    "-pthread",
)
# Memory by single allocations: the resident size that libFuzzer sees starts with its parent's.
LIMITS = ("-seed=7", "-max_len=1024", "-timeout=120", "-rss_limit_mb=0", "-malloc_limit_mb=256")


def seeds():
    """Valid blobs behind twelve bytes: shapes, zero points, alignment and mode."""
    rng = np.random.default_rng(31)
    shapes = bytes([1, 3, 3, 1, 0, 1, 3, 3, 2, 0])  # 4x4 pixels, 2 channels to 3
    scales = formats.Scales(0.1, 0.1, np.full(3, 0.01, np.float32))
    for index, encoding in enumerate(formats.Encoding):
        weights = rng.choice((0, 127, -85), p=(0.6, 0.2, 0.2), size=(3, 3, 3, 2)).astype(np.int8)
        layer = formats.Layer(
            formats.Operator.CONV_2D,
            weights,
            scales,
            bias=np.arange(3, dtype=np.int32),
            padding="SAME",
        )
        yield shapes + bytes([index % 4, index % 4]) + formats.pack(layer, encoding=encoding)


def fuzz(folder, *limits):
    if shutil.which("clang") is None:
        pytest.skip("not installed: clang")
    sources = [HERE / "fuzz_delegate.c", *library.sources()]
    try:
        program = kernels.build(
            folder / "fuzz_delegate",
            target=kernels.Target(kernels.host_target().architecture, ("clang",)),
            extra_sources=sources,
            flags=(*FLAGS, f"-I{library.ROOM}", *library.LIBRARIES),
        )
    except kernels.CompileError as error:
        if "libclang_rt" in str(error):
            pytest.skip("not installed: libclang-rt (clang's sanitizers)")
        raise
    corpus = folder / "corpus"
    corpus.mkdir()
    for index, seed in enumerate(seeds()):
        (corpus / f"{index:02}").write_bytes(seed)
        blob = bytearray(seed[12:])
        blob[-1] ^= 1  # past the checksum: a damaged stream with a right one
        blob[12:16] = zlib.crc32(bytes(blob[16:])).to_bytes(4, "little")
        (corpus / f"{index:02}d").write_bytes(seed[:12] + bytes(blob))
    done = subprocess.run(
        [str(program), *LIMITS, *limits, str(corpus)],
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stderr


def test_fuzz_shortly(tmp_path):
    assert "DONE" in fuzz(tmp_path, "-runs=20000", "-max_total_time=20")


@pytest.mark.slow
def test_fuzz_for_ten_minutes(tmp_path):
    assert "DONE" in fuzz(tmp_path, "-max_total_time=600")
