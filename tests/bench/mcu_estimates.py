"""How far estimates are from QEMU's counts, and from figures that others published.

    python -m tests.bench.mcu_estimates --models=../shared/models [--write]   # docs/boards.md

No net here was used for the table of costs (tests/bench/mcu_costs.py).
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from ec2t_tf.export.mcu.report import total
from tests import nets
from tests.bench import cmsis_nn, mcu_costs, qemu
from tests.bench.mcu import DOCS, INT8_NETS

MARK = "<!-- measured -->"
MLPERF = {
    "MLPerf resnet8": "mlperf_tiny_resnet8_int8.tflite",
    "MLPerf kws": "mlperf_tiny_kws_ref_model.tflite",
    "MLPerf vww": "mlperf_tiny_vww_96_int8.tflite",
    "MLPerf str_ww": "mlperf_tiny_str_ww_ref_model.tflite",
    "MLPerf ad01": "mlperf_tiny_ad01_int8.tflite",
}
# Inferences a second that MLPerf Tiny published for microTVM with CMSIS-NN (closed division, OctoML
# in v1.0, cTuning in v1.1: performance/results.txt of mlcommons/tiny_results_v1.0 and v1.1).
PUBLISHED = [
    ("MLPerf resnet8", "NUCLEO-L4R5ZI", "v1.0, v1.1", "m4", 120, 2.567),
    ("MLPerf kws", "NUCLEO-L4R5ZI", "v1.0, v1.1", "m4", 120, 10.019),
    ("MLPerf vww", "NUCLEO-L4R5ZI", "v1.0", "m4", 120, 3.320),
    ("MLPerf ad01", "NUCLEO-L4R5ZI", "v1.0", "m4", 120, 116.212),
    ("MLPerf resnet8", "nRF5340-DK", "v1.0", "m33", 128, 3.163),
    ("MLPerf kws", "nRF5340-DK", "v1.0", "m33", 128, 13.143),
    ("MLPerf vww", "nRF5340-DK", "v1.0", "m33", 128, 4.310),
    ("MLPerf ad01", "nRF5340-DK", "v1.0", "m33", 128, 159.579),
]


def ours() -> dict[str, Callable[[], bytes]]:
    """Nets that need no file."""
    return {**{f"{name}, 80 % zeros": make for name, make in nets.NETS.items()}, **INT8_NETS}


def errors(models: Mapping[str, bytes], core: str) -> list[tuple[str, int, int, float, float]]:
    """Of each net the counted instructions and cycles, and by what share the estimate is more."""
    rows = []
    for name, model in models.items():
        with tempfile.TemporaryDirectory() as folder:
            (samples,) = mcu_costs.run_nets([model], core, Path(folder), optimize="balanced")
        estimate = total([layer for layer, _ in samples])
        instructions = sum(count.instructions for _, count in samples)
        cycles = sum(count.cycles for _, count in samples)
        if estimate is None:
            rows.append((name, instructions, cycles, float("nan"), float("nan")))
            continue
        of_cycles = estimate.cycles / cycles - 1 if estimate.cycles and cycles else float("nan")
        rows.append(
            (name, instructions, cycles, estimate.instructions / instructions - 1, of_cycles)
        )
    return rows


def _percent(value: float) -> str:
    return "" if value != value else f"{100 * value:+.1f} %"


def error_table(models: Mapping[str, bytes], cores: list[str]) -> str:
    lines = ["| net | core | instructions in QEMU | estimate | cycles by the plugin | estimate |"]
    lines.append("|---" * 6 + "|")
    for core in cores:
        for name, instructions, cycles, off, cycles_off in errors(models, core):
            counted = f"{cycles:,}" if cycles else "no timings"
            lines.append(
                f"| {name} | {core} | {instructions:,} | {_percent(off)} | {counted} | "
                f"{_percent(cycles_off)} |"
            )
            print(lines[-1], flush=True)
    return "\n".join(lines)


def published_table(folder: Path) -> str:
    """The plugin's cycles of CMSIS-NN 4.0.0 beside what was published for it."""
    lines = ["| net | board | round | published, M cycles | the plugin's | off |", "|---" * 6 + "|"]
    for name, board, published_in, core, megahertz, rate in PUBLISHED:
        model = (folder / MLPERF[name]).read_bytes()
        kept = Path(tempfile.gettempdir()) / f"ec2t_yardstick_{core}"
        cycles = sum(c.cycles for c in cmsis_nn.layer_counts(model, core, kept).values()) / 1e6
        published = megahertz / rate
        lines.append(
            f"| {name.removeprefix('MLPerf ')} | {board} | {published_in} | {published:.2f} | "
            f"{cycles:.2f} | {_percent(cycles / published - 1)} |"
        )
        print(lines[-1], flush=True)
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--models", type=Path, help="folder of MLPerf Tiny's files")
    parser.add_argument("--cores", default=",".join((*qemu.CORES, "rv32", "rv32_unaligned")))
    parser.add_argument("--write", action="store_true", help="rewrite the tables of docs/boards.md")
    flags = parser.parse_args()
    models = {name: make() for name, make in ours().items()}
    text = ""
    if flags.models:
        models |= {name: (flags.models / file).read_bytes() for name, file in MLPERF.items()}
        text += "## Beside published figures\n\n" + published_table(flags.models) + "\n\n"
    text = "## Beside QEMU\n\n" + error_table(models, flags.cores.split(",")) + "\n\n" + text
    if flags.write:
        document = DOCS / "boards.md"
        document.write_text(
            document.read_text().split(MARK)[0] + MARK + "\n\n" + text.rstrip() + "\n"
        )


if __name__ == "__main__":
    main()
