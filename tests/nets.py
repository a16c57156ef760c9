"""Int8 .tflite nets for tests, of the usual shapes and of odd ones."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tests.net_builder import NetBuilder


def lenet5(*, zeros: float = 0.8, seed: int = 1) -> bytes:
    net = NetBuilder((1, 28, 28, 1), seed=seed)
    x = net.conv(net.input, 6, (5, 5), zeros=None)
    x = net.pool(x, (2, 2), (2, 2), maximum=True)
    x = net.conv(x, 16, (5, 5), zeros=zeros, same=False)
    x = net.pool(x, (2, 2), (2, 2), maximum=False)
    x = net.reshape(x, (1, 400))
    x = net.dense(x, 120, zeros=zeros, relu=True)
    x = net.dense(x, 84, zeros=zeros, relu=True)
    return net.finish(net.dense(x, 10, zeros=None))


def resnet8(*, zeros: float | None = 0.8, seed: int = 2, width: float = 1) -> bytes:
    """The MLPerf Tiny topology; the first and the last layer stay int8.

    Args:
        width: Its channels over those of the published one.
    """
    net = NetBuilder((1, 32, 32, 3), seed=seed)
    first, *others = (round(width * channels) for channels in (16, 16, 32, 64))
    x = net.conv(net.input, first, zeros=None)
    for channels, stride in zip(others, (1, 2, 2), strict=True):
        y = net.conv(x, channels, (3, 3), (stride, stride), zeros=zeros)
        y = net.conv(y, channels, zeros=zeros, relu=False)
        if stride == 2:
            x = net.conv(x, channels, (1, 1), (2, 2), zeros=zeros, relu=False)
        x = net.add(x, y)
    x = net.pool(x, (8, 8), (8, 8), maximum=False)
    return net.finish(net.dense(net.reshape(x, (1, others[-1])), 10, zeros=None))


def ds_cnn(*, zeros: float = 0.8, seed: int = 3, width: int = 64) -> bytes:
    """Keyword spotting: 49x10 input, 10x4 stride 2 convolution, 4 separable blocks, 64 channels."""
    net = NetBuilder((1, 49, 10, 1), seed=seed)
    x = net.conv(net.input, width, (10, 4), (2, 2), zeros=None)
    for block in range(4):
        x = net.conv(x, width, zeros=None if block % 2 else zeros, depthwise=True)
        x = net.conv(x, width, (1, 1), zeros=zeros)
    x = net.pool(x, (25, 5), (25, 5), maximum=False)
    return net.finish(net.dense(net.reshape(x, (1, width)), 12, zeros=zeros))


def mobilenet(*, zeros: float = 0.8, seed: int = 4, fill_relu6: bool = True) -> bytes:
    """A small inverted-residual net: stride 2 SAME, depthwise stride 2, residuals, mean."""
    net = NetBuilder((1, 24, 24, 3), seed=seed, fill_relu6=fill_relu6)
    x = net.conv(net.input, 8, (3, 3), (2, 2), zeros=None, activation="RELU6")
    for channels, stride in ((8, 1), (12, 2), (12, 1), (20, 2)):
        y = net.conv(x, 4 * net.shape(x)[3], (1, 1), zeros=zeros, activation="RELU6")
        width = net.shape(y)[3]
        y = net.conv(
            y, width, (3, 3), (stride, stride), zeros=None, depthwise=True, activation="RELU6"
        )
        y = net.conv(y, channels, (1, 1), zeros=zeros, relu=False)
        x = net.add(x, y, relu=False) if net.shape(x) == net.shape(y) else y
    return net.finish(net.dense(net.mean(x), 10, zeros=None))


def odds_and_ends(*, seed: int = 5) -> bytes:
    """Every operator the exporter knows, in shapes the other nets do not have."""
    net = NetBuilder((1, 19, 13, 3), seed=seed)
    x = net.pad(net.input, [[0, 0], [1, 2], [0, 1], [0, 0]])
    x = net.conv(x, 9, (3, 5), (2, 1), zeros=0.5, relu=False)
    y = net.conv(x, 9, (3, 3), zeros=0.6, dilation=2, activation="RELU6")
    y = net.elementwise("HARD_SWISH", y, 2 * net.quantisation(y)[0], -40)
    y = net.elementwise("QUANTIZE", y, *net.quantisation(x))
    x = net.concatenate([x, y], 3)
    z = net.pool(x, (3, 2), (1, 1), maximum=True, same=True)
    x = net.concatenate([x, z], 1)
    x = net.conv(x, 36, (3, 3), (1, 2), zeros=0.4, depthwise=True, same=False)
    x = net.conv(x, 5, (2, 3), zeros=0.05, same=False, activation="RELU_N1_TO_1")
    x = net.elementwise("LOGISTIC", x, 1 / 256, -128)
    x = net.pool(x, (3, 3), (2, 2), maximum=False, same=True)
    h, w, c = net.shape(x)[1:]
    x = net.reshape(x, (1, w * c, h, 1))
    x = net.conv(x, 7, (1, 1), (1, 1), zeros=None)
    x = net.elementwise("RELU", x, net.quantisation(x)[0], -128)
    x = net.dense(net.mean(x), 11, zeros=0.5, mirrored=True)
    return net.finish(net.softmax(x))


def random_layers(seed: int) -> bytes:
    """Four convolutions drawn by seed: kernels, strides, dilation, padding, sparsity, widths around
    the tiles' sizes."""
    random = np.random.default_rng(seed)
    size = (int(random.integers(1, 20)), int(random.integers(1, 40)), int(random.integers(1, 5)))
    net = NetBuilder((1, *size), seed=seed)
    x = net.input
    for _ in range(4):
        _, height, width, depth = net.shape(x)
        kernel = (
            int(random.integers(1, min(height, 6) + 1)),
            int(random.integers(1, min(width, 6) + 1)),
        )
        stride = (int(random.integers(1, 5)), int(random.integers(1, 3)))
        same = bool(random.random() < 0.7)
        separate = bool(random.random() < 0.35)
        x = net.conv(
            x,
            depth * 2 if separate else int(random.integers(1, 30)),
            kernel,
            stride,
            zeros=random.choice([None, None, 0.1, 0.5, 0.95]),
            same=same,
            depthwise=separate,
            dilation=int(random.integers(1, 3)) if stride == (1, 1) and same else 1,
            activation=str(random.choice(["NONE", "RELU", "RELU6"])),
        )
        if random.random() < 0.2:
            x = net.add(x, x)
    return net.finish(x)


