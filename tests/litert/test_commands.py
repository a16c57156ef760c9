"""The subcommands that need no trained model."""

import pytest
from ec2t_tf.export import benchmark, commands
from ec2t_tf.export.tflite import packed


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
