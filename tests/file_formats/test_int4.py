"""`format="int4"`: builtin INT4 weights on the grid of seven levels."""

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

from ec2t_tf.export.file_formats.int4 import grid_codes
from ec2t_tf.export.file_formats.layers import find_layers
from ec2t_tf.export.tflite import nibbles, read
from tests.tflite.fixtures import align_to_int4, int4, random_inputs, run

NETS = ("lenet5", "resnet8", "resnet20", "depthwise", "mobilenet_v2")


@pytest.mark.parametrize("level", range(1, 8))
def test_every_level_is_found(level):
    small = round(127 * level / 7)
    codes, step = grid_codes(np.array([[127, -small, 0, 0]], np.int8), 1)
    np.testing.assert_array_equal(codes, [[7, -level, 0, 0]])
    assert step == pytest.approx(127 / 7)


@pytest.mark.parametrize("small", [1, 10, 27, 45, 64, 82, 100, 120])
def test_other_ratios_are_not_on_the_grid(small):
    assert grid_codes(np.array([[127, -small, 0]], np.int8), 1) is None


def test_a_channel_of_zeros_keeps_its_scale():
    codes, step = grid_codes(np.array([[0, 0], [127, -127]], np.int8), 2)
    np.testing.assert_array_equal(codes, [[0, 0], [7, -7]])
    assert step[0] == 1


def test_nibbles_of_an_odd_number_of_codes():
    assert nibbles.packed(np.array([7, -7, -1], np.int8), 4).tolist() == [0x97, 0x0F]


@pytest.mark.parametrize("net", NETS)
@pytest.mark.parametrize("resolver", ["xnnpack", "builtin", "reference"])
def test_at_most_one_step_from_int8(int8_nets, net, resolver):
    aligned = align_to_int4(int8_nets[net])
    inputs = random_inputs(aligned, 8)
    difference = run(int4(aligned), inputs, resolver) - run(aligned, inputs, resolver)
    assert np.abs(difference).max() <= 1


def test_aligning_changes_a_layer_by_at_most_one_step(int8_nets):
    """Each layer of the aligned file on the original's activations, not the drift of a deep net."""
    original = int8_nets["lenet5"]
    inputs = random_inputs(original, 4)
    difference = run(align_to_int4(original), inputs) - run(original, inputs)
    assert np.abs(difference).max() <= 4  # five layers


def test_aligned_codes_are_multiples_of_eighteen(int8_nets):
    layers, _ = find_layers(read(align_to_int4(int8_nets["resnet8"])))
    assert {int(code) for layer in layers for code in np.unique(layer.codes)} == {
        -126,
        -90,
        0,
        90,
        126,
    }


def test_file_is_about_half(int8_nets):
    assert len(int4(int8_nets["resnet20"])) < 0.6 * len(int8_nets["resnet20"])


def test_other_ratios_are_refused_by_name(int8_nets):
    with pytest.raises(ValueError, match=r"EC2T\(level_grid=7\).*5 of 5 ternary.*5\.62/7"):
        int4(int8_nets["off_grid"])


def test_the_file_needs_no_custom_code(int8_nets):
    Interpreter(model_content=int4(int8_nets["depthwise"])).allocate_tensors()


@pytest.mark.slow
def test_a_net_with_seven_levels_is_at_most_one_step_from_its_int8_file(tmp_path):
    """From Keras: int8 and int4 files of EC2T(level_grid=7); and without it the refusal."""
    import ec2t_tf
    from ec2t_tf import export, methods
    from ec2t_tf.train import zoo

    rng = np.random.default_rng(11)
    images = rng.normal(size=(64, 32, 32, 3)).astype(np.float32)
    net = zoo.build("resnet8", input_shape=(32, 32, 3), classes=10)

    def trained(method):
        model = ec2t_tf.apply(net, method=method)
        model(images, training=True)  # ranges of the activations
        return model

    model = trained(methods.EC2T(level_grid=7))
    files = {}
    for form in ("int8", "int4"):
        path = tmp_path / f"{form}.tflite"
        export.to_tflite(model, path, format=form, io_dtype="int8")
        files[form] = path.read_bytes()
    inputs = random_inputs(files["int8"], 64)
    for resolver in ("xnnpack", "reference"):
        difference = run(files["int4"], inputs, resolver) - run(files["int8"], inputs, resolver)
        assert np.abs(difference).max() <= 1
    with pytest.raises(ValueError, match="level_grid=7"):
        export.to_tflite(trained(methods.EC2T()), tmp_path / "free.tflite", format="int4")
