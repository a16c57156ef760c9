"""libFuzzer with AddressSanitizer and UBSan over parser, decoders, preparation and kernels.

The corpus is made here, from small blobs of every encoding. `make test-slow` fuzzes ten minutes.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from ec2t_tf.export.formats import Encoding, FixedPoint, Layer, Operator, Scales, pack
from ec2t_tf.export.kernels import build

from .conftest import CACHE, HERE

FLAGS = ("-g", "-O1", "-fsanitize=fuzzer,address,undefined", "-fno-sanitize-recover=all")
# Memory by single allocations: the resident size that libFuzzer sees starts with its parent's.
LIMITS = ("-seed=7", "-max_len=1024", "-timeout=120", "-rss_limit_mb=0", "-malloc_limit_mb=256")


def seeds(encodings: Iterable[Encoding] = Encoding) -> list[bytes]:
    rng = np.random.default_rng(51)
    blobs = []
    for encoding in encodings:
        for shape, changes in [
            ((3, 3, 3, 2), {"padding": "SAME"}),
            ((5, 1, 1, 9), {"bias": None}),
            ((2, 2, 3, 1), {"strides": (2, 2), "padding": ((1, 0), (2, 1)), "groups": 2}),
            ((4, 1, 1, 6), {"operator": Operator.FULLY_CONNECTED}),
        ]:
            weights = rng.choice([0, 127, -85], p=[0.6, 0.2, 0.2], size=shape).astype(np.int8)
            weights[0] *= -1
            channels = shape[0]
            layer = Layer(
                **{
                    "operator": Operator.CONV_2D,
                    "weights": weights,
                    "requantisation": Scales(0.1, 0.1, np.full(channels, 0.01, np.float32)),
                    "bias": np.arange(channels, dtype=np.int32),
                    **changes,
                }
            )
            blobs.append(pack(layer, encoding=encoding))
    fixed = FixedPoint(np.array([1 << 30], np.int32), np.array([-8], np.int8))
    own = np.array([[1, -2, 0], [5, 0, -9]], np.int8).reshape(2, 1, 1, 3)
    blobs.append(pack(Layer(Operator.CONV_2D, own, fixed)))
    return [bytes([17 * (i % 8)]) + blob for i, blob in enumerate(blobs)]


def fuzz(folder: Path, *limits: str, encoding: Encoding | None = None) -> None:
    """Any encoding, or `encoding` forced upon every input."""
    if shutil.which("clang") is None:
        pytest.skip("not installed: clang")
    try:
        program = build.build_cached(
            "fuzz_layer",
            CACHE,
            target=build.Target(build.host_target().architecture, ("clang",)),
            extra_sources=[HERE / "fuzz_layer.c"],
            flags=FLAGS if encoding is None else (*FLAGS, f"-DFUZZ_ENCODING={int(encoding)}"),
        )
    except build.CompileError as error:
        if "libclang_rt" in str(error):
            pytest.skip("not installed: libclang-rt (clang's sanitizers)")
        raise
    corpus = folder / "corpus"
    corpus.mkdir()
    for i, seed in enumerate(seeds(Encoding if encoding is None else [encoding])):
        (corpus / f"{i:02}").write_bytes(seed)
    done = subprocess.run(
        [str(program), *LIMITS, *limits, str(corpus)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    findings = [file.read_bytes().hex() for file in folder.iterdir() if file.is_file()]
    assert done.returncode == 0, f"{done.stderr[-4000:]}\nreplay with: {findings}"


def test_fuzz_shortly(tmp_path: Path) -> None:
    fuzz(tmp_path, "-runs=30000", "-max_total_time=10")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["any", *Encoding.__members__])
def test_fuzz_for_ten_minutes(tmp_path: Path, name: str) -> None:
    fuzz(tmp_path, "-max_total_time=600", encoding=None if name == "any" else Encoding[name])
