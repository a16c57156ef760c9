"""A file that was read and written again computes the same, and is not larger."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter, OpResolverType

from ec2t_tf.export.graph import FileError, Graph, prune
from ec2t_tf.export.tflite import read, write

FILES = [
    *(f"mlperf_tiny_{name}_int8.tflite" for name in ("resnet8", "ad01", "vww_96")),
    *(f"mlperf_tiny_{name}_ref_model.tflite" for name in ("kws", "str_ww")),
    "mlperf_tiny_kws_ref_model_float32.tflite",
    "real/arduino__magic_wand.tflite",
    "real/eiq-model-zoo__yolo_face_detect.tflite",
    "real/mltk__anomaly_detection.tflite",
    "real/mltk__fingerprint_signature_generator.tflite",
    "real/mltk__image_example1.tflite",
    "real/mww__v2_vad.tflite",
    "real/tflm__hello_world_int8.tflite",
    "real/tflm__micro_speech_quantized.tflite",
    "real/tflm__simple_add_model.tflite",
    "real/tflm__trained_lstm_int8.tflite",
    "real/tinyengine__vww.tflite",
]
STORED = Path(__file__).parent.parent / "fixtures" / "v0_1_0"


def outputs(content: bytes, seed: int) -> list[np.ndarray]:
    """Outputs of three runs, the state kept between them."""
    interpreter = Interpreter(
        model_content=content, experimental_op_resolver_type=OpResolverType.BUILTIN_REF
    )
    interpreter.allocate_tensors()
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(3):
        for detail in interpreter.get_input_details():
            if np.issubdtype(detail["dtype"], np.integer):
                limits = np.iinfo(detail["dtype"])
                values = rng.integers(limits.min, limits.max, detail["shape"], detail["dtype"])
            else:
                values = rng.normal(size=detail["shape"]).astype(detail["dtype"])
            interpreter.set_tensor(detail["index"], values)
        interpreter.invoke()
        found += [interpreter.get_tensor(d["index"]) for d in interpreter.get_output_details()]
    return found


def assert_same(content: bytes) -> Graph:
    graph = read(content)
    again = write(graph)
    assert len(again) <= len(content)
    for one, other in zip(outputs(content, 1), outputs(again, 1), strict=True):
        np.testing.assert_array_equal(one, other)
    return graph


@pytest.mark.parametrize("file", FILES)
def test_written_back_it_computes_the_same(shared: Path, file: str) -> None:
    assert_same((shared / "models" / file).read_bytes())


@pytest.mark.parametrize("form", ["int8", "sparse", "int4"])
def test_our_formats_compute_the_same(form: str) -> None:
    (file,) = STORED.glob(f"*_{form}.tflite")
    graph = assert_same(file.read_bytes())
    kinds = {tensor.storage for tensor in graph.tensors}
    assert kinds == {"dense"} | ({form} - {"int8"})


def test_what_a_free_batch_computes_is_gone(shared: Path) -> None:
    graph = assert_same((shared / "models/real/mltk__anomaly_detection.tflite").read_bytes())
    assert not {"SHAPE", "STRIDED_SLICE", "PACK"} & {one.kind for one in graph.operators}


def test_state_and_what_sets_it_come_along(shared: Path) -> None:
    graph = assert_same((shared / "models/real/mww__v2_vad.tflite").read_bytes())
    assert graph.initial is not None
    names = {one.options["shared_name"] for one in graph.operators if one.kind == "VAR_HANDLE"}
    start = [one for one in graph.initial.operators if one.kind == "VAR_HANDLE"]
    assert names == {one.options["shared_name"] for one in start}
    assert len(names) == 4
    lstm = assert_same((shared / "models/real/tflm__trained_lstm_int8.tflite").read_bytes())
    assert sum(tensor.variable for tensor in lstm.tensors) == 2


def test_names_signatures_and_notes_come_along(shared: Path) -> None:
    content = (shared / "models/mlperf_tiny_str_ww_ref_model.tflite").read_bytes()
    graph, again = read(content), read(write(read(content)))
    assert graph.signatures == again.signatures
    assert [one.key for one in graph.signatures] == ["serving_default"]
    assert set(graph.metadata) == {"min_runtime_version", "CONVERSION_METADATA"}
    assert graph.metadata == again.metadata
    assert [one.name for one in graph.tensors] == [one.name for one in again.tensors]


def several_ends() -> Graph:
    """Two inputs and two outputs, in an order that is neither the tensors' nor the alphabet's."""
    graph = Graph()
    for name in ("aa", "zz"):
        graph.add(name, (1, 4), "int8", scale=0.5, zero_point=1)
    for name in ("box", "cls"):
        graph.add(name, (1, 4), "int8", scale=0.5, zero_point=1)
    graph.call("ADD", (0, 1), 2, activation="none")
    graph.call("ADD", (1, 2), 3, activation="relu")
    graph.inputs, graph.outputs = (1, 0), (3, 2)
    return graph


def test_inputs_and_outputs_keep_their_order() -> None:
    content = write(several_ends())
    interpreter = Interpreter(model_content=content)
    assert [one["name"] for one in interpreter.get_input_details()] == ["zz", "aa"]
    assert [one["name"] for one in interpreter.get_output_details()] == ["cls", "box"]
    graph = read(content)
    assert (graph.inputs, graph.outputs) == ((1, 0), (3, 2))


@pytest.mark.parametrize("seed", range(6))
def test_sparse_and_narrow_constants(seed: int) -> None:
    """Any layout of the schema, blocks too, and codes of 4 and 2 bits."""
    from ec2t_tf.export.graph import Sparsity
    from ec2t_tf.export.tflite import nibbles, sparsity

    rng = np.random.default_rng(seed)
    shape = tuple(int(n) * 2 for n in rng.integers(1, 5, rng.integers(1, 5)))
    values = rng.integers(-2, 2, shape).astype(np.int8) * (rng.random(shape) < 0.4)
    values = values.astype(np.int8)
    rank = len(shape)
    blocks = tuple(int(axis) for axis in rng.permutation(rank)[: rng.integers(0, rank + 1)])
    order = tuple(int(axis) for axis in rng.permutation(rank)) + tuple(
        range(rank, rank + len(blocks))
    )
    compressed = tuple(bool(flag) for flag in rng.integers(0, 2, rank)) + (False,) * len(blocks)
    layout = Sparsity(order, compressed, blocks, (2,) * len(blocks))
    stored = sparsity.encode(values, layout)
    np.testing.assert_array_equal(sparsity.decode(stored, shape), values)
    np.testing.assert_array_equal(sparsity.decode(sparsity.rows(values), shape), values)
    for bits in (2, 4):
        packed = nibbles.packed(values, bits)
        assert packed.size == -(-values.size * bits // 8)
        np.testing.assert_array_equal(nibbles.unpacked(packed, bits, shape), values)


def test_a_file_of_two_nets_is_refused() -> None:
    from ai_edge_litert import schema_py_generated as schema

    parsed = schema.ModelT.InitFromObj(schema.Model.GetRootAs(write(several_ends()), 0))
    parsed.subgraphs.append(parsed.subgraphs[0])
    import flatbuffers

    builder = flatbuffers.Builder(0)
    builder.Finish(parsed.Pack(builder), b"TFL3")
    with pytest.raises(FileError, match=r"one net.*2 subgraphs"):
        read(bytes(builder.Output()))


def test_buffers_start_at_multiples_of_sixteen() -> None:
    from ai_edge_litert import schema_py_generated as schema

    from ec2t_tf.export.tflite.reader import layout
    from tests import nets

    content = write(read(nets.resnet8()))
    starts = [start for start, _ in layout(content).data.values()]
    assert len(starts) > 10
    assert {start % 16 for start in starts} == {0}
    root = schema.Model.GetRootAs(content, 0)
    assert root.BuffersLength() == 1 + len(set(starts))


def test_prune_drops_what_nothing_uses() -> None:
    graph = several_ends()
    graph.add("unused", (3,), "int8", data=np.zeros(3, np.int8))
    graph.tensors.insert(0, graph.tensors.pop())  # every index is one further on
    graph.inputs, graph.outputs = (2, 1), (4, 3)
    for operator in graph.operators:
        operator.inputs = tuple(index + 1 for index in operator.inputs)
        operator.outputs = tuple(index + 1 for index in operator.outputs)
    pruned = prune(graph)
    assert [tensor.name for tensor in pruned.tensors] == ["aa", "zz", "box", "cls"]
    assert (pruned.inputs, pruned.outputs) == ((1, 0), (3, 2))
    for one, other in zip(outputs(write(graph), 3), outputs(write(pruned), 3), strict=True):
        np.testing.assert_array_equal(one, other)
