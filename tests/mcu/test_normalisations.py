"""Layer, group, RMS and unit normalisations: as our writer writes them, one kernel in C."""

from __future__ import annotations

import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers, ops

import ec2t_tf
from ec2t_tf.export.graph import FileError, Graph, Operator
from ec2t_tf.export.lower import lower
from ec2t_tf.export.lower.net import Net
from ec2t_tf.export.lower.pending import RULES
from ec2t_tf.export.mcu import to_c
from ec2t_tf.export.mcu.normalisations import NORMALISE, with_normalisations
from ec2t_tf.export.tflite import read, write
from tests.mcu import many_nets, random_normalisations


@pytest.mark.parametrize(
    ("first", "count"),
    [(0, 40), *[pytest.param(40 + 80 * k, 80, marks=pytest.mark.slow) for k in range(4)]],
)
def test_random(tmp_path: Path, first: int, count: int) -> None:
    """C, the exact integers and LiteRT's reference compute the same."""
    seeds = range(first, first + count)
    drawn = [random_normalisations.draw(seed) for seed in seeds]
    about = [one.about for one in drawn]
    models = [write(one.graph) for one in drawn]
    for name, model in zip(about, models, strict=True):
        kinds = [op.kind for op in with_normalisations(read(model)).operators]
        assert kinds == [NORMALISE], name
    values = [
        random_normalisations.values_of(one.graph, seed)
        for seed, one in zip(seeds, drawn, strict=True)
    ]
    want = [many_nets.reference(m, v) for m, v in zip(models, values, strict=True)]
    exact = [many_nets.in_integers(read(m), v) for m, v in zip(models, values, strict=True)]
    assert not many_nets.differences(about, exact, want)
    got = many_nets.on_host(models, values, tmp_path, sanitize=True)
    assert not many_nets.differences(about, got, want)
    formulas = sum("middles" in (tmp_path / f"g{i}.c").read_text() for i in range(count))
    assert formulas == sum(seed % 8 != 7 for seed in seeds)  # of others the whole table
    assert sum(len(np.unique(w)) > 8 for w in want) > count / 2  # they say something


def _operator(graph: Graph, kind: str, place: int = 0) -> Operator:
    return [op for op in graph.operators if op.kind == kind][place]


def _offset(graph: Graph) -> None:
    (tensor,) = [t for t in graph.tensors if t.data is not None and t.data.tolist() == [512]]
    tensor.data = np.array([511], np.int32)


def _tier(graph: Graph) -> None:
    graph.tensors[_operator(graph, "CAST").inputs[0]].zero_point = np.array([-127])


def _table(graph: Graph) -> None:
    table = graph.tensors[_operator(graph, "GATHER").inputs[0]]
    assert table.data is not None
    table.data, table.shape = table.data[:-1], (len(table.data) - 1,)


def _rounded_elsewhere(graph: Graph) -> None:
    op = _operator(graph, "SUB")
    op.options = op.options | {"pot_scale_int16": True}


def _activation(graph: Graph) -> None:
    op = _operator(graph, "MUL")
    op.options = op.options | {"activation": "relu"}


def _read_elsewhere(graph: Graph) -> None:
    last = graph.tensors[graph.outputs[0]]
    made = graph.add("again", last.shape, "int8", scale=last.scale, zero_point=last.zero_point)
    graph.call("QUANTIZE", (_operator(graph, "MUL", -1).outputs[0],), made)
    graph.outputs = (*graph.outputs, made)


def _finer(graph: Graph) -> None:
    tensor = graph.tensors[_operator(graph, "QUANTIZE").outputs[0]]
    tensor.scale = tensor.scale / 2


@pytest.mark.parametrize(
    "change", [_offset, _tier, _table, _rounded_elsewhere, _activation, _read_elsewhere, _finer]
)
def test_what_is_another_is_refused_by_name(
    tmp_path: Path, change: Callable[[Graph], None]
) -> None:
    graph = random_normalisations.draw(0).graph
    to_c(write(graph), tmp_path / "as_written")
    change(graph)
    with pytest.raises(FileError, match=r"'norm/wide' must be int8.*as `to_tflite` writes them"):
        to_c(write(graph), tmp_path / "changed")


