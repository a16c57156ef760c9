"""`ec2t`: help without heavy imports, one line for a mistake."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ec2t_tf import __main__ as ec2t
from ec2t_tf import quiet
from ec2t_tf.export import commands, reports
from tests.run_here import run_here

SMALL = Path(__file__).parent / "fixtures" / "v0_1_0" / "small_int8.tflite"
HEAVY = ("tensorflow", "keras", "tf_keras", "tensorflow_model_optimization", "matplotlib")


def run(*arguments: str, code: int = 0) -> subprocess.CompletedProcess:
    # Set, it asks for TensorFlow's lines.
    environment = {k: v for k, v in os.environ.items() if k != "TF_CPP_MIN_LOG_LEVEL"}
    done = subprocess.run(
        [sys.executable, "-m", "ec2t_tf", *arguments],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
    )
    assert done.returncode == code, done.stderr[-2000:]
    return done


def test_every_command_is_listed() -> None:
    printed = run("--help").stdout
    for name in (*ec2t.TRAINING, *commands.COMMANDS):
        assert f"\n  {name} " in printed
    assert run(code=2).stdout == printed
    assert run("--version").stdout.startswith("ec2t_tf ")


@pytest.mark.few(4)
@pytest.mark.parametrize("command", [*ec2t.TRAINING, *commands.COMMANDS])
def test_help_is_light(command: str) -> None:
    """What it costs is in tests/bench/command_line.py; this is what made it slow."""
    code = (
        "import contextlib, json, sys\nfrom ec2t_tf.__main__ import main\n"
        f"with contextlib.suppress(SystemExit): main(['{command}', '--help'])\n"
        f"print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert f"usage: ec2t {command}" in done.stdout
    assert json.loads(done.stdout.splitlines()[-1]) == []


@pytest.mark.parametrize("words", [["--help"], ["train", "--help"], ["zoo"]])
def test_who_reads_may_stop(words: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as closed:
        done = subprocess.run(
            [sys.executable, "-m", "ec2t_tf", *words],
            stdout=closed,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (done.returncode, done.stderr) == (0, "")


def test_every_flag_of_training_has_a_heading() -> None:
    code = (
        "from ec2t_tf.train.options import FLAGS, SECTIONS\n"
        "own = {f.name for f in FLAGS.flags_by_module_dict()['ec2t_tf.train.options']}\n"
        "said = [name for names in SECTIONS.values() for name in names]\n"
        "assert len(said) == len(set(said)), said\n"
        "assert own == set(said), own ^ set(said)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


MISTAKES = [
    ("frobnicate", "unknown command 'frobnicate'"),
    ("reprot x.tflite", "did you mean 'report'"),
    ("trian", "did you mean 'train'"),
    ("report", "arguments are required: files"),
    ("summary {small}", "small_int8.tflite'. Run: ec2t report"),
    ("report {tmp}/none.tflite", "none.tflite': No such file"),
    ("report {text}", "'TFL3'"),
    ("report {tmp}", "the folder of a run with a model.tflite"),
    ("rewrite {small} --format=pakced --output={tmp}/x", "invalid choice: 'pakced'"),
    ("rewrite {small} --format=packed", "arguments are required: --output"),
    ("rewrite {small} --format=packed --output={tmp}/none/x", "none/"),
    ("rewrite {small} --fromat=packed --format=packed --output={tmp}/x", "did you mean '--format'"),
    ("rewrite {small} --format=packed --core=m4 --output={tmp}/x", "--core belongs to --format=c"),
    ("rewrite {small} --format=int8 --no_names --output={tmp}/x", "--no_names requires"),
    ("rewrite {small} --format=c --round_within=0.5 --output={tmp}/x", "--round_within requires"),
    ("rewrite {small} --format=tflm --io_dtype=int8 --output={tmp}/x", "--io_dtype requires"),
    ("rewrite {small} --format=int8 --io_dtype=int8 --output={tmp}/x", "a net without any"),
    ("rewrite {small} --format=packed --round_within=3 --output={tmp}/x", "0.00390625 to 1"),
    ("rewrite {small} --format=packed --optimize=ram --output={tmp}/x", "size, speed, download"),
    ("rewrite {small} --format=c --optimize=download --output={tmp}/x", "balanced"),
    ("rewrite {small} --format=int8 --optimize=size --output={tmp}/x", "c, packed or download"),
    ("rewrite {small} --format=int8 --measure --output={tmp}/x", "--measure belongs to"),
    ("convert --model={tmp} --output={tmp}/x --optimize=speed", "--optimize belongs to"),
    ("convert --model={tmp} --output={tmp}/x --format=c --io_dtype=int8", "--io_dtype is of"),
    ("convert --model={tmp} --output={tmp}/x --data={text}", "SavedModel folder that Keras wrote"),
    ("report {small} --html={tmp}/x.txt", "ends in .html"),
    ("report {small} --cores=m5", "--cores must be among generic, m0"),
    ("report {small} --measure", "--measure requires --cores"),
    ("summary {tmp}/none.keras", "none.keras"),
    ("suported", "did you mean 'supported'"),
    ("supported m4", "unknown argument 'm4'"),
    ("zoo nothing", "name must be one of"),
    ("unpack {small} --output={tmp}/x", "EC2D"),
    ("unpack {text} --output={tmp}/x --to=int9", "invalid choice: 'int9'"),
    ("verify {small}", "files to compare, or --cores for their C, are required"),
    ("verify {small} --cores=m5", "--cores must be among generic, m0"),
    ("verify {tmp}/model.keras --cores=m4", "--cores requires a .tflite file"),
    ("verify {small} {small} --inputs=many", "at least 1 is required. Received: 'many'"),
    ("verify {small} {small} --inputs=0", "--inputs: a whole number of at least 1"),
    ("summary {tmp}/none.keras --output={tmp}/x.pdf", "ends in .json, .csv, .html, .txt"),
    ("benchmark {text}", "'TFL3'"),
    ("sizes {small} {small}", "different names"),
    ("convert --output={tmp}/x", "arguments are required: --model"),
    ("convert --model={tmp} --output={tmp}/x --format=packed --verify=x.npy", "--verify runs"),
    ("convert --model={tmp} --output={tmp}/x --frmat=c", "unknown argument '--frmat=c'"),
    ("train --modle=x", "did you mean '--model'"),
    ("train --epochs=many", "flag --epochs=many"),
    ("train --epochs=0", "flag --epochs=0"),
    ("train --model=lenet", "ds_cnn|"),
    ("train --resume --output_dir={tmp}/none", "--resume requires the folder of a run"),
    ("train --method=twn --entropy_gain=0.2", "--entropy_gain belongs to --method=ec2t"),
    ("train --method=ternary --output_dir={tmp}/x", "--method must be one of"),
    ("train --dataset=mnist --tfds_dir={tmp}/none --output_dir={tmp}/none", "--tfds_dir"),
    ("train --repeat={text} --output_dir={tmp}/x", "--repeat must be the metrics.json"),
    ("sweep --grid=width --output_dir={tmp}/x", "--grid must be NAME=V1,V2"),
    ("sweep --methods=ec2t,ttt --output_dir={tmp}/x", "--methods must be among abs_mean, ec2t"),
    (
        "sweep --methods=ec2t,twn --output_dir={tmp}/x -- --target_sparsity=0.8",
        "Use --targets=VALUE",
    ),
    ("sweep --targest=0.5", "did you mean '--targets'"),
]


def test_supported_is_the_code_s_own() -> None:
    """A row an operator: the rules of the exact integers, and what C is written for."""
    from ec2t_tf.export import integer, mcu

    head, *rows = csv.reader(run("supported", "--csv").stdout.splitlines())
    assert head == ["operator", *integer.ROUNDINGS, "C", "packed"]
    assert {row[0] for row in rows} == {*integer.RULES, *mcu.supported()}
    assert {row[0] for row in rows if row[-2] == "yes"} == set(mcu.supported())
    packed = {row[0] for row in rows if row[-1] == "yes"}
    assert packed == {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"}


def test_verify_says_nothing_but_its_verdict() -> None:
    """Not that LiteRT made a delegate; whoever asks for logs has it."""
    line = ["verify", str(SMALL), str(SMALL)]
    assert run(*line).stderr == ""
    program = [sys.executable, "-m", "ec2t_tf", *line]
    heard = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "0"}
    done = subprocess.run(program, capture_output=True, text=True, check=True, env=heard)
    assert "delegate" in done.stderr


def test_a_packed_file_s_layers_have_names(tmp_path: Path) -> None:
    """Those that the file has; else the operator's number and kind."""
    packed = tmp_path / "packed.tflite"
    run("rewrite", str(SMALL), "--format=packed", f"--output={packed}")
    names = [one.name for one in reports.report(packed).kernels]
    assert names[:2] == ["operator 0 EC2T.Conv2D", "operator 1 EC2T.DepthwiseConv2D"]
    assert names[-1] == "t19"  # the net's output


