import hashlib
from pathlib import Path

import pytest

from ec2t_tf.export.kernels import build as kernels
from ec2t_tf.export.litert import library
from tests.tflite.fixtures import int8_nets  # noqa: F401


def sources_digest():
    files = [*library.sources(), *kernels.headers(), *library.ROOM.glob("*.h")]
    files += kernels.sources(kernels.host_target().architecture)
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]


@pytest.fixture(scope="session")
def native_library(request):
    """The runtime built from the present sources, warnings as errors."""
    missing = kernels.host_target().missing_tools()
    if missing:
        pytest.skip(f"not installed: {', '.join(missing)}")
    folder = Path(request.config.cache.mkdir("litert"))
    output = folder / f"{sources_digest()}-{library.NAME}"
    if not output.exists():
        library.build(output, flags=kernels.STRICT_FLAGS)
    return output


@pytest.fixture(autouse=True)
def _use_native_library(native_library, monkeypatch):
    monkeypatch.setenv(library.VARIABLE, str(native_library))
