"""Fuzz for as long as you like, or measure which lines the fuzzer reaches.

    python -m tests.fuzz graph --runs=1000000 --corpus=FOLDER
    python -m tests.fuzz graph --coverage --corpus=FOLDER

The corpus grows with every run; what goes wrong is written to the present folder.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

from . import targets


def coverage(target: targets.Target, program: Path, corpus: Path, room: str) -> None:
    """Prints the share of lines that the corpus reaches, of every C file below `room`."""
    profile = corpus.parent / f"{target.name}.profraw"
    command = [str(program), "-runs=0", "-close_fd_mask=3", str(corpus)]
    environment = {**os.environ, "LLVM_PROFILE_FILE": str(profile)}
    subprocess.run(command, env=environment, check=True, capture_output=True)
    merged = profile.with_suffix(".profdata")
    subprocess.run([tool("llvm-profdata"), "merge", "-o", str(merged), str(profile)], check=True)
    report = subprocess.run(
        [tool("llvm-cov"), "report", str(program), f"-instr-profile={merged}"],
        check=True,
        capture_output=True,
        text=True,
    )
    lines = missed = 0
    for row in map(str.split, report.stdout.splitlines()):
        # Name, then (count, missed, share) of regions, functions and lines.
        if len(row) > 9 and f"{room}/" in row[0]:
            print(f"{Path(row[0]).name:24} {int(row[7]):5} lines {row[9]:>8}")
            lines, missed = lines + int(row[7]), missed + int(row[8])
    print(f"{room:24} {lines:5} lines {100 * (1 - missed / max(lines, 1)):7.2f}%")


def tool(name: str) -> str:
    """The command, perhaps with a version behind its name."""
    for candidate in (name, *(f"{name}-{version}" for version in range(20, 12, -1))):
        if shutil.which(candidate):
            return candidate
    sys.exit(f"{name} is missing: it belongs to LLVM (Debian, Ubuntu: apt-get install llvm)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("target", choices=("graph", "layer", "compact"))
    parser.add_argument("--corpus", type=Path, required=True, help="folder of inputs, which grows")
    parser.add_argument("--runs", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--coverage", action="store_true", help="do not fuzz, but count lines")
    parser.add_argument("--room", default="export/litert", help="of which coverage is printed")
    arguments = parser.parse_args()
    target, seeds = {
        "graph": (targets.GRAPH, targets.graph_seeds),
        "layer": (targets.layer(), targets.layer_seeds),
        "compact": (targets.COMPACT, targets.compact_seeds),
    }[arguments.target]
    corpus = arguments.corpus.resolve()
    corpus.mkdir(parents=True, exist_ok=True)
    for index, seed in enumerate(seeds()):
        (corpus / f"seed{index:03}").write_bytes(seed)
    for finding in target.findings():
        shutil.copy(finding, corpus)
    flags = targets.COVERED if arguments.coverage else targets.SANITISED
    program = target.build(corpus.parent, flags)
    if arguments.coverage:
        coverage(target, program, corpus, arguments.room)
        return
    command = [str(program), *targets.LIMITS, f"-max_len={target.longest}", "-close_fd_mask=1"]
    command += [f"-runs={arguments.runs}", f"-seed={arguments.seed}", "-len_control=20"]
    sys.exit(subprocess.run([*command, "-print_final_stats=1", str(corpus)]).returncode)


if __name__ == "__main__":
    main()
