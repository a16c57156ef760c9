"""`format="sparse"`: TensorFlow Lite's sparse storage, bit-identical to int8."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ec2t_tf.export.file_formats.sparse import storage
from ec2t_tf.export.tflite import read, sparsity
from tests.tflite.fixtures import dense_net, random_inputs, run, sparse

NETS = ("lenet5", "resnet8", "resnet20", "depthwise", "mobilenet_v2")


@given(
    shape=st.lists(st.integers(1, 9), min_size=1, max_size=4),
    density=st.sampled_from((0.0, 0.1, 0.5, 1.0)),
    seed=st.integers(0, 2**32 - 1),
)
def test_sparse_rows_round_trip(shape, density, seed):
    rng = np.random.default_rng(seed)
    codes = rng.choice((-127, 91), size=shape) * (rng.random(shape) < density)
    rows = sparsity.rows(codes.astype(np.int8))
    np.testing.assert_array_equal(sparsity.decode(rows, tuple(shape)), codes)


def test_indices_past_one_byte_and_two():
    codes = np.zeros((3, 70_000), np.int8)
    codes[1, (0, 255, 256, 65_535, 65_536, 69_999)] = 127
    rows = sparsity.rows(codes)
    assert rows.levels[-1].indices.dtype == np.int32
    np.testing.assert_array_equal(sparsity.decode(rows, codes.shape), codes)


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("resolver", ["xnnpack", "builtin"])
def test_results_are_those_of_int8(int8_nets, net, resolver):
    original = int8_nets[net]
    inputs = random_inputs(original, 8)
    np.testing.assert_array_equal(
        run(sparse(original), inputs, resolver), run(original, inputs, resolver)
    )


def test_file_is_smaller_and_storage_tells_why(int8_nets):
    original = int8_nets["lenet5"]
    written = sparse(original)
    report = storage(read(original))
    assert len(written) < 0.7 * len(original)
    assert {layer.stored for layer in report} == {"sparse", "dense"}
    for layer in report:
        if layer.stored == "dense":
            assert "bytes" in layer.reason
        else:
            assert layer.sparse < layer.dense
    # Zipped, the three codes of the dense form beat the index vectors: the report shows that.
    largest = max(report, key=lambda layer: layer.dense)
    assert largest.dense_zipped < largest.sparse_zipped


def test_a_file_without_int8_ternary_layers_is_refused():
    with pytest.raises(ValueError, match="1 layer: it has more than three codes"):
        sparse(dense_net())
