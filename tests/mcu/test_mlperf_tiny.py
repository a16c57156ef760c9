"""The bench of MLPerf Tiny's nets: what it prunes, and that its page holds its figures."""

from __future__ import annotations

import numpy as np

from ec2t_tf.export.graph.ternary import is_ternary, kernel_of
from ec2t_tf.export.tflite import read
from tests import nets
from tests.bench import mlperf_tiny


def test_the_page_has_the_figures() -> None:
    page = (mlperf_tiny.DOCS / "mlperf_tiny.md").read_text()
    rows = mlperf_tiny.load()
    assert list(rows) == list(mlperf_tiny.NETS)
    assert page == mlperf_tiny.filled(page, rows)


def test_middle_layers_keep_the_signs_of_their_largest_fifth() -> None:
    int8 = nets.ds_cnn(zeros=None)
    before, after = read(int8), read(mlperf_tiny.pruned(int8))
    kinds = []
    for old, new in zip(before.operators, after.operators, strict=True):
        kernels = kernel_of(before, old), kernel_of(after, new)
        if kernels[0] is None or kernels[1] is None:
            assert kernels == (None, None)
            continue
        a, b = (kernel[2].astype(int) for kernel in kernels if kernel is not None)
        kinds.append((old.kind, is_ternary(b)))
        if not is_ternary(b):
            np.testing.assert_array_equal(a, b)
            continue
        kept = b != 0
        assert (kept.sum(axis=1) == round(0.2 * b.shape[1])).all()
        assert ((b > 0) == (a >= 0))[kept].all()
        for was, chosen in zip(np.abs(a), kept, strict=True):
            assert was[chosen].min() >= was[~chosen].max()
    assert [ternary for _, ternary in kinds[:1] + kinds[-1:]] == [False, False]
    assert {ternary for kind, ternary in kinds if kind == "DEPTHWISE_CONV_2D"} == {False}
    assert sum(ternary for _, ternary in kinds) == 4
    assert 0.79 < mlperf_tiny.share_of_zeros(mlperf_tiny.pruned(int8)) < 0.81
