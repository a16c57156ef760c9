"""The MicroNet-2019 count and the plain count, against figures made by hand."""

from __future__ import annotations

import numpy as np
import pytest
import tf_keras
from tf_keras import layers

from ec2t_tf.counting import (
    EnergyTable,
    counts_as_ternary,
    micronet_score,
    plain_count,
    ternary_formats,
    tree_adder_bits,
)


def kernel_of(codes, w_n=0.25, w_p=0.5):
    codes = np.asarray(codes)
    return np.where(codes > 0, w_p, np.where(codes < 0, -w_n, 0.0)).astype(np.float32)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([-0.3, 0, 0.2], True),
        ([0, 0.2], True),
        ([-0.3, 0.2], False),
        ([0, 0.1, 0.2], False),
        ([-0.1, -0.2, 0], False),
        ([0, 0], False),
    ],
)
def test_counts_as_ternary(values, expected):
    assert counts_as_ternary(np.array(values)) is expected


def test_tree_adder_grows_a_bit_a_level():
    # 9 summands start as 8 operands: 4 of 16 bits, 2 of 17, 1 of 18.
    assert tree_adder_bits(9) == 4 * 16 + 2 * 17 + 18
    # 8 -> 7 operands: 3 pairs and one left over, 4 -> 2 -> 1.
    assert tree_adder_bits(8) == 3 * 16 + 2 * 17 + 18
    assert tree_adder_bits(2) == 0
    assert tree_adder_bits(0) == 0
    assert tree_adder_bits(9, first_bits=32) == 7 * 32


def test_formats_by_hand():
    bits = ternary_formats(weights=1600, nonzeros=100, rows=8)
    assert bits == {
        "mask+values": 3200,
        "CSR": 17 * 100 + 16 * 9 + 32,
        "CER": 16 * 100 + 32 * 9 + 32,
        "two masks": 3232,
        "mask+signs": 1732,
    }


def test_cer_wins_only_where_nearly_everything_is_zero():
    def winner(share):
        bits = ternary_formats(weights=36864, nonzeros=int(36864 * share), rows=64)
        return min(bits, key=bits.get)

    assert winner(1 / 30) == "CER"
    assert winner(1 / 8) == "mask+signs"


def dense_net(codes):
    model = tf_keras.Sequential(
        [layers.InputLayer((6,)), layers.Dense(4, use_bias=True, activation="relu", name="fc")]
    )
    model.layers[0].set_weights([kernel_of(codes), np.ones(4, np.float32)])
    return model


CODES = np.zeros((6, 4), int)
CODES[:5, 0] = 1
CODES[:5, 1] = -1
CODES[:3, 2] = 1
CODES[:3, 3] = -1  # 16 non-zeros, 4 an output on average


def test_ternary_dense_by_hand():
    line = micronet_score(dense_net(CODES)).layers[-1]
    assert (line.treatment, line.format) == ("ternary", "mask+signs")
    assert (line.weights, line.nonzeros) == (24, 16)
    # 24 mask bits, 16 signs, 2 centroids of 16 bits -> 3 numbers; 4 biases of half a number
    assert line.parameters == 3 + 2
    # 4 summands, so 3 operands: 1 addition of 16 bits, 1 of 17; a 32-bit bias for each output
    assert line.additions == 4 * (16 + 17) / 32 + 4
    # 2 centroids of half an operation each, and the ReLU at 16 bits
    assert line.multiplications == 4 * 1 + 4 / 2


def test_float_dense_by_hand():
    model = dense_net(CODES)
    model.layers[0].set_weights([np.ones((6, 4), np.float32), np.ones(4, np.float32)])
    score = micronet_score(model, float_bits=32)
    assert score.parameters == 24 + 4
    assert score.additions == 4 * 5 + 4
    assert score.multiplications == 24 + 4
    half = micronet_score(model)
    assert half.parameters == 14
    assert half.additions == score.additions
    assert half.multiplications == 14
    assert score.relative_to(parameters=28, operations=52) == 2.0


