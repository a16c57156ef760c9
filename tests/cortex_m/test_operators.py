"""The operators for TensorFlow Lite Micro on cores without an FPU for doubles, in QEMU."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ec2t_tf.export import formats
from ec2t_tf.export.file_formats.packed import packable_layers
from ec2t_tf.export.kernels import build
from ec2t_tf.export.tflite import read
from tests import nets
from tests.bench import qemu
from tests.dense_cases import DENSE
from tests.tflm.test_operators import KERNELS, ROOM

pytestmark = pytest.mark.skipif(bool(qemu.missing_tools()), reason=qemu.missing_tools() or "-")

_MAIN = """
#include "ec2t_tflm.h"
#include "semihost.h"
static const uint8_t blob[] __attribute__((aligned(4))) = {BLOB};
static uint64_t buffer[1024];
static int8_t input[96], output[40];
int main(void) {
  const int from = semihost_open("input.bin", 1), to = semihost_open("output.bin", 5);
  const int32_t in[2] = {1, 96}, out[2] = {1, 40};
  ec2t_tflm_node node;
  if (from < 0 || to < 0) return 2;
  if (ec2t_tflm_prepare(&node, blob, sizeof blob, in, 2, out, 2) != EC2T_OK) return 3;
  if (ec2t_tflm_attach(&node, buffer, sizeof buffer) != EC2T_OK) return 4;
  while (semihost_read(from, input, sizeof input) == sizeof input) {
    if (ec2t_tflm_invoke(&node, input, output) != EC2T_OK) return 5;
    if (semihost_file_write(to, output, sizeof output) != sizeof output) return 6;
  }
  semihost_close(to);
  return 0;
}
"""


@pytest.mark.parametrize("core", ["m0", "m4", "m55"])
@pytest.mark.parametrize("name", ["lists, rows", "halves"])
def test_fully_connected_equals_the_reference(tmp_path: Path, core: str, name: str) -> None:
    model = DENSE[name].model()
    ((_, layer),), _ = packable_layers(read(model))
    values = nets.inputs(model, 32)
    (tmp_path / "string.h").write_text(qemu.STRING_H)
    (tmp_path / "input.bin").write_bytes(values.tobytes())
    blob = ",".join(map(str, formats.pack(layer, encoding="rice")))
    main = tmp_path / "operator_main.c"
    main.write_text(_MAIN.replace("BLOB", blob))
    sources = [ROOM / "ec2t_tflm.c", *KERNELS, main]
    include = [build.INCLUDE, ROOM, tmp_path]
    image = qemu.build(core, sources, tmp_path / core, include=include)
    run = qemu.run(core, image.path, folder=tmp_path)
    assert run.status == 0, f"firmware on {core} returned {run.status}: {run.text}"
    got = np.frombuffer((tmp_path / "output.bin").read_bytes(), np.int8)
    np.testing.assert_array_equal(got.reshape(32, 40), nets.reference(model, values))
