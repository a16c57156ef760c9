"""A driver program of the C library, on this machine and under an emulator."""

from __future__ import annotations

import dataclasses
import struct
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest

from ec2t_tf.export.formats import Ends
from ec2t_tf.export.kernels import build

HERE = Path(__file__).resolve().parent
CACHE = Path(tempfile.gettempdir()) / "ec2t_tf_test_build"
STATUS = (
    *("OK", "ARGUMENT", "UNALIGNED", "TRUNCATED", "MAGIC", "VERSION"),
    *("CHECKSUM", "HEADER", "STREAM", "BUFFER", "UNSUPPORTED"),
)
MODES = ("tflite", "fp32", "real")
# The AVX-512 kernel with its vectors emulated: any x86 processor with AVX2 tests it.
SANITIZE = (
    "-DEC2T_EMULATE_AVX512",
    "-g",
    "-O1",
    "-fsanitize=address,undefined",
    "-fno-sanitize-recover=all",
)


def _u32(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}I", *values)


def _sized(data: bytes) -> bytes:
    return _u32(len(data)) + data


@dataclasses.dataclass(frozen=True)
class Native:
    """Speaks to driver.c; a call takes many cases and starts one process."""

    command: tuple[str, ...]

    def _run(self, request: bytes) -> Iterator[tuple[str, bytes]]:
        done = subprocess.run(self.command, input=request, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr.decode(errors="replace")
        at = 0
        while at < len(done.stdout):
            status, size = struct.unpack_from("<2I", done.stdout, at)
            yield STATUS[status], done.stdout[at + 8 : at + 8 + size]
            at += 8 + size

    def decode(self, blobs: Sequence[bytes]) -> list[tuple[str, np.ndarray]]:
        """Status and flat int8 weights of each blob."""
        request = b"".join(_u32(1) + _sized(blob) for blob in blobs)
        return [(status, np.frombuffer(data, np.int8)) for status, data in self._run(request)]

    def expand(self, cases: Sequence[tuple[bytes, Ends]]) -> list[tuple[str, bytes]]:
        """Status and blob of each compact blob with its ends."""
        request = b"".join(
            _u32(8)
            + _sized(compact)
            + struct.pack("<2f", ends.input_scale, ends.output_scale)
            + struct.pack("<2i", ends.input_zero_point, ends.output_zero_point)
            for compact, ends in cases
        )
        return list(self._run(request))

    def reference(
        self, cases: Sequence[tuple[str, bytes, np.ndarray]]
    ) -> list[tuple[str, np.ndarray]]:
        """Status and flat int8 output of each case (mode, blob, NHWC input)."""
        request = b"".join(
            _u32(2, MODES.index(mode), *x.shape[:3])
            + _sized(blob)
            + _sized(np.ascontiguousarray(x, np.int8).tobytes())
            for mode, blob, x in cases
        )
        return [(status, np.frombuffer(data, np.int8)) for status, data in self._run(request)]

    def multipliers(self, values: np.ndarray) -> np.ndarray:
        """Rows of multiplier and shift."""
        ((_, data),) = self._run(_u32(3) + _sized(np.asarray(values, "<f8").tobytes()))
        return np.frombuffer(data, np.int32).reshape(-1, 2)

    def whole_multipliers(
        self, zero_point: int, output_range: tuple[int, int], largest: int, factors: np.ndarray
    ) -> np.ndarray:
        """An int32 for each factor."""
        request = _u32(7, *(value % (1 << 32) for value in (zero_point, *output_range, largest)))
        ((_, data),) = self._run(request + _sized(np.asarray(factors, "<f4").tobytes()))
        return np.frombuffer(data, np.int32)

    def kernels(self) -> list[str]:
        """Names of the planar kernels this processor can run, in the order of the list."""
        ((_, data),) = self._run(_u32(4))
        return data.decode().split()

    def planar(
        self, kernel: int, cases: Sequence[tuple[str, bytes, np.ndarray]], *, split: bool = False
    ) -> list[tuple[str, np.ndarray]]:
        """Status and flat planar output of each case (mode, blob, planar input [c, h, w])."""
        request = b"".join(
            _u32(5, kernel, split, MODES.index(mode), *x.shape[1:])
            + _sized(blob)
            + _sized(np.ascontiguousarray(x, np.int8).tobytes())
            for mode, blob, x in cases
        )
        return [(status, np.frombuffer(data, np.int8)) for status, data in self._run(request)]

    def transpose(self, x: np.ndarray, *, back: bool) -> np.ndarray:
        """[pixels, channels] to planar, or planar [channels, pixels] back."""
        pixels, channels = x.T.shape if back else x.shape
        request = _u32(6, back, pixels, channels) + _sized(np.ascontiguousarray(x).tobytes())
        ((_, data),) = self._run(request)
        return np.frombuffer(data, np.int8).reshape(x.T.shape)


def native_driver(target: build.Target, flags: Sequence[str] = ()) -> Native:
    missing = target.missing_tools()
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    program = build.build_cached(
        "driver",
        CACHE,
        target=target,
        extra_sources=[HERE / "driver.c"],
        flags=(*build.STRICT_FLAGS, *flags),
    )
    return Native((*target.runner, str(program)))


@pytest.fixture(scope="session")
def native() -> Native:
    """The library on this machine, with AddressSanitizer and UBSan."""
    return native_driver(build.host_target(), SANITIZE)


@pytest.fixture(scope="session", params=["host", "aarch64"])
def any_native(request: pytest.FixtureRequest) -> Native:
    """The library as users get it, on this machine and under qemu."""
    host = request.param == "host"
    return native_driver(build.host_target() if host else build.AARCH64_QEMU)