def test_an_output_of_no_range_is_refused_by_name(tmp_path: Path) -> None:
    """Its factor would leave 32 bits."""
    graph = random_normalisations.draw(4).graph
    tensor = graph.tensors[_operator(graph, "MUL", -1).outputs[0]]
    tensor.scale = tensor.scale * np.float32(1e-6)
    with pytest.raises(FileError, match="'norm' must have an output of a wider range"):
        to_c(write(graph), tmp_path)


def _chain(shape: tuple[int, ...], made: Sequence[Any], scale: float, zero: int) -> Graph:
    """A net of normalisations one behind the other, all outputs on one scale."""
    net = Net()
    x = net.int8("x", shape, 0.05, 3)
    net.graph.inputs = (x,)
    for number, layer in enumerate(made):
        layer.build(shape)
        call: Any = types.SimpleNamespace(key=f"n{number}", operation=layer, shape=shape)
        x = net.with_range(RULES[type(layer).__name__](net, call, x), scale, zero, f"n{number}")
    net.graph.outputs = (x,)
    return net.graph


def test_the_table_of_roots_lies_in_flash_once(tmp_path: Path) -> None:
    """As variances; a layer has its parameters, and the first 32 values."""
    made = [layers.LayerNormalization(epsilon=10.0**-number) for number in range(3)]
    report = to_c(write(_chain((1, 9, 16), made, 0.02, 5)), tmp_path)
    sizes = [layer.flash for layer in report.layers]
    assert sizes[0] > 2 * 989 > 4 * max(sizes[1:])


def test_rows_of_one_element(tmp_path: Path) -> None:
    """Nothing is left of them, so that their outputs' range says nothing."""
    made = [layers.LayerNormalization(center=False, scale=False)]
    model = write(_chain((1, 7, 1), made, 4e-5, -3))
    values = many_nets.inputs(model, 4, seed=1)
    (got,) = many_nets.on_host([model], [values], tmp_path, sanitize=True)
    assert np.all(got == -3)
    np.testing.assert_array_equal(got, many_nets.reference(model, values))


def _grouped() -> keras.Model:
    """Group, instance and unit normalisation between convolutions, whose maps have borders."""
    source = x = keras.Input((10, 10, 3))
    for filters in (8, 12):
        y = layers.Conv2D(filters, 3, padding="same", use_bias=False)(x)
        x = layers.ReLU()(layers.GroupNormalization(4)(y))
        y = layers.GroupNormalization(-1)(layers.Conv2D(filters, 3, padding="same")(x))
        x = layers.MaxPooling2D()(layers.ReLU()(x + y))
    return keras.Model(source, _end(layers.UnitNormalization()(layers.Flatten()(x))))


def _transformer() -> keras.Model:
    source = keras.Input((16, 12))
    x = layers.Dense(16)(source)
    for _ in range(2):
        y = layers.LayerNormalization()(x)
        x = layers.Add()([x, layers.MultiHeadAttention(2, 8)(y, y)])
        y = layers.Dense(32, activation="gelu")(layers.LayerNormalization()(x))
        x = layers.Add()([x, layers.Dense(16)(y)])
    return keras.Model(
        source, _end(layers.GlobalAveragePooling1D()(layers.LayerNormalization()(x)))
    )


def _vision_transformer() -> keras.Model:
    """Attention of keras.ops, RMS normalisation, gated units."""
    source = keras.Input((16, 16, 3))
    x = layers.Reshape((16, 24))(layers.Conv2D(24, 4, 4)(source))
    for _ in range(2):
        y = layers.LayerNormalization(epsilon=1e-6)(x)
        heads = [layers.Reshape((16, 3, 8))(layers.Dense(24)(y)) for _ in range(3)]
        q, k, v = (layers.Permute((2, 1, 3))(head) for head in heads)
        share = ops.softmax(ops.matmul(q, ops.transpose(k, (0, 1, 3, 2))) * 8**-0.5, axis=-1)
        y = layers.Reshape((16, 24))(layers.Permute((2, 1, 3))(ops.matmul(share, v)))
        x = x + layers.Dense(24)(y)
        y = layers.RMSNormalization()(x)
        x = x + layers.Dense(24)(layers.Dense(48, activation="silu")(y) * layers.Dense(48)(y))
    return keras.Model(source, _end(layers.LayerNormalization()(x)[:, 0]))


