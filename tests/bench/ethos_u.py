"""What Arm's Vela makes of our int8 files for an Ethos-U55: weights, memory, its estimated cycles.

    make bench-ethos          # installs ethos-u-vela and prints the table of docs/mcu.md

The weights of the nets are random, ternary at a share of zeros, or int8.
"""

from __future__ import annotations

import csv
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests import nets

ACCELERATOR = "ethos-u55-128"
ZEROS = (None, 0.5, 0.8, 0.9)
COLUMNS = {
    "total_original_weights": "weights",
    "total_npu_encoded_weights": "encoded",
    "off_chip_flash_memory_used": "flash, KiB",
    "sram_memory_used": "SRAM, KiB",
    "cycles_total": "cycles",
}


def compiled(model: bytes) -> dict[str, float]:
    """Vela's summary of one file."""
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "net.tflite"
        file.write_bytes(model)
        command = [str(vela()), f"--accelerator-config={ACCELERATOR}", f"--output-dir={scratch}"]
        done = subprocess.run([*command, str(file)], capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"vela failed: {done.stderr}{done.stdout}")
        (summary,) = Path(scratch).glob("net_summary_*.csv")
        with summary.open() as lines:
            (row,) = csv.DictReader(lines)
    return {name: float(row[column]) for column, name in COLUMNS.items()}


def vela() -> Path:
    """The program: beside this Python, or on the path."""
    found = Path(sys.executable).parent / "vela"
    if found.exists():
        return found
    elsewhere = shutil.which("vela")
    if elsewhere is None:
        raise SystemExit("vela is missing: pip install ethos-u-vela")
    return Path(elsewhere)


def main() -> None:
    print("| net | zeros | " + " | ".join(COLUMNS.values()) + " |")
    print("|---" * (2 + len(COLUMNS)) + "|")
    for name, make in nets.NETS.items():
        for zeros in ZEROS:
            row = compiled(make(zeros=zeros))  # type: ignore[operator]
            cells = [f"{v:,.1f}" if "KiB" in k else f"{v:,.0f}" for k, v in row.items()]
            print(
                f"| {name} | {'int8' if zeros is None else f'{zeros:.0%}'} | {' | '.join(cells)} |"
            )


if __name__ == "__main__":
    main()
