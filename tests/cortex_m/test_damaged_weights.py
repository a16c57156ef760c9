"""Firmware fed damaged weights: an error code, no fault."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from ec2t_tf.export.kernels import build
from ec2t_tf.export.mcu import to_c
from tests import nets
from tests.bench import qemu
from tests.tflm.test_operators import KERNELS, ROOM, blob

pytestmark = pytest.mark.skipif(bool(qemu.missing_tools()), reason=qemu.missing_tools() or "-")

_MAIN = """
#include "semihost.h"
INCLUDE
static uint8_t weights[SIZE] __attribute__((aligned(4)));
BODY
int main(void) {
  const int from = semihost_open("weights.bin", 1), to = semihost_open("status.bin", 5);
  if (from < 0 || to < 0) return 2;
  while (semihost_read(from, weights, sizeof weights) == sizeof weights) {
    const uint8_t status = (uint8_t)run();
    if (semihost_file_write(to, &status, 1) != 1) return 3;
  }
  semihost_close(to);
  return 0;
}
"""
_GENERATED = """
extern uint8_t weights_0[];
static int8_t input[MODEL_INPUT_SIZE], output[MODEL_OUTPUT_SIZE];
static uint8_t arena[MODEL_ARENA_SIZE] __attribute__((aligned(4)));
static int run(void) {
  for (unsigned i = 0; i < sizeof weights; ++i) ((uint8_t *)weights_0)[i] = weights[i];
  return model_invoke(input, output, arena);
}
"""
_OPERATOR = """
static int8_t input[7 * 6 * 4], output[4 * 6 * 6];
static uint64_t buffer[2048];
static int run(void) {
  const int32_t in[4] = {1, 7, 6, 4}, out[4] = {1, 4, 6, 6};
  ec2t_tflm_node node;
  ec2t_status status = ec2t_tflm_prepare(&node, weights, sizeof weights, in, 4, out, 4);
  if (status == EC2T_OK) status = ec2t_tflm_attach(&node, buffer, sizeof buffer);
  if (status == EC2T_OK) status = ec2t_tflm_invoke(&node, input, output);
  return (int)status;
}
"""


def _statuses(
    folder: Path,
    core: str,
    good: bytes,
    main: str,
    sources: list[Path],
    include: list[Path],
) -> list[int]:
    """What the firmware returns for the weights as they are and for 300 damaged ones."""
    random = np.random.default_rng(3)
    copies = np.tile(np.frombuffer(good, np.uint8), (301, 1))
    for copy in copies[1:]:
        for place in random.choice(len(good), random.integers(1, 4), replace=False):
            copy[place] ^= 1 << random.integers(8)
    (folder / "weights.bin").write_bytes(copies.tobytes())
    (folder / "damage_main.c").write_text(main.replace("SIZE", str(len(good)), 1))
    image = qemu.build(core, [*sources, folder / "damage_main.c"], folder / core, include=include)
    run = qemu.run(core, image.path, folder=folder)
    assert run.status == 0, f"firmware on {core} returned {run.status}: {run.text}"
    statuses = list((folder / "status.bin").read_bytes())
    assert len(statuses) == 301
    return statuses


@pytest.mark.parametrize(
    ("core", "optimize"),
    [(core, optimize) for core in ("m0", "m4", "m55") for optimize in ("size", "balanced")],
)
def test_generated_net(tmp_path: Path, core: str, optimize: str) -> None:
    """Rice streams, and the gaps of "balanced"."""
    net = nets.NetBuilder((1, 8, 9, 6), seed=4)
    to_c(net.finish(net.conv(net.input, 12, zeros=0.8)), tmp_path, core=core, optimize=optimize)
    assert ("ENCODING_GAPS" in (tmp_path / "model.c").read_text()) == (optimize == "balanced")
    statuses = _of_array(tmp_path, core, "uint8_t", "weights_0")
    assert statuses[0] == 0
    assert set(statuses) == {0, 1}


@pytest.mark.skipif(bool(qemu.missing_tools("rv32")), reason=qemu.missing_tools("rv32") or "-")
@pytest.mark.parametrize("optimize", ["size", "balanced"])
def test_lists_by_place(tmp_path: Path, optimize: str) -> None:
    net = nets.NetBuilder((1, 8, 9, 6), seed=4)
    model = net.finish(net.conv(net.input, 12, zeros=0.5))
    to_c(model, tmp_path, core="rv32", optimize=optimize)
    assert ".by_place = 1" in (tmp_path / "model.c").read_text()
    statuses = _of_array(tmp_path, "rv32", "uint8_t", "weights_0")
    assert statuses[0] == 0
    assert set(statuses) == {0, 1}


def test_masks(tmp_path: Path) -> None:
    """Of the smallest build on M55: a sign for every weight that is not 0, no more and no fewer."""
    net = nets.NetBuilder((1, 12, 12, 32), seed=4)
    model = net.finish(net.conv(net.input, 12, zeros=0.5))
    note = to_c(model, tmp_path, core="m55", optimize="size").layers[0].note
    assert "masks" in note
    statuses = _of_array(tmp_path, "m55", "uint16_t", "masks_0")
    assert statuses[0] == 0
    assert np.mean(statuses[1:]) > 0.7  # two bits may make up for each other


def _of_array(folder: Path, core: str, type_name: str, name: str) -> list[int]:
    """Statuses of a net whose array is damaged."""
    model = folder / "model.c"
    source = model.read_text()
    model.write_text(
        source.replace(
            f"static const {type_name} {name}", f"extern {type_name} {name}[];\n{type_name} {name}"
        )
    )
    stream = re.search(rf"{type_name} {name}\[\] = \{{(.*?)\}}", source, re.S)
    assert stream is not None
    values = np.array([int(v) for v in re.findall(r"(\d+)u", stream.group(1))])
    good = values.astype("<u2" if type_name == "uint16_t" else np.uint8).tobytes()
    body = _GENERATED.replace("extern uint8_t weights_0", f"extern {type_name} weights_0")
    main = _MAIN.replace("INCLUDE", '#include "model.h"')
    main = main.replace("BODY", body.replace("weights_0", name))
    return _statuses(folder, core, good, main, sorted(folder.glob("*.c")), [folder])


def test_packed_operator(tmp_path: Path) -> None:
    """The blob of a `packed` file; its checksum finds every damage."""
    good = blob()
    (tmp_path / "string.h").write_text(qemu.STRING_H)
    main = _MAIN.replace("INCLUDE", '#include "ec2t_tflm.h"').replace("BODY", _OPERATOR)
    sources = [ROOM / "ec2t_tflm.c", *KERNELS]
    statuses = _statuses(tmp_path, "m4", good, main, sources, [build.INCLUDE, ROOM, tmp_path])
    assert statuses[0] == 0
    assert all(status != 0 for status in statuses[1:])
