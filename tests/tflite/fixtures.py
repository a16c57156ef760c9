"""Fixtures shared by the tests of the file writers and of the runtime."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from ec2t_tf.export.file_formats import rewrite
from tests.nets import NetBuilder
from tests.tflite import nets

RESOLVERS = {
    "xnnpack": OpResolverType.AUTO,
    "builtin": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
    "reference": OpResolverType.BUILTIN_REF,
}


@pytest.fixture(scope="session")
def int8_nets(request: pytest.FixtureRequest) -> dict[str, bytes]:
    """The int8 files of `nets.NAMES`, made once (a minute) and kept in pytest's cache.

    TensorFlow runs in a process of its own: it is slow to import and warns a great deal.
    """
    source = Path(nets.__file__)
    version = hashlib.sha256(source.read_bytes()).hexdigest()[:12]
    folder = Path(request.config.cache.mkdir("int8_nets")) / version
    if not all(folder.joinpath(f"{name}.tflite").exists() for name in nets.NAMES):
        root = source.parents[2]
        made = subprocess.run(
            [sys.executable, "-m", "tests.tflite.nets", str(folder)],
            cwd=root,
            capture_output=True,
            text=True,
        )
        assert made.returncode == 0, made.stderr[-4000:]
    return {name: folder.joinpath(f"{name}.tflite").read_bytes() for name in nets.NAMES}


def dense_net() -> bytes:
    """An int8 net without a ternary layer."""
    net = NetBuilder((1, 6, 6, 8), seed=5)
    return net.finish(net.conv(net.input, 8, (3, 3), zeros=None))


def packed(int8_file: bytes, **options: Any) -> bytes:
    return rewrite(int8_file, format="packed", **options).content


def sparse(int8_file: bytes) -> bytes:
    return rewrite(int8_file, format="sparse").content


def int4(int8_file: bytes) -> bytes:
    return rewrite(int8_file, format="int4").content


def align_to_int4(int8_file: bytes) -> bytes:
    return rewrite(int8_file, format="int8_on_int4_levels").content


def download(int8_file: bytes, **options: Any) -> bytes:
    return rewrite(int8_file, format="download", **options).content


def random_inputs(model: bytes, count: int, *, seed: int = 0) -> np.ndarray:
    """int8 [count, 1, ...]: random inputs for an int8 .tflite file."""
    shape = Interpreter(model_content=model, num_threads=1).get_input_details()[0]["shape"]
    return np.random.default_rng(seed).integers(-128, 128, (count, *shape), dtype=np.int8)


def run(model: bytes, inputs: np.ndarray, resolver: str = "xnnpack") -> np.ndarray:
    """int16 [count, ...]: the first output of a .tflite file in a stock interpreter."""
    interpreter = Interpreter(
        model_content=model, num_threads=1, experimental_op_resolver_type=RESOLVERS[resolver]
    )
    return outputs_of(interpreter, inputs)


def outputs_of(interpreter: Interpreter, inputs: np.ndarray) -> np.ndarray:
    """int16 [count, ...]: the first output of an interpreter for each input."""
    interpreter.allocate_tensors()
    source = interpreter.get_input_details()[0]["index"]
    target = interpreter.get_output_details()[0]["index"]
    results = []
    for sample in inputs:
        interpreter.set_tensor(source, sample)
        interpreter.invoke()
        results.append(interpreter.get_tensor(target)[0].astype(np.int16))
    return np.stack(results)