def test_plain_count_by_hand():
    table = EnergyTable(add=1.0, multiply=10.0, weight_bit=100.0, source="made up")
    count = plain_count(dense_net(CODES), energy_table=table)
    assert count.macs == 24
    assert count.additions == 16 - 4 + 4  # 16 summands in 4 sums, and 4 biases
    assert count.multiplications == 4  # every output has weights of one sign: one centroid each
    assert count.weight_bits == 24 + 16 + 64 + 4 * 32
    assert count.compute_energy == pytest.approx((16 + 40) * 1e-12)
    assert count.weight_energy == pytest.approx(count.weight_bits * 100e-12)
    assert "made up" in count.table()


def residual_net():
    """conv1 (float), conv2 and conv3 with dead outputs, + conv1, conv4, pool, dense."""
    inputs = layers.Input((8, 8, 3))
    first = layers.Conv2D(4, 3, padding="same", use_bias=False, name="conv1")(inputs)
    x = layers.Conv2D(4, 3, padding="same", use_bias=False, name="conv2")(first)
    x = layers.BatchNormalization(name="bn2")(x)
    x = layers.ReLU(name="relu2")(x)
    x = layers.Conv2D(4, 3, padding="same", use_bias=False, name="conv3")(x)
    x = layers.BatchNormalization(name="bn3")(x)
    x = layers.Add(name="add")([x, first])
    x = layers.Conv2D(4, 1, padding="same", use_bias=False, name="conv4")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(x)
    model = tf_keras.Model(inputs, layers.Dense(2, name="fc")(x))
    random = np.random.default_rng(0)
    for name, dead in (("conv2", [1]), ("conv3", [0, 2]), ("conv4", [])):
        shape = model.get_layer(name).kernel.shape
        codes = random.choice([-1, 0, 1], size=shape)
        codes[0, 0, 0] = 1  # every output has a weight
        codes[..., dead] = 0
        model.get_layer(name).kernel.assign(kernel_of(codes))
    return model


def test_dead_channels_across_a_skip_connection():
    model = residual_net()
    published = {line.name: line for line in micronet_score(model).layers}
    sound = {line.name: line for line in micronet_score(model, accounting="sound").layers}
    for lines in (published, sound):
        assert (lines["conv2"].dead_inputs, lines["conv2"].dead_outputs) == (0, 1)
        assert (lines["conv3"].dead_inputs, lines["conv3"].dead_outputs) == (1, 2)
        assert lines["bn2"].parameters == 3 / 2
        assert lines["relu2"].multiplications == 64 * 3 / 2
    # conv3's dead outputs are revived by the skip connection; only the authors take them out.
    assert published["conv4"].dead_inputs == 2
    assert sound["conv4"].dead_inputs == 0
    assert published["pool"].additions == 0
    assert sound["pool"].additions == 4 * 63


def test_every_skip_addition_counts_when_sound():
    inputs = layers.Input((4, 4, 2))
    x = layers.Conv2D(2, 1, name="a")(inputs)
    first = layers.Add(name="first")([x, inputs])
    x = layers.Conv2D(2, 1, name="b")(first)
    model = tf_keras.Model(inputs, layers.Add(name="last")([x, first]))
    published = {line.name: line.additions for line in micronet_score(model).layers}
    sound = {line.name: line.additions for line in micronet_score(model, accounting="sound").layers}
    assert (published["first"], published["last"]) == (0, 32)
    assert (sound["first"], sound["last"]) == (32, 32)


def test_batch_normalisation_is_folded_only_into_what_it_follows():
    inputs = layers.Input((4, 4, 2))
    x = layers.BatchNormalization(name="leading")(inputs)
    x = layers.Conv2D(2, 1, use_bias=False, name="conv")(x)
    x = layers.BatchNormalization(name="folded")(x)
    count = {line.name: line for line in plain_count(tf_keras.Model(inputs, x)).layers}
    assert (count["leading"].additions, count["leading"].multiplications) == (32, 32)
    assert (count["folded"].additions, count["folded"].multiplications) == (32, 0)


def test_a_layer_used_twice_is_stored_once():
    inputs = layers.Input((3,))
    shared = layers.Dense(3, name="shared")
    model = tf_keras.Model(inputs, shared(shared(inputs)))
    score = micronet_score(model, float_bits=32)
    assert score.parameters == 12
    assert score.multiplications == 18
    count = plain_count(model)
    assert (count.macs, count.weight_bits) == (18, 9 * 8 + 3 * 32)


