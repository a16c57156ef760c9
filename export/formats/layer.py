"""One quantised layer in the terms of TensorFlow Lite, and what a blob can hold of such."""

from __future__ import annotations

import dataclasses
import enum
import math
from typing import Literal

import numpy as np
import numpy.typing as npt

Padding = Literal["VALID", "SAME"] | tuple[tuple[int, int], tuple[int, int]]

LARGEST_TAPS = 65535
LARGEST_CHANNELS = 1 << 20
LARGEST_WEIGHTS = 1 << 28
LARGEST_EXTENT = 4095
_FREE_WEIGHTS = 1 << 16
_WEIGHTS_PER_BYTE = 2048


class Operator(enum.IntEnum):
    """The kind of layer; the number is the one in the file."""

    CONV_2D = 1
    DEPTHWISE_CONV_2D = 2
    FULLY_CONNECTED = 3


@dataclasses.dataclass(frozen=True)
class Scales:
    """Requantisation by real scales; serves `tflite` and `fp32` mode.

    Attributes:
        input: scale of the input tensor.
        output: scale of the output tensor.
        weights: float32 of shape [output channels], or [1] for one scale for all of them.
    """

    input: float
    output: float
    weights: npt.NDArray[np.float32]


@dataclasses.dataclass(frozen=True)
class FixedPoint:
    """Requantisation by TensorFlow Lite's multiplier and shift; serves `tflite` mode only.

    Attributes:
        multiplier: int32 of shape [output channels] or [1], 0 to 2^31 - 1.
        shift: int8 of the same shape, -31 to 30; positive shifts left.
    """

    multiplier: npt.NDArray[np.int32]
    shift: npt.NDArray[np.int8]


@dataclasses.dataclass(frozen=True, eq=False)
class Layer:
    """One quantised layer, in the terms of TensorFlow Lite.

    Attributes:
        operator: what kind of layer.
        weights: int8 of shape [output channels, kernel height, kernel width, input channels /
            groups]. A depthwise convolution has last axis 1 and `groups` input channels; a fully
            connected layer is [units, 1, 1, inputs].
        requantisation: `Scales` or `FixedPoint`.
        bias: int32 of shape [output channels], or None.
        strides, dilations: vertical, horizontal.
        padding: "VALID", "SAME", or ((top, bottom), (left, right)).
        groups: number of groups.
        input_zero_point, output_zero_point: int8 zero points.
        output_range: smallest and largest int8 the fused activation lets through.
    """

    operator: Operator
    weights: npt.NDArray[np.int8]
    requantisation: Scales | FixedPoint
    bias: npt.NDArray[np.int32] | None = None
    strides: tuple[int, int] = (1, 1)
    dilations: tuple[int, int] = (1, 1)
    padding: Padding = "VALID"
    groups: int = 1
    input_zero_point: int = 0
    output_zero_point: int = 0
    output_range: tuple[int, int] = (-128, 127)

    @property
    def output_channels(self) -> int:
        return int(self.weights.shape[0])

    @property
    def input_channels(self) -> int:
        return int(self.weights.shape[3]) * self.groups

    @property
    def taps(self) -> int:
        """Weights per output channel."""
        return math.prod(self.weights.shape[1:])


def most_weights(size: int) -> int:
    """How many weights a blob of `size` bytes may hold: what reading it costs follows from that."""
    return min(LARGEST_WEIGHTS, _FREE_WEIGHTS + _WEIGHTS_PER_BYTE * size)


def require(condition: bool, required: str, received: str, advice: str) -> None:
    if not condition:
        raise ValueError(f"{required}. Received: {received}. {advice}.")


