"""What C needs of an operator beyond its name: the words of the errors and of `limits`."""

from __future__ import annotations

from ec2t_tf.export.graph import FileError

MOST_STEP = 255  # of a window or a stride
MOST_SIZE = 0xFFFF  # rows, columns or channels of an activation; inputs or outputs of a dense layer
MOST_CHANNELS = 4095  # of a softmax: their sum, 2^19 each at most, stays below 2^31

ACTIVATIONS = (
    f"int8 or uint8 with one scale and one zero point, at most {MOST_SIZE:,} rows, columns, "
    "channels"
)
_CONVOLUTION = (
    "an input and constant int8 weights of four dimensions, strides and dilation of "
    f"1 to {MOST_STEP}"
)
_POOL = f"a window and strides of 1 to {MOST_STEP}"
_MAPS = "four dimensions, one scale and zero point for input and output"
_SOFTMAX = f"the last of the dimensions of at most {MOST_CHANNELS:,}, and an output of"
_SAME = "one scale and zero point for input and output"

LIMITS: dict[str, str] = {
    "CONV_2D": _CONVOLUTION,
    "DEPTHWISE_CONV_2D": _CONVOLUTION,
    "FULLY_CONNECTED": f"constant int8 weights [outputs, inputs], at most {MOST_SIZE:,} of each",
    "AVERAGE_POOL_2D": _POOL,
    "MAX_POOL_2D": _POOL,
    "RESIZE_BILINEAR": _MAPS,
    "RESIZE_NEAREST_NEIGHBOR": _MAPS,
    "MIRROR_PAD": f"{_MAPS}, and a constant padding of rows and columns",
    "SOFTMAX": f"{_SOFTMAX} scale 1/256 and zero point -128",
    "LOG_SOFTMAX": f"{_SOFTMAX} scale 1/16 and zero point 127",
    "GATHER": "a constant list of indices, or int32 ones that are an input of the net and a "
    "constant table; no batch dimensions",
    "DEPTH_TO_SPACE": f"four dimensions, {_SAME}",
    "SPACE_TO_DEPTH": f"four dimensions, {_SAME}",
    "UNIDIRECTIONAL_SEQUENCE_LSTM": "tanh, an int8 state, an int16 cell of scale 2^-15 to "
    "2^-9, and no peepholes, projection or normalisation",
    "SVDF": "batch 1, time weights and a state of int16",
}


def limits() -> dict[str, str]:
    """What C needs of an operator, by name; of others only what holds for all: activations are
    `limits()[""]`."""
    return {"": ACTIVATIONS, **LIMITS}


def beyond(kind: str, received: object) -> FileError:
    """The error of an operator that C is not written for."""
    return FileError(f"{kind} needs {LIMITS[kind]}. Received: {received}.")