def test_models_in_models_and_operators():
    block_inputs = layers.Input((4,))
    block = tf_keras.Model(block_inputs, layers.Dense(4, name="inner")(block_inputs), name="block")
    inputs = layers.Input((4,))
    x = block(inputs)
    model = tf_keras.Model(inputs, layers.Dense(2, name="outer")(x + inputs))
    count = {line.name: line for line in plain_count(model).layers}
    assert count["inner"].macs == 16
    assert count["outer"].macs == 8
    assert sum(line.additions for line in count.values()) == 16 + 8 + 4


@pytest.mark.parametrize(
    ("layer", "shape", "macs"),
    [
        (layers.Conv1D(4, 3), (10, 2), 8 * 3 * 2 * 4),
        (layers.Conv2D(4, 3, strides=2, padding="same"), (6, 6, 2), 9 * 9 * 2 * 4),
        (layers.Conv2D(4, 3, padding="same", groups=2), (6, 6, 4), 36 * 9 * 2 * 4),
        (layers.DepthwiseConv2D(3, depth_multiplier=2), (6, 6, 2), 16 * 9 * 4),
        (layers.SeparableConv2D(5, 3), (6, 6, 2), 16 * 9 * 2 + 16 * 2 * 5),
        (layers.Conv2DTranspose(4, 3, strides=2), (5, 5, 2), 25 * 9 * 2 * 4),
        (layers.Dense(3), (7, 2), 7 * 2 * 3),
    ],
)
def test_macs(layer, shape, macs):
    model = tf_keras.Sequential([layers.InputLayer(shape), layer])
    assert plain_count(model).macs == macs


def test_what_cannot_be_counted_is_named():
    unbuilt = tf_keras.Sequential([layers.Dense(3)])
    with pytest.raises(ValueError, match="built"):
        micronet_score(unbuilt)
    with pytest.raises(TypeError, match="tf_keras"):
        plain_count(object())
    recurrent = tf_keras.Sequential([layers.InputLayer((4, 2)), layers.LSTM(3, name="memory")])
    with pytest.raises(ValueError, match="LSTM 'memory'"):
        micronet_score(recurrent)
    flexible = tf_keras.Sequential([layers.InputLayer((None, None, 3)), layers.Conv2D(2, 3)])
    with pytest.raises(ValueError, match="Fixed sizes"):
        plain_count(flexible)
    net = dense_net(CODES)
    with pytest.raises(ValueError, match="accounting"):
        micronet_score(net, accounting="generous")
    with pytest.raises(ValueError, match="float_bits"):
        micronet_score(net, float_bits=12)
    with pytest.raises(ValueError, match="value_bits"):
        plain_count(net, value_bits=4)


def test_a_float_resnet20_scores_as_published():
    from ec2t_tf.train.zoo.resnet20 import resnet20

    score = micronet_score(resnet20(), float_bits=32)
    assert round(score.parameters) == 269_034  # published: 269K
    assert round(score.additions / 1e6, 1) == 40.6
    assert round(score.multiplications / 1e6, 1) == 40.7
    assert round(score.operations / 1e6, 1) == 81.3


def test_a_ternary_resnet20_scores_as_published(shared):
    from ec2t_tf.train.zoo.published import load_weights
    from ec2t_tf.train.zoo.resnet20 import resnet20

    model = resnet20()
    load_weights(model, shared / "models" / "resnet20_t64.npz")
    score = micronet_score(model)
    assert score.parameters == 11_810
    assert round(score.operations / 1e6, 2) == 8.49
    assert round(score.additions / 1e6, 1) == 8.0
    assert round(score.multiplications / 1e6, 1) == 0.5
    ternary = [line for line in score.layers if line.treatment == "ternary"]
    assert len(ternary) == 18
    assert {line.format for line in ternary} == {"mask+signs"}


def test_a_model_in_training_scores_as_its_stripped_self():
    import ec2t_tf

    tf_keras.utils.set_random_seed(0)
    net = tf_keras.Sequential(
        [layers.InputLayer((4,)), layers.Dense(8), layers.Dense(8, name="middle"), layers.Dense(2)]
    )
    model = ec2t_tf.apply(net)
    score = micronet_score(model)
    assert score.layers == micronet_score(ec2t_tf.strip(model)).layers
    assert {line.name: line.treatment for line in score.layers}["middle"] == "ternary"
