"""The subcommands that need no trained model."""

import pytest

from ec2t_tf.export import benchmark, commands
from ec2t_tf.export.file_formats.download import header_goal
from ec2t_tf.export.tflite import read
from tests.tflite.fixtures import packed


@pytest.fixture
def file(int8_nets, tmp_path):
    path = tmp_path / "lenet5.tflite"
    path.write_bytes(int8_nets["lenet5"])
    return path


def test_rewrite_and_unpack(int8_nets, file, tmp_path, capsys):
    small, again = tmp_path / "lenet5.ec2d", tmp_path / "again.tflite"
    assert commands.main(["rewrite", str(file), "--format=download", f"--output={small}"]) == 0
    assert f"{small.stat().st_size:,} bytes" in capsys.readouterr().out
    assert commands.main(["unpack", str(small), "--to=int8", f"--output={again}"]) == 0
    assert again.read_bytes() == int8_nets["lenet5"]
    assert commands.main(["unpack", str(small), f"--output={again}"]) == 0
    assert again.read_bytes() == packed(int8_nets["lenet5"])


@pytest.mark.parametrize("goal", ["size", "speed", "download"])
def test_goals_of_packed_files(int8_nets, file, tmp_path, goal):
    small, again = tmp_path / "lenet5.ec2d", tmp_path / "packed.tflite"
    options = [f"--optimize={goal}", "--no_names"]
    assert (
        commands.main(["rewrite", str(file), "--format=packed", f"--output={again}", *options]) == 0
    )
    want = packed(int8_nets["lenet5"], optimize=goal, names=False)
    assert again.read_bytes() == want
    names = {operator.kind for operator in read(want).operators}
    assert ("EC2T.Layer" in names) == (goal != "speed")
    assert (
        commands.main(["rewrite", str(file), "--format=download", f"--output={small}", *options])
        == 0
    )
    assert header_goal(small.read_bytes()) == goal
    assert commands.main(["unpack", str(small), f"--output={again}"]) == 0
    assert again.read_bytes() == want


def test_mistakes_are_one_line(file, tmp_path, capsys):
    output = tmp_path / "none"
    assert commands.main(["unpack", str(file), f"--output={output}"]) == 2
    assert "EC2D" in capsys.readouterr().err
    assert not output.exists()
    assert commands.main(["unpack", str(tmp_path / "missing"), f"--output={output}"]) == 2


def test_benchmark_prints_ratios(int8_nets, file, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(benchmark, "ROUND_SECONDS", 0.0005)
    second = tmp_path / "packed.tflite"
    second.write_bytes(packed(int8_nets["lenet5"]))
    assert commands.main(["benchmark", str(file), f"--packed={second}", "--rounds=2"]) == 0
    printed = capsys.readouterr().out
    assert "int8, stock interpreter (XNNPACK)" in printed
    assert "packed, ec2t_tf" in printed
    assert printed.count("%") == 5  # a line for each ternary layer


def test_sizes_are_those_on_disk(file, tmp_path, capsys):
    folder = tmp_path / "kept"
    assert commands.main(["sizes", str(file), f"--output_dir={folder}"]) == 0
    printed = capsys.readouterr().out
    for written in (folder / "lenet5").iterdir():
        assert f"{written.stat().st_size:,}" in printed
    assert printed.count("\n|") == 7  # below the head: a rule, five formats, the entropy


def test_sizes_of_files_of_one_name(file, tmp_path, capsys):
    files = [tmp_path / run / "model.tflite" for run in ("first", "second")]
    for path in files:
        path.parent.mkdir()
        path.write_bytes(file.read_bytes())
    folder = tmp_path / "kept"
    assert commands.main(["sizes", *map(str, files), f"--output_dir={folder}"]) == 0
    assert "second/model" in capsys.readouterr().out
    assert (folder / "first" / "model" / "packed.tflite").exists()
    assert commands.main(["sizes", str(files[0]), str(files[0])]) == 2
    assert "different names" in capsys.readouterr().err


def test_verify_compares_every_runtime(int8_nets, file, tmp_path, capsys):
    small = tmp_path / "lenet5.ec2d"
    assert commands.main(["rewrite", str(file), "--format=download", f"--output={small}"]) == 0
    capsys.readouterr()
    command = ["verify", str(file), str(file), str(small), "--inputs=4", "--most_steps=0"]
    assert commands.main(command) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(": ")[0].split(" in ")[1] for line in lines] == [
        *("LiteRT", "ec2t_tf"),
        "ec2t_tf",
    ]
    other = tmp_path / "off_grid.tflite"
    other.write_bytes(int8_nets["off_grid"])
    assert commands.main(["verify", str(file), str(other), "--inputs=4"]) == 2
    assert "--most_steps" in capsys.readouterr().err
