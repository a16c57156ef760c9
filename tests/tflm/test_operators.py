"""`packed` files run by the EC2T operators inside the tflite-micro wheel."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

import ec2t_tf.export.tflm as tflm_room
from ec2t_tf.export.kernels import build
from tests import nets
from tests.dense_cases import DENSE
from tests.tflite.fixtures import packed
from tests.tflm import wheel

ROOM = Path(tflm_room.__file__).parent
SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
KERNELS = [
    build.ROOM / "portable" / f"{name}.c"
    for name in ("decode", "layer", "requant", "status", "range_decoder")
] + [build.ROOM / "ref" / "ec2t_conv2d_s8__ref.c"]
pytestmark = pytest.mark.skipif(not shutil.which("g++"), reason="needs g++: apt-get install g++")


@pytest.fixture(scope="module")
def registered(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Builds and loads the operators; the name of their registration function."""
    runtime = pytest.importorskip("tflite_micro.python.tflite_micro.runtime")
    folder = tmp_path_factory.mktemp("operators")
    flags = ["-O2", "-fPIC", f"-I{build.INCLUDE}", f"-I{ROOM}"]
    objects = []
    for source in [*KERNELS, ROOM / "ec2t_tflm.c"]:
        objects.append(str(folder / f"{source.stem}.o"))
        strict = ["-std=c11", *build.STRICT_FLAGS]
        subprocess.run(["gcc", *strict, *flags, "-c", str(source), "-o", objects[-1]], check=True)
    library = folder / "operators.so"
    adapter = Path(__file__).with_name("wheel_adapter.cc")
    subprocess.run(
        [
            "g++",
            "-std=c++17",
            "-Wall",
            "-Wextra",
            "-shared",
            *flags,
            str(adapter),
            *objects,
            "-o",
            str(library),
        ],
        check=True,
    )
    # The operators use the wheel's own helpers: its symbols must be global first.
    ctypes.CDLL(runtime._runtime.__file__, ctypes.RTLD_GLOBAL)
    ctypes.CDLL(str(library), ctypes.RTLD_GLOBAL)
    return "RegisterEc2tOperators"


def _equals_the_reference(registered: str, model: bytes, values: npt.NDArray[np.int8]) -> None:
    got = wheel.outputs(packed(model, optimize="speed"), values, operators=[registered])
    np.testing.assert_array_equal(got, nets.reference(model, values))


@pytest.mark.parametrize("name", nets.NETS)
def test_wheel_with_our_operators_equals_the_reference(registered: str, name: str) -> None:
    model = nets.NETS[name]()
    _equals_the_reference(registered, model, nets.inputs(model, 16))


@pytest.mark.parametrize("name", [n for n, case in DENSE.items() if case.zeros is not None])
def test_fully_connected_layers_round_once(registered: str, name: str) -> None:
    model = DENSE[name].model()
    _equals_the_reference(registered, model, nets.inputs(model, 64))


def test_fully_connected_layers_of_the_wheel_round_twice() -> None:
    """Its own kernel does; ours, in the same wheel, does not."""
    case = DENSE["lists"]
    model = case.model()
    values = nets.inputs(model, 64)
    got = wheel.outputs(model, values)
    np.testing.assert_array_equal(got, case.rounded_twice(values))
    assert (got != nets.reference(model, values)).any()


def blob() -> bytes:
    """The blob of a small ternary convolution: input 7 x 6 x 4, output 4 x 6 x 6."""
    from ec2t_tf.export import formats

    random = np.random.default_rng(5)
    weights = random.choice([-93, 0, 127], (6, 3, 3, 4), p=[0.15, 0.7, 0.15]).astype(np.int8)
    layer = formats.Layer(
        operator=formats.Operator.CONV_2D,
        weights=weights,
        requantisation=formats.Scales(0.02, 0.05, np.full(6, 0.01, np.float32)),
        bias=np.arange(6, dtype=np.int32),
        strides=(2, 1),
        padding="SAME",
    )
    return formats.pack(layer, encoding="rice")


def test_corrupt_blobs_return_an_error(tmp_path: Path) -> None:
    """Every kind of damage to a blob, under sanitizers: an error code or a checked run."""
    (tmp_path / "blob.bin").write_bytes(blob())
    (tmp_path / "fuzz.c").write_text(_FUZZ)
    sources = [str(p) for p in (tmp_path / "fuzz.c", ROOM / "ec2t_tflm.c", *KERNELS)]
    program = tmp_path / "fuzz"
    subprocess.run(
        [
            "gcc",
            "-std=c11",
            "-O1",
            "-g",
            *SANITIZE,
            f"-I{build.INCLUDE}",
            f"-I{ROOM}",
            *sources,
            "-o",
            str(program),
        ],
        check=True,
    )
    done = subprocess.run([program, tmp_path / "blob.bin"], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    refused, ran = map(int, done.stdout.split())
    assert refused > 1000
    assert ran > 0


_FUZZ = """
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "ec2t_tflm.h"

static uint32_t crc32(const uint8_t *p, size_t n) {
  uint32_t crc = 0xffffffffu;
  while (n--) {
    crc ^= *p++;
    for (int k = 0; k < 8; ++k) crc = crc >> 1 ^ (0xedb88320u & (0u - (crc & 1u)));
  }
  return ~crc;
}

int main(int argc, char **argv) {
  static uint8_t file[4096];
  FILE *f = fopen(argv[argc - 1], "rb");
  const size_t size = fread(file, 1, sizeof file, f);
  fclose(f);
  unsigned refused = 0, ran = 0, state = 1;
  for (int i = 0; i < 4000; ++i) {
    uint8_t *blob = malloc(size);
    memcpy(blob, file, size);
    for (int k = 0; k < 1 + i % 3; ++k) {
      state = state * 1664525u + 1013904223u;
      blob[(state >> 8) % size] ^= (uint8_t)(1u << (state >> 29));
    }
    if (i % 2) { /* past the checksum */
      const uint32_t crc = crc32(blob + 16, size - 16);
      memcpy(blob + 12, &crc, 4);
    }
    const int32_t in[4] = {1, 7, 6, 4}, out[4] = {1, 4, 6, 6};
    int8_t *input = calloc(7 * 6 * 4, 1), *output = malloc(4 * 6 * 6);
    ec2t_tflm_node node;
    ec2t_status status = ec2t_tflm_prepare(&node, blob, size, in, 4, out, 4);
    if (status == EC2T_OK) {
      const size_t room = ec2t_tflm_get_buffer_size(&node);
      void *buffer = malloc(room);
      status = ec2t_tflm_attach(&node, buffer, room);
      if (status == EC2T_OK) status = ec2t_tflm_invoke(&node, input, output);
      free(buffer);
    }
    *(status == EC2T_OK ? &ran : &refused) += 1;
    free(input), free(output), free(blob);
  }
  printf("%u %u", refused, ran);
  return 0;
}
"""