NETS = {"lenet5": lenet5, "resnet8": resnet8, "ds_cnn": ds_cnn, "mobilenet": mobilenet}


def inputs(model: bytes, count: int, *, seed: int = 0) -> npt.NDArray[np.int8]:
    """Random int8 inputs [count, ...]; the first two hold the extremes."""
    from ec2t_tf.export import tflite

    net = tflite.read(model)
    shape = net.tensors[net.inputs[0]].shape[1:]
    values = np.random.default_rng(seed).integers(-128, 128, (count, *shape)).astype(np.int8)
    values[0] = -128
    if count > 1:
        values[1] = 127
    return values


def reference(model: bytes, values: npt.NDArray[np.int8]) -> npt.NDArray[np.int8]:
    """Outputs of LiteRT's reference kernels, one image at a time (an output's first dimension is
    dropped where it is 1)."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    interpreter = Interpreter(
        model_content=model, experimental_op_resolver_type=OpResolverType.BUILTIN_REF
    )
    interpreter.allocate_tensors()
    source = interpreter.get_input_details()[0]["index"]
    target = interpreter.get_output_details()[0]["index"]
    outputs = []
    for value in values:
        interpreter.set_tensor(source, value[None])
        interpreter.invoke()
        output = interpreter.get_tensor(target).copy()
        outputs.append(output[0] if output.shape[:1] == (1,) else output)
    return np.stack(outputs)
