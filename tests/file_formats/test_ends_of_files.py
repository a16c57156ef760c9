"""`rewrite(io_dtype="int8")`: files without what quantises and dequantises their ends."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from ec2t_tf.export import running
from ec2t_tf.export.file_formats import plain, rewrite, unpack
from ec2t_tf.export.graph import FileError
from ec2t_tf.export.tflite import read, write
from ec2t_tf.train.trained.cards import FOLDER as TRAINED
from tests.fixtures.write import small_net


@pytest.fixture(scope="module")
def own() -> bytes:
    """ResNet-8 on Fashion-MNIST at 79.8 % zeros, of the trained nets."""
    return plain(TRAINED / "fashion_resnet8_80.tflite")


@pytest.mark.parametrize("name", ["int8", "packed", "download"])
def test_it_computes_the_same_codes(own: bytes, name: str) -> None:
    done = rewrite(own, format=name, io_dtype="int8").content
    assert len(done) < len(rewrite(own, format=name).content)
    file = unpack(done) if name == "download" else done
    graph, before = read(file), read(own)
    kinds = {operator.kind for operator in graph.operators}
    assert not kinds & {"QUANTIZE", "DEQUANTIZE"}
    ((source,), (target,)) = graph.inputs, graph.outputs
    for new, old in ((source, before.inputs[0]), (target, before.outputs[0])):
        assert graph.tensors[new].dtype == "int8"
        assert graph.tensors[new].name == before.tensors[old].name
    (signature,), (other,) = graph.signatures, before.signatures
    assert (signature.inputs.keys(), signature.outputs.keys()) == (
        other.inputs.keys(),
        other.outputs.keys(),
    )
    assert ([*signature.inputs.values()], [*signature.outputs.values()]) == ([source], [target])
    images = np.random.default_rng(3).normal(size=(8, 28, 28, 1)).astype(np.float32)
    runtime = "LiteRT" if name == "int8" else "ec2t_tf"
    (found,) = running.run(file, [images], runtime=runtime)
    (expected,) = running.run(own, [images])
    np.testing.assert_array_equal(found.values, expected.values)


def test_with_all_else_that_goes_on_request(own: bytes) -> None:
    """Names, digits, ends: what a ResNet-8 takes at least."""
    options = {"names": False, "io_dtype": "int8", "round_within": 0.25}
    sizes = [rewrite(own, format=name, **options).bytes_after for name in ("packed", "download")]
    assert sizes == [10576, 8919]


def test_a_file_without_float_ends_is_refused() -> None:
    with pytest.raises(FileError, match="a net without any"):
        rewrite(small_net(), format="int8", io_dtype="int8")
    with pytest.raises(ValueError, match=r"or left out .* 'float32'"):
        rewrite(small_net(), format="int8", io_dtype="float32")


def test_ends_that_others_use_stay(own: bytes) -> None:
    """The float32 input is an output, too; the codes of the output are asked for as well."""
    graph = read(own)
    (source,), (target,) = graph.inputs, graph.outputs
    seen = dataclasses.replace(graph, outputs=(target, source))
    kept = read(rewrite(write(seen), format="int8", io_dtype="int8").content)
    assert [kept.tensors[i].dtype for i in (*kept.inputs, *kept.outputs)] == [
        "float32",
        "int8",
        "float32",
    ]
    codes = next(one for one in graph.operators if one.kind == "DEQUANTIZE").inputs[0]
    both = dataclasses.replace(graph, outputs=(target, codes))
    kept = read(rewrite(write(both), format="int8", io_dtype="int8").content)
    assert [kept.tensors[i].dtype for i in kept.outputs] == ["float32", "int8"]