def check_layer(layer: Layer) -> None:
    """What FORMAT.md allows; one message for one mistake."""
    weights = layer.weights
    require(
        isinstance(weights, np.ndarray) and weights.dtype == np.int8 and weights.ndim == 4,
        "weights are an int8 array [outputs, kernel height, kernel width, inputs per group]",
        f"{getattr(weights, 'dtype', type(weights))} of shape {getattr(weights, 'shape', None)}",
        "Quantise and transpose them first",
    )
    require(weights.size > 0, "a layer has weights", f"shape {weights.shape}", "Leave it out")
    require(
        int(weights.min()) >= -127,
        "int8 weights are symmetric, -127 to 127",
        "-128",
        "Quantise with a narrow range, as TensorFlow Lite does",
    )
    require(
        layer.taps <= LARGEST_TAPS,
        f"an output channel has at most {LARGEST_TAPS} weights",
        f"{layer.taps}",
        "Keep this layer as plain int8",
    )
    channels = layer.output_channels
    require(
        weights.size <= LARGEST_WEIGHTS,
        f"a layer has at most {LARGEST_WEIGHTS} weights",
        f"{weights.size}",
        "Keep this layer as plain int8",
    )
    require(
        layer.groups >= 1 and channels % layer.groups == 0,
        "groups divide the output channels",
        f"groups={layer.groups}, {channels} output channels",
        "Correct `groups`",
    )
    require(
        max(channels, layer.input_channels) <= LARGEST_CHANNELS,
        f"a layer has at most {LARGEST_CHANNELS} channels",
        f"{layer.input_channels} -> {channels}",
        "Keep this layer as plain int8",
    )
    extents = (*weights.shape[1:3], *layer.strides, *layer.dilations)
    require(
        all(1 <= extent <= LARGEST_EXTENT for extent in extents),
        f"kernel, strides and dilations are 1 to {LARGEST_EXTENT}",
        f"kernel={weights.shape[1:3]}, strides={layer.strides}, dilations={layer.dilations}",
        "Keep this layer as plain int8",
    )
    if layer.operator == Operator.DEPTHWISE_CONV_2D:
        require(
            weights.shape[3] == 1,
            "a depthwise convolution has groups = input channels and one input per group",
            f"shape {weights.shape}, groups={layer.groups}",
            "Transpose TensorFlow Lite's [1, h, w, channels] to [channels, h, w, 1]",
        )
    if layer.operator == Operator.FULLY_CONNECTED:
        plain = (layer.strides, layer.dilations, layer.padding, layer.groups, weights.shape[1:3])
        require(
            plain == ((1, 1), (1, 1), "VALID", 1, (1, 1)),
            "a fully connected layer has a 1x1 kernel and no stride, dilation, padding or groups",
            f"strides, dilations, padding, groups, kernel = {plain}",
            "Use CONV_2D",
        )
    if layer.bias is not None:
        require(
            layer.bias.dtype == np.int32 and layer.bias.shape == (channels,),
            f"the bias is int32 of shape ({channels},)",
            f"{layer.bias.dtype} of shape {layer.bias.shape}",
            "Quantise it with scale input * weight",
        )
    low, high = layer.output_range
    require(
        -128 <= low <= high <= 127,
        "output_range is (smallest, largest) within int8",
        f"{layer.output_range}",
        "Clip it to (-128, 127)",
    )
    require(
        all(-128 <= z <= 127 for z in (layer.input_zero_point, layer.output_zero_point)),
        "zero points are int8",
        f"input {layer.input_zero_point}, output {layer.output_zero_point}",
        "Quantise the activations to int8",
    )
    if not isinstance(layer.padding, str):
        pads = [pad for pair in layer.padding for pad in pair]
        require(
            all(0 <= pad <= LARGEST_EXTENT for pad in pads),
            f"explicit padding is 0 to {LARGEST_EXTENT} on each side",
            f"{layer.padding}",
            "Pad with a separate operator",
        )
    else:
        require(
            layer.padding in ("VALID", "SAME"),
            'padding is "VALID", "SAME" or ((top, bottom), (left, right))',
            repr(layer.padding),
            "Choose one of these",
        )
    _check_requantisation(layer.requantisation, channels)


def _check_requantisation(requantisation: Scales | FixedPoint, channels: int) -> None:
    tiny = float(np.finfo(np.float32).tiny)
    if isinstance(requantisation, Scales):
        scales = np.asarray(requantisation.weights)
        require(
            scales.dtype == np.float32 and scales.shape in ((channels,), (1,)),
            f"weight scales are float32 of shape ({channels},) or (1,)",
            f"{scales.dtype} of shape {scales.shape}",
            "Give one per output channel, or one in all",
        )
        both = np.array([requantisation.input, requantisation.output], np.float32)
        require(
            bool(
                np.isfinite(scales).all()
                and ((scales >= tiny) | (scales == 0)).all()
                and not np.signbit(scales).any()  # C compares bits
                and np.isfinite(both).all()
                and (both >= tiny).all()
            ),
            "scales are finite, normal and positive float32 numbers (a weight scale may be 0)",
            f"input={requantisation.input}, output={requantisation.output}, "
            f"weights from {scales.min()} to {scales.max()}",
            "Calibrate the model again",
        )
    else:
        multiplier, shift = requantisation.multiplier, requantisation.shift
        require(
            multiplier.dtype == np.int32
            and shift.dtype == np.int8
            and multiplier.shape in ((channels,), (1,))
            and shift.shape == multiplier.shape,
            f"multiplier (int32) and shift (int8) have shape ({channels},) or (1,)",
            f"{multiplier.dtype} {multiplier.shape}, {shift.dtype} {shift.shape}",
            "Use `quantize_multiplier` per output channel",
        )
        require(
            bool((multiplier >= 0).all() and (shift >= -31).all() and (shift <= 30).all()),
            "a multiplier is not negative, a shift is -31 to 30",
            f"multiplier from {multiplier.min()}, shift {shift.min()} to {shift.max()}",
            "Use `quantize_multiplier`",
        )
