"""Generated C on the host, under sanitizers and strict warnings, against LiteRT's reference."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from ec2t_tf.export.mcu import OPTIMIZE, emit, to_c
from ec2t_tf.export.mcu.model_files import KERNELS
from ec2t_tf.export.mcu.operators.elementwise import KINDS
from tests import c_runner, nets

ALL = {**nets.NETS, "odds_and_ends": nets.odds_and_ends}


@pytest.mark.parametrize("name", ALL)
def test_equals_the_reference(tmp_path: Path, name: str) -> None:
    model = ALL[name]()
    values = nets.inputs(model, 16)
    want = nets.reference(model, values)
    assert want.std() > 5  # a net whose outputs do not vary would prove nothing
    report = to_c(model, tmp_path)
    program = c_runner.build_host(tmp_path)
    np.testing.assert_array_equal(c_runner.run_host(program, values, want.shape[1:]), want)
    assert f"#define MODEL_ARENA_SIZE {report.arena}" in (tmp_path / "model.h").read_text()


@pytest.mark.parametrize("seed", range(4))
def test_equals_the_reference_on_random_layers(tmp_path: Path, seed: int) -> None:
    """Kernel, stride, padding, sparsity and widths around the tiles' sizes, drawn by seed."""
    model = nets.random_layers(1000 + seed)
    values = nets.inputs(model, 3)
    want = nets.reference(model, values)
    to_c(model, tmp_path, optimize=OPTIMIZE[seed % 3])
    program = c_runner.build_host(tmp_path)
    np.testing.assert_array_equal(c_runner.run_host(program, values, want.shape[1:]), want)


def test_lists_longer_than_the_lanes(tmp_path: Path) -> None:
    """600 taps of one sign: 16-bit lanes are emptied on the way."""
    net = nets.NetBuilder((1, 3, 5, 80), seed=9)
    model = net.finish(net.conv(net.input, 3, zeros=0.02))
    values = nets.inputs(model, 4)
    want = nets.reference(model, values)
    to_c(model, tmp_path)
    program = c_runner.build_host(tmp_path)
    np.testing.assert_array_equal(c_runner.run_host(program, values, want.shape[1:]), want)


@pytest.mark.parametrize("zeros", [None, 0.3, 0.9])
def test_convolution_over_the_whole_input(tmp_path: Path, zeros: float | None) -> None:
    """One output pixel: the fully connected kernel, multipliers a channel, rows with a border."""
    net = nets.NetBuilder((1, 5, 6, 3), seed=8)
    x = net.conv(net.input, 5)
    x = net.add(x, net.conv(x, 5))
    x = net.conv(x, 9, (5, 6), zeros=zeros, same=False, relu=False)
    x = net.conv(x, 6, (1, 1), zeros=zeros)
    model = net.finish(x)
    values = nets.inputs(model, 4)
    want = nets.reference(model, values)
    to_c(model, tmp_path)
    assert (tmp_path / "fully_connected.c").exists()
    program = c_runner.build_host(tmp_path)
    np.testing.assert_array_equal(c_runner.run_host(program, values, want.shape[1:]), want)


@pytest.mark.parametrize("kind", KINDS)
def test_every_element_wise_operator_has_a_table(tmp_path: Path, kind: str) -> None:
    net = nets.NetBuilder((1, 4, 4, 3), seed=0)
    scale, zero_point = {"LOGISTIC": (1 / 256, -128), "TANH": (1 / 128, 0)}.get(kind, (0.02, 4))
    net.graph.tensors[net.input].quantization.zeroPoint = [-128]
    table = "".join(part.capitalize() for part in kind.split("_")) + "OptionsT"
    options = getattr(schema, table, lambda: None)()
    out = net.tensor((1, 4, 4, 3), scale, zero_point)
    to_c(net.finish(net.operator(kind, [net.input], out, options)), tmp_path)
    assert "ec2t_mcu_lookup_run" in (tmp_path / "model.c").read_text()


def test_every_kernel_that_is_declared_is_found_in_a_file() -> None:
    """Those that a macro defines too: a folder holds the files whose functions its net calls."""
    header = (KERNELS / "planar.h").read_text()
    declared = set(re.findall(r"^(?:void|ec2t_mcu_status) (ec2t_mcu_\w+_run\w*)\(", header, re.M))
    files = [path.name for path in KERNELS.glob("*.c")]
    assert len(declared) > 20
    assert declared == {
        name for file in files for name in emit._functions(file) if name in declared
    }


def test_only_the_kernels_used_are_written(tmp_path: Path) -> None:
    net = nets.NetBuilder((1, 8, 8, 3), seed=1)
    to_c(net.finish(net.conv(net.input, 4)), tmp_path)
    kernels = {"gap_list.c", "layout.c", "list_conv.c"}
    assert {p.name for p in tmp_path.glob("*.c")} == {"model.c", *kernels}


@pytest.mark.parametrize("seed", range(2))
def test_damaged_weight_streams_return_an_error_or_a_result(tmp_path: Path, seed: int) -> None:
    """Bits flipped in the Rice stream: no sanitizer report, and status 1 in at least one case."""
    net = nets.NetBuilder((1, 8, 9, 6), seed=seed)
    model = net.finish(net.conv(net.input, 12, zeros=0.6))
    to_c(model, tmp_path, optimize="size")
    source = (tmp_path / "model.c").read_text()
    (tmp_path / "model.c").write_text(
        source.replace("static const uint8_t weights_0", "uint8_t weights_0")
    )
    stream = re.search(r"uint8_t weights_0\[\] = \{(.*?)\}", source, re.S)
    assert stream is not None
    size = stream.group(1).count("u")
    (tmp_path / "fuzz.c").write_text(_FUZZ.replace("STREAM_SIZE", f"{size}u"))
    sources = [str(p) for p in sorted(tmp_path.glob("*.c"))]
    program = tmp_path / "fuzz"
    flags = [
        "-std=c11",
        "-O1",
        "-g",
        "-DEC2T_MCU_CORE_SWAR",
        "-Wall",
        "-Wextra",
        *c_runner.SANITIZE,
    ]
    subprocess.run(["gcc", *flags, *sources, "-o", str(program)], check=True)
    done = subprocess.run([str(program), str(seed)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 0, "no damage was noticed"


_FUZZ = """
#include <stdio.h>
#include <stdlib.h>
#include "model.h"
extern uint8_t weights_0[];
static int8_t input[MODEL_INPUT_SIZE], output[MODEL_OUTPUT_SIZE];
int main(int argc, char **argv) {
  uint8_t *arena = malloc(MODEL_ARENA_SIZE);
  unsigned noticed = 0, state = (unsigned)atoi(argv[argc - 1]) * 7919u + 1u;
  for (int i = 0; i < 2000; ++i) {
    state = state * 1664525u + 1013904223u;
    const unsigned place = (state >> 8) % STREAM_SIZE;
    const uint8_t kept = weights_0[place];
    weights_0[place] = (uint8_t)(kept ^ (1u << (state >> 28 & 7u)));
    if (i % 5 == 0) weights_0[place] = 0xff;
    if (model_invoke(input, output, arena) != 0) ++noticed;
    weights_0[place] = kept;
  }
  free(arena);
  printf("%u", noticed);
  return 0;
}
"""
