"""Inputs and outputs inside the arena: the same bits, no RAM of their own."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest

from ec2t_tf.export.mcu import to_c
from tests import nets
from tests.c_runner import SANITIZE, STRICT
from tests.mcu import many_nets

_MAIN = """
#include <stdio.h>
#include "model.h"
static uint8_t arena[MODEL_ARENA_SIZE] __attribute__((aligned(4)));
int main(void) {
  int8_t *const input = (int8_t *)arena + MODEL_INPUT_PLACE;
  int8_t *const output = (int8_t *)arena + MODEL_OUTPUT_PLACE;
  while (fread(input, 1, MODEL_INPUT_SIZE, stdin) == MODEL_INPUT_SIZE) {
    if (model_invoke(input, output, arena) != 0) return 1;
    fwrite(output, 1, MODEL_OUTPUT_SIZE, stdout);
  }
  return 0;
}
"""
NETS = {**nets.NETS, "odds and ends": nets.odds_and_ends}


@pytest.mark.parametrize("name", ["lenet5", "mobilenet", "odds and ends"])
def test_the_same_bits(tmp_path: Path, name: str) -> None:
    model = NETS[name]()
    report = to_c(model, tmp_path)
    assert report.placed_bytes == report.ends_bytes
    (tmp_path / "main.c").write_text(_MAIN)
    program = str(tmp_path / "main")
    sources = [str(path) for path in sorted(tmp_path.glob("*.c"))]
    flags = ["-std=c11", "-O1", "-DEC2T_MCU_CORE_SWAR", *STRICT, *SANITIZE]
    subprocess.run(["gcc", *flags, *sources, "-o", program], check=True)
    values = nets.inputs(model, 4)
    run = subprocess.run([program], input=values.tobytes(), capture_output=True, check=True)
    wanted = nets.reference(model, values)
    np.testing.assert_array_equal(np.frombuffer(run.stdout, np.int8).reshape(wanted.shape), wanted)


def sum_of_two(shape: tuple[int, ...]) -> bytes:
    """One ADD of two inputs, and nothing else."""
    net = nets.NetBuilder(shape, seed=1)
    other = net.tensor(shape, 0.03, 13)
    return net.finish(net.add(net.input, other), inputs=[other])


def test_ends_whose_layout_has_their_bytes_lie_in_it(tmp_path: Path) -> None:
    """A map of one channel, one row of it, and vectors; of three channels it does not."""
    shapes = ((1, 16, 12, 1), (1, 1, 21, 1), (1, 1, 1, 40), (1, 16, 12, 3))
    models = [sum_of_two(shape) for shape in shapes for _ in range(2)]  # every other is placed
    values = [many_nets.inputs(model, 3, seed=4) for model in models]
    want = [many_nets.reference(*pair) for pair in zip(models, values, strict=True)]
    got = many_nets.on_host(models, values, tmp_path, sanitize=True)
    assert not many_nets.differences(list(range(len(models))), got, want)
    report = to_c(sum_of_two(shapes[0]), tmp_path / "one")
    assert report.placed_bytes == report.ends_bytes == 3 * 16 * 12
    # What is kept free behind maps, and the inputs; the output lies over one of them.
    assert report.arena == 2048 + 2 * 16 * 12


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("core", ["m0", "m4"])
def test_ends_do_not_overlap(tmp_path: Path, name: str, core: str) -> None:
    report = to_c(NETS[name](), tmp_path, core=core)
    header = (tmp_path / "model.h").read_text()
    found = dict(re.findall(r"#define MODEL_(\w+) \(?(-?\d+)", header))
    spans = sorted(
        (int(found[f"{end}_PLACE"]), int(found[f"{end}_SIZE"])) for end in ("INPUT", "OUTPUT")
    )
    assert spans[0][0] + spans[0][1] <= spans[1][0]
    assert spans[1][0] + spans[1][1] <= report.arena
