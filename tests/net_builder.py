"""Builds int8 .tflite nets for tests directly as flatbuffers: no TensorFlow, no training.

Ternary layers hold {-minus, 0, +plus} a channel with two different magnitudes, and every third
channel of a convolution has its signs swapped, as a negative batch normalisation gain does it.
"""

from __future__ import annotations

from collections.abc import Sequence

import flatbuffers
import numpy as np
import numpy.typing as npt
from ai_edge_litert import schema_py_generated as schema


class NetBuilder:
    """Appends operators to a net; every method returns the index of its output tensor.

    `fill_relu6`: the weight scales of convolutions with a RELU6 are such that 6 is 250 steps, as in
    a trained net; otherwise it may be a few, and all that follows a handful of numbers."""

    def __init__(
        self, input_shape: tuple[int, ...], *, seed: int, fill_relu6: bool = False
    ) -> None:
        self.fill_relu6 = fill_relu6
        self.random = np.random.default_rng(seed)
        self.model = schema.ModelT()
        self.model.version = 3
        self.model.buffers = [schema.BufferT()]
        self.model.operatorCodes = []
        self.graph = schema.SubGraphT()
        self.graph.tensors, self.graph.operators = [], []
        self.model.subgraphs = [self.graph]
        self.input = self.tensor(input_shape, 0.02, 4)

    def tensor(
        self,
        shape: tuple[int, ...],
        scale: float | npt.NDArray | None,
        zero_point: int = 0,
        data: npt.NDArray | None = None,
        axis: int = 0,
    ) -> int:
        t = schema.TensorT()
        t.shape = list(shape)
        t.type = schema.TensorType.INT8
        if data is not None:
            t.type = getattr(schema.TensorType, str(data.dtype).upper())
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(data.tobytes(), np.uint8)
            self.model.buffers.append(buffer)
            t.buffer = len(self.model.buffers) - 1
        t.name = f"t{len(self.graph.tensors)}"
        if scale is not None:
            q = schema.QuantizationParametersT()
            scales = np.atleast_1d(np.asarray(scale, np.float32))
            q.scale = scales.tolist()
            q.zeroPoint = [zero_point] * len(scales)
            q.quantizedDimension = axis
            t.quantization = q
        self.graph.tensors.append(t)
        return len(self.graph.tensors) - 1

    def operator(
        self,
        kind: str,
        inputs: list[int],
        output: int,
        options: object = None,
        more: Sequence[int] = (),
    ) -> int:
        """`more` are the outputs after the first."""
        code = getattr(schema.BuiltinOperator, kind)
        known = [c.builtinCode for c in self.model.operatorCodes]
        if code not in known:
            c = schema.OperatorCodeT()
            c.builtinCode, c.deprecatedBuiltinCode = code, min(code, 127)
            c.version = {"BROADCAST_TO": 2, "TRANSPOSE_CONV": 3}.get(kind, 1)
            self.model.operatorCodes.append(c)
            known.append(code)
        op = schema.OperatorT()
        op.opcodeIndex, op.inputs, op.outputs = known.index(code), inputs, [output, *more]
        if options is not None:
            op.builtinOptions = options
            op.builtinOptionsType = getattr(schema.BuiltinOptions, type(options).__name__[:-1])
        self.graph.operators.append(op)
        return output

    def without_output(self, kind: str, inputs: list[int], options: object) -> None:
        self.operator(kind, inputs, -1, options)
        self.graph.operators[-1].outputs = []

    def variable(self, name: str) -> int:
        """The handle of memory that is kept from call to call."""
        handle = self.tensor((), None)
        self.graph.tensors[handle].type = schema.TensorType.RESOURCE
        options = schema.VarHandleOptionsT()
        options.sharedName, options.container = name, ""
        return self.operator("VAR_HANDLE", [], handle, options)

    def constant(self, values: npt.ArrayLike) -> int:
        """An int32 constant."""
        data = np.asarray(values, np.int32)
        return self.tensor(data.shape, None, 0, data)

    def like(self, x: int, shape: Sequence[int]) -> int:
        """A tensor to be computed, with another's scale and zero point."""
        return self.tensor(tuple(int(n) for n in shape), *self.quantisation(x))

    def shape(self, index: int) -> list[int]:
        return list(self.graph.tensors[index].shape)

    def quantisation(self, index: int) -> tuple[float, int]:
        q = self.graph.tensors[index].quantization
        return q.scale[0], q.zeroPoint[0]

    def weights(
        self, channels: int, taps: int, zeros: float | None, *, mirrored: bool = True
    ) -> npt.NDArray[np.int8]:
        """[channel, tap]; `zeros` is the share of zeros of ternary weights, None means int8."""
        r = self.random
        if zeros is None:
            return r.integers(-127, 128, (channels, taps)).astype(np.int8)
        symbols = r.choice(
            [-1, 0, 1], (channels, taps), p=[(1 - zeros) / 2, zeros, (1 - zeros) / 2]
        )
        rows = np.where(symbols > 0, 127, np.where(symbols < 0, -93, 0))
        if mirrored:
            rows[::3] *= -1
        return rows.astype(np.int8)

    def _scales(
        self, source: int, rows: npt.NDArray[np.int8]
    ) -> tuple[npt.NDArray[np.float32], float, npt.NDArray[np.int32]]:
        """Weight scales, an output scale that uses the range, and biases."""
        scale_in, _ = self.quantisation(source)
        spread = np.maximum(np.sqrt((rows.astype(float) ** 2).sum(axis=1)), 20.0) * 50
        scales = (0.01 * self.random.uniform(0.7, 1.4, len(rows))).astype(np.float32)
        scale_out = float(scale_in * np.mean(scales * spread) / 45)
        bias = (self.random.normal(0, 0.3, len(rows)) * spread).astype(np.int32)
        return scales, scale_out, bias

    def conv(
        self,
        x: int,
        channels: int,
        kernel: tuple[int, int] = (3, 3),
        stride: tuple[int, int] = (1, 1),
        *,
        zeros: float | None = 0.7,
        relu: bool = True,
        same: bool = True,
        depthwise: bool = False,
        dilation: int = 1,
        activation: str | None = None,
        groups: int = 1,
        zero_point: int | None = None,
    ) -> int:
        _, h, w, depth = self.shape(x)
        depth //= groups
        if depthwise:
            taps = kernel[0] * kernel[1]
            rows = self.weights(channels, taps, zeros)
            data = rows.reshape(channels, *kernel).transpose(1, 2, 0)[None]
        else:
            rows = self.weights(channels, kernel[0] * kernel[1] * depth, zeros)
            data = rows.reshape(channels, *kernel, depth)
        scales, scale_out, bias = self._scales(x, rows)
        activation = activation or ("RELU" if relu else "NONE")
        if activation == "RELU6" and self.fill_relu6:
            scales, scale_out = (scales * (6 / 250 / scale_out)).astype(np.float32), 6 / 250
        spans = [(k - 1) * dilation + 1 for k in kernel]
        size = [
            -(-n // s) if same else (n - span) // s + 1
            for n, s, span in zip((h, w), stride, spans, strict=True)
        ]
        axis = 3 if depthwise else 0
        filters = self.tensor(data.shape, scales, 0, np.ascontiguousarray(data), axis)
        constants = self.tensor((channels,), scales * self.quantisation(x)[0], 0, bias)
        if zero_point is None:
            zero_point = -128 if activation in ("RELU", "RELU6") else 3
        out = self.tensor((1, *size, channels), scale_out, zero_point)
        options = schema.DepthwiseConv2DOptionsT() if depthwise else schema.Conv2DOptionsT()
        options.padding = schema.Padding.SAME if same else schema.Padding.VALID
        options.strideH, options.strideW = stride
        options.dilationHFactor = options.dilationWFactor = dilation
        options.fusedActivationFunction = getattr(schema.ActivationFunctionType, activation)
        if depthwise:
            options.depthMultiplier = channels // depth
        kind = "DEPTHWISE_CONV_2D" if depthwise else "CONV_2D"
        return self.operator(kind, [x, filters, constants], out, options)

    def dense(
        self,
        x: int,
        outputs: int,
        *,
        zeros: float | None = 0.7,
        relu: bool = False,
        mirrored: bool = False,
        rows_apart: bool = False,
    ) -> int:
        """`rows_apart`: over the last dimension, for each place of the others. `mirrored` is what
        no exported net has: the exporter makes a convolution of a Dense layer before a batch
        normalisation."""
        size = self.shape(x)[-1] if rows_apart else int(np.prod(self.shape(x)))
        rows = self.weights(outputs, size, zeros, mirrored=mirrored)
        _, scale_out, bias = self._scales(x, rows)
        filters = self.tensor(rows.shape, 0.01, 0, rows)
        constants = self.tensor((outputs,), 0.01 * self.quantisation(x)[0], 0, bias)
        shape = (*self.shape(x)[:-1], outputs) if rows_apart else (1, outputs)
        out = self.tensor(shape, scale_out, -128 if relu else 3)
        options = schema.FullyConnectedOptionsT()
        options.keepNumDims = rows_apart
        kinds = schema.ActivationFunctionType
        options.fusedActivationFunction = kinds.RELU if relu else kinds.NONE
        return self.operator("FULLY_CONNECTED", [x, filters, constants], out, options)

    def add(self, a: int, b: int, *, relu: bool = True) -> int:
        scale = 0.7 * (self.quantisation(a)[0] + self.quantisation(b)[0])
        out = self.tensor(tuple(self.shape(a)), scale, -128 if relu else -9)
        options = schema.AddOptionsT()
        kinds = schema.ActivationFunctionType
        options.fusedActivationFunction = kinds.RELU if relu else kinds.NONE
        return self.operator("ADD", [a, b], out, options)

    def pool(
        self,
        x: int,
        window: tuple[int, int],
        stride: tuple[int, int],
        *,
        maximum: bool,
        same: bool = False,
    ) -> int:
        _, h, w, c = self.shape(x)
        size = [
            -(-n // s) if same else (n - k) // s + 1
            for n, s, k in zip((h, w), stride, window, strict=True)
        ]
        out = self.tensor((1, *size, c), *self.quantisation(x))
        options = schema.Pool2DOptionsT()
        options.padding = schema.Padding.SAME if same else schema.Padding.VALID
        options.strideH, options.strideW = stride
        options.filterHeight, options.filterWidth = window
        return self.operator("MAX_POOL_2D" if maximum else "AVERAGE_POOL_2D", [x], out, options)

    def mean(self, x: int, *, keep: bool = False) -> int:
        _, _, _, c = self.shape(x)
        scale, zero_point = self.quantisation(x)
        axes = self.tensor((2,), None, 0, np.array([1, 2], np.int32))
        shape = (1, 1, 1, c) if keep else (1, c)
        out = self.tensor(shape, scale * 0.6, min(zero_point + 5, 127))
        options = schema.ReducerOptionsT()
        options.keepDims = keep
        return self.operator("MEAN", [x, axes], out, options)

    def reshape(self, x: int, shape: tuple[int, ...]) -> int:
        constant = self.tensor((len(shape),), None, 0, np.array(shape, np.int32))
        out = self.tensor(shape, *self.quantisation(x))
        options = schema.ReshapeOptionsT()
        options.newShape = list(shape)
        return self.operator("RESHAPE", [x, constant], out, options)

    def pad(self, x: int, amounts: list[list[int]]) -> int:
        constant = self.constant(amounts)
        shape = tuple(a + n + b for (a, b), n in zip(amounts, self.shape(x), strict=True))
        return self.operator("PAD", [x, constant], self.tensor(shape, *self.quantisation(x)))

    def pad_with(self, x: int, amounts: list[list[int]], code: int) -> int:
        constant = self.constant(amounts)
        scale, zero_point = self.quantisation(x)
        value = self.tensor((1,), scale, zero_point, np.array([code], np.int8))
        shape = tuple(a + n + b for (a, b), n in zip(amounts, self.shape(x), strict=True))
        out = self.tensor(shape, scale, zero_point)
        return self.operator("PADV2", [x, constant, value], out, schema.PadV2OptionsT())

    def concatenate(self, parts: list[int], axis: int) -> int:
        shape = self.shape(parts[0])
        shape[axis] = sum(self.shape(p)[axis] for p in parts)
        out = self.tensor(tuple(shape), *self.quantisation(parts[0]))
        options = schema.ConcatenationOptionsT()
        options.axis = axis
        return self.operator("CONCATENATION", parts, out, options)

    def elementwise(self, kind: str, x: int, scale: float, zero_point: int) -> int:
        out = self.tensor(tuple(self.shape(x)), scale, zero_point)
        options = {
            "HARD_SWISH": schema.HardSwishOptionsT,
            "QUANTIZE": schema.QuantizeOptionsT,
            "LEAKY_RELU": schema.LeakyReluOptionsT,
        }.get(kind)
        return self.operator(kind, [x], out, options() if options else None)

    def softmax(self, x: int) -> int:
        out = self.tensor(tuple(self.shape(x)), 1 / 256, -128)
        options = schema.SoftmaxOptionsT()
        options.beta = 1.0
        return self.operator("SOFTMAX", [x], out, options)

    def log_softmax(self, x: int) -> int:
        out = self.tensor(tuple(self.shape(x)), 1 / 16, 127)
        return self.operator("LOG_SOFTMAX", [x], out, schema.LogSoftmaxOptionsT())

    def transpose_conv(
        self,
        x: int,
        channels: int,
        kernel: tuple[int, int],
        stride: tuple[int, int],
        *,
        zeros: float | None = 0.7,
        same: bool = True,
    ) -> int:
        _, h, w, depth = self.shape(x)
        rows = self.weights(channels, kernel[0] * kernel[1] * depth, zeros)
        data = np.ascontiguousarray(rows.reshape(channels, *kernel, depth))
        scales, scale_out, bias = self._scales(x, rows)
        size = [
            n * s if same else (n - 1) * s + max(k, s)
            for n, s, k in zip((h, w), stride, kernel, strict=True)
        ]
        shape = (1, *size, channels)
        filters = self.tensor(data.shape, scales, 0, data)
        constants = self.tensor((channels,), scales * self.quantisation(x)[0], 0, bias)
        options = schema.TransposeConvOptionsT()
        options.padding = schema.Padding.SAME if same else schema.Padding.VALID
        options.strideH, options.strideW = stride
        inputs = [self.constant(shape), filters, x, constants]
        return self.operator("TRANSPOSE_CONV", inputs, self.tensor(shape, scale_out, 3), options)

    def finish(self, output: int, *more: int, inputs: Sequence[int] = ()) -> bytes:
        """`inputs` are those after the first."""
        self.graph.inputs, self.graph.outputs = [self.input, *inputs], [output, *more]
        builder = flatbuffers.Builder(1 << 16)
        builder.Finish(self.model.Pack(builder), b"TFL3")
        return bytes(builder.Output())
