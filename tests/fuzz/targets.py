"""The programs that libFuzzer runs, how they are built, and the inputs they start from."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import hashlib
import itertools
import shutil
import subprocess
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from ec2t_tf.export.formats import (
    Encoding,
    FixedPoint,
    Layer,
    Operator,
    Scales,
    fits_compact,
    pack,
    pack_compact,
    unpack,
)
from ec2t_tf.export.kernels import build
from ec2t_tf.export.litert import library

HERE = Path(__file__).resolve().parent
FINDINGS = HERE / "findings"  # inputs that went wrong once, by target
COMPILER = "clang"
SANITISED = (
    *("-g", "-O1"),
    "-fsanitize=fuzzer-no-link,address,undefined",
    "-fno-sanitize-recover=all",
)
COVERED = (
    "-g",
    "-O1",
    "-fsanitize=fuzzer-no-link",
    "-fprofile-instr-generate",
    "-fcoverage-mapping",
)
# Memory by single allocations: the resident size that libFuzzer sees starts with its parent's.
LIMITS = ("-timeout=120", "-rss_limit_mb=0", "-malloc_limit_mb=256")


@dataclasses.dataclass(frozen=True)
class Target:
    """One program.

    Attributes:
        name: of its folder of findings.
        sources: its C files; the kernels' come on top.
        flags: of the compiler, besides the sanitizers'.
        longest: bytes of the longest input worth a try.
    """

    name: str
    sources: tuple[Path, ...]
    flags: tuple[str, ...] = ()
    longest: int = 1024

    def build(self, folder: Path, flags: Sequence[str] = SANITISED) -> Path:
        """Compile it into `folder`; objects of unchanged files stay there for the next time.

        Raises:
            build.CompileError: with what the compiler said.
        """
        architecture = build.host_target().architecture
        jobs = [(source, flags) for source in build.sources(architecture)]
        jobs += [(source, (*flags, *self.flags)) for source in self.sources]
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            objects = list(pool.map(lambda job: compile_object(*job, folder), jobs))
        program = folder / f"fuzz_{self.name}-{digest_of(objects)}"
        if not program.exists():
            run_compiler(("-fsanitize=fuzzer", *flags, "-pthread"), objects, program)
        return program

    def findings(self) -> list[Path]:
        """Inputs that this program did not survive, or got wrong, at one time."""
        return sorted((FINDINGS / self.name).glob("*"))


def digest_of(words: Iterable[object]) -> str:
    return hashlib.sha256(repr([str(word) for word in words]).encode()).hexdigest()[:16]


def compile_object(source: Path, flags: Sequence[str], folder: Path) -> Path:
    headers = [*build.headers(), *library.ROOM.glob("*.h"), *HERE.glob("*.h")]
    contents = [file.read_bytes() for file in (source, *sorted(headers))]
    output = folder / f"fuzz-{source.stem}-{digest_of([source, flags, contents])}.o"
    if not output.exists():
        options = (*build.COMPILE_FLAGS, *flags, f"-I{build.INCLUDE}", "-c")
        run_compiler(options, [source], output)
    return output


def run_compiler(flags: Sequence[str], sources: Sequence[Path], output: Path) -> None:
    """Whole or not at all: two tests may build at once."""
    with tempfile.TemporaryDirectory(dir=output.parent) as scratch:
        written = Path(scratch) / output.name
        command = [COMPILER, *flags, *map(str, sources), *library.LIBRARIES, "-o", str(written)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise build.CompileError(f"{' '.join(command)}\n{done.stderr}")
        written.replace(output)


def layer(encoding: Encoding | None = None) -> Target:
    """Blobs; all effort on one decoder if `encoding` names it."""
    forced = () if encoding is None else (f"-DFUZZ_ENCODING={int(encoding)}",)
    return Target("layer", (HERE / "fuzz_layer.c",), forced)


_PORTABLE = build.INCLUDE.parent / "portable"
_GRAPH_SOURCES = ("fuzz_graph.c", "graph_maker.c", "blob_maker.c", "compact_maker.c", "runtime.c")
COMPACT = Target("compact", (HERE / "fuzz_layer.c",), ("-DFUZZ_COMPACT",))
GRAPH = Target(
    "graph",
    (
        *(HERE / name for name in _GRAPH_SOURCES),
        *library.sources(),
    ),
    # Allocations of the delegate fail when the fuzzer says so: fuzz_graph.c.
    (
        "-Dmalloc=fuzz_malloc",
        "-Dcalloc=fuzz_calloc",
        f"-I{library.ROOM}",
        f"-I{HERE}",
        f"-I{_PORTABLE}",
    ),
    longest=256,
)


def missing_tool() -> str | None:
    """The compiler, if it is not installed."""
    return None if shutil.which(COMPILER) else COMPILER


def blobs(encodings: Iterable[Encoding] = Encoding) -> Iterator[bytes]:
    """Small valid blobs of every kind of layer."""
    rng = np.random.default_rng(51)
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
            fields = {
                "operator": Operator.CONV_2D,
                "weights": weights,
                "requantisation": Scales(0.1, 0.1, np.full(channels, 0.01, np.float32)),
                "bias": np.arange(channels, dtype=np.int32),
                **changes,
            }
            yield pack(Layer(**fields), encoding=encoding)
    fixed = FixedPoint(np.array([1 << 30], np.int32), np.array([-8], np.int8))
    own = np.array([[1, -2, 0], [5, 0, -9]], np.int8).reshape(2, 1, 1, 3)
    yield pack(Layer(Operator.CONV_2D, own, fixed))


def compact_seeds() -> Iterator[bytes]:
    """Streams of compact blobs behind a size of the image, whose last bit is their version's."""
    for index, blob in enumerate(blobs([Encoding.RICE])):
        layer = unpack(blob)
        if fits_compact(layer):
            dense = (layer.weights // 3 + 1).astype(np.int8)
            for weights, form in itertools.product((layer.weights, dense), (layer, shorter(layer))):
                compact = pack_compact(dataclasses.replace(form, weights=weights))
                yield bytes([17 * (index % 8) & 0xFE | compact[0] - 2]) + compact[3:]


def shorter(layer: Layer) -> Layer:
    """With scales and biases that end in zeros."""
    scales = layer.requantisation
    assert isinstance(scales, Scales)
    bits = scales.weights.view(np.uint32) & 0xFFFFE000
    bias = None if layer.bias is None else layer.bias << 3
    scales = dataclasses.replace(scales, weights=bits.astype(np.uint32).view(np.float32))
    return dataclasses.replace(layer, requantisation=scales, bias=bias)


def layer_seeds(encodings: Iterable[Encoding] = Encoding) -> Iterator[bytes]:
    """Blobs, valid and with a last byte damaged past the checksum, behind a size of the image."""
    for index, blob in enumerate(blobs(encodings)):
        size = bytes([17 * (index % 8)])
        yield size + blob
        damaged = bytearray(blob)
        damaged[-1] ^= 1
        yield size + with_checksum(bytes(damaged))


def with_checksum(blob: bytes) -> bytes:
    """`blob` with the checksum of what it holds now."""
    return blob[:12] + zlib.crc32(blob[16:]).to_bytes(4, "little") + blob[16:]


def graph_seeds() -> Iterator[bytes]:
    """Any bytes are a graph."""
    rng = np.random.default_rng(52)
    for length in np.repeat([8, 16, 32, 64, 128], 12):
        yield rng.bytes(int(length))