@pytest.mark.parametrize("content", ["another", None])
def test_a_repeat_with_another_file_is_refused(content: str | None, tmp_path: Path) -> None:
    weights, metrics = tmp_path / "float.weights.h5", tmp_path / "metrics.json"
    flags = {"float_weights": str(weights)}
    was = {"flags": flags, "policy": None, "sha256": {"float_weights": "0" * 64}}
    metrics.write_text(json.dumps({"repeat": was}))
    if content is not None:
        weights.write_text(content)
    done = run("train", f"--repeat={metrics}", f"--output_dir={tmp_path / 'x'}", code=2)
    (only,) = done.stderr.splitlines()
    assert "--repeat requires the file of --float_weights that the run had" in only
    assert ("no file there" if content is None else "another content") in only
    assert not (tmp_path / "x").exists()


def test_a_mistake_of_the_command_itself(tmp_path: Path) -> None:
    """As the mistakes below, which mostly have no process of their own; this one loads Keras."""
    places = [f"--{name}={tmp_path / name}" for name in ("model", "output", "data")]
    (tmp_path / "model").mkdir()
    done = run("convert", *places, code=2)
    assert done.stdout == ""
    (only,) = done.stderr.splitlines()
    assert only.startswith("error: ")


def test_there_are_twenty_mistakes() -> None:
    assert len({line for line, _ in MISTAKES}) == len(MISTAKES) >= 20


@pytest.mark.parametrize(("line", "message"), MISTAKES, ids=[line for line, _ in MISTAKES])
def test_a_mistake_is_one_line(
    line: str, message: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    text = tmp_path / "text.tflite"
    text.write_text("this is no model, though it is long enough to be one")
    places = {"tmp": tmp_path, "text": text, "small": SMALL}
    words = line.format(**places).split()
    if words[0] in ec2t.TRAINING:  # absl's flags are those of a process
        done = run(*words, code=2)
    else:
        if words[0] in ("convert", "summary"):
            quiet.load_keras()
        done = run_here(lambda: ec2t.main(words), capfd)
    assert done.returncode == 2
    assert done.stdout in ("", "seed 1\n")
    (only,) = done.stderr.splitlines()
    assert only.startswith("error: ")
    assert message in only
    assert sorted(path.name for path in tmp_path.iterdir()) in (
        ["none", "text.tflite"],
        [text.name],
    )


def test_a_reader_that_has_enough_is_no_error() -> None:
    file = Path(__file__).parent / "fixtures" / "v0_1_0" / "small_int8.tflite"
    command = [sys.executable, "-m", "ec2t_tf", "report", str(file)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
        assert process.wait() == 0