def _convnext() -> keras.Model:
    source = keras.Input((32, 32, 3))
    x = layers.LayerNormalization()(layers.Conv2D(16, 4, 4)(source))
    for filters in (16, 32):
        if filters > 16:
            x = layers.Conv2D(filters, 2, 2)(layers.LayerNormalization()(x))
        for _ in range(2):
            y = layers.LayerNormalization()(layers.DepthwiseConv2D(7, padding="same")(x))
            y = layers.Activation("gelu")(layers.Dense(4 * filters)(y))
            x = x + layers.Dense(filters)(y)
    return keras.Model(
        source, _end(layers.LayerNormalization()(layers.GlobalAveragePooling2D()(x)))
    )


def _mixer() -> keras.Model:
    source = keras.Input((16, 16, 3))
    x = layers.Reshape((16, 24))(layers.Conv2D(24, 4, 4)(source))
    for _ in range(2):
        y = layers.Permute((2, 1))(layers.LayerNormalization()(x))
        y = layers.Dense(16)(layers.Dense(32, activation="gelu")(y))
        x = layers.Add()([x, layers.Permute((2, 1))(y)])
        y = layers.Dense(48, activation="gelu")(layers.LayerNormalization()(x))
        x = layers.Add()([x, layers.Dense(24)(y)])
    return keras.Model(
        source, _end(layers.GlobalAveragePooling1D()(layers.LayerNormalization()(x)))
    )


def _end(x: Any) -> Any:
    return layers.Dense(4, name="end")(x)


def _followed(make: Callable[[], keras.Model]) -> bytes:
    """The file of a net after `apply` and one step of training."""
    keras.utils.set_random_seed(1)
    model = ec2t_tf.apply(make(), verbose=0)
    assert not model.ec2t_report.of("float")
    model.compile("sgd", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    random = np.random.default_rng(0)
    x = random.normal(0, 1, (16, *model.input.shape[1:])).astype(np.float32)
    model.fit(x, random.integers(0, 4, 16), batch_size=16, verbose=0)
    return write(lower(model))


def _nets_values(model: bytes) -> many_nets.Codes:
    values = many_nets.inputs(model, 6, seed=3)
    values[3:] //= 3
    return values


def test_a_net_on_the_host_and_on_cores(tmp_path: Path) -> None:
    model = _followed(_grouped)
    values = _nets_values(model)
    want = many_nets.reference(model, values)
    (host,) = many_nets.on_host([model], [values], tmp_path / "host", sanitize=True)
    assert not many_nets.differences(["host"], [host], [want])
    for core in ("m0", "m4"):
        (got,) = many_nets.on_core(core, [model], [values[2:4]], tmp_path / core)
        assert not many_nets.differences([core], [got], [want[2:4]])
    assert len(np.unique(want)) > 8


@pytest.mark.slow
@pytest.mark.parametrize("make", [_transformer, _vision_transformer, _convnext, _mixer])
def test_nets(tmp_path: Path, make: Callable[[], keras.Model]) -> None:
    model = _followed(make)
    values = _nets_values(model)
    want = many_nets.reference(model, values)
    (host,) = many_nets.on_host([model], [values], tmp_path / "host", sanitize=True)
    assert not many_nets.differences(["host"], [host], [want])
    assert len(np.unique(want)) > 8
    report = to_c(model, tmp_path / "c", core="m4", measure=True)
    normalised = sum(layer.flash for layer in report.layers if "normalisation" in layer.name)
    print(f"| {make.__name__[1:].replace('_', ' ')} | {report.flash:,} | {normalised:,} |", end=" ")
    print(f"{report.arena:,} | {report.instructions:,} |")
    if report.estimate is not None:
        assert report.estimate.instructions == pytest.approx(report.instructions, rel=0.1)
    for core in ("m4", "m55", "rv32"):
        (got,) = many_nets.on_core(core, [model], [values[2:4]], tmp_path / core)
        assert not many_nets.differences([core], [got], [want[2:4]])
