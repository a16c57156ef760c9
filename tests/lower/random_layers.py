"""Layers with random options, for models that are put together of them."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from keras import layers, ops

ACTIVATIONS = (
    *("relu", "relu6", "silu", "gelu", "tanh", "sigmoid", "elu", "hard_silu", "leaky_relu"),
    *("softplus", "hard_sigmoid", "selu", "mish", "softsign", "celu", "exponential", "hard_tanh"),
    *("hard_shrink", "soft_shrink", "tanh_shrink", "log_sigmoid", "squareplus", "sparse_plus"),
    "sparse_sigmoid",
)
FREQUENT = ("relu", "relu", "relu", "relu6", "silu", "gelu", "tanh", "sigmoid")


def limited_relu(x: Any, most: float = 1.0) -> Any:
    return ops.minimum(ops.relu(x), most)


def kernel_of_rank(rank: int, channels: int, activation: Any) -> Any:
    """A layer that keeps the shape of a value of this rank."""
    if rank == 2:
        return layers.Dense(channels, activation=activation)
    kind: Any = layers.Conv1D if rank == 3 else layers.Conv2D
    return kind(channels, 3, padding="same", activation=activation)


class RandomLayers:
    """Draws layers and their options.

    Args:
      seed: of all that is drawn.
    """

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)

    def draw(self, *choices: Any) -> Any:
        return choices[int(self.random.integers(len(choices)))]

    def chance(self, share: float) -> bool:
        return bool(self.random.random() < share)

    def size(self) -> int:
        return int(self.random.integers(2, 9))

    def activation(self) -> Any:
        if self.chance(0.3):
            return None
        if self.chance(0.1):
            return self.draw(
                *(limited_relu, functools.partial(limited_relu, most=0.7)),
                *(layers.ReLU(6.0), layers.LeakyReLU(0.2), lambda x: ops.minimum(x * 2, 1.0)),
            )
        return self.draw(*FREQUENT) if self.chance(0.5) else self.draw(*ACTIVATIONS)

    def activation_layer(self) -> Any:
        return self.draw(
            layers.Activation(self.activation() or "relu"),
            layers.Activation(self.activation() or "sigmoid"),
            layers.LeakyReLU(self.draw(0.1, 0.3)),
            layers.ReLU(self.draw(None, 0.5, 1.0, 4.0, 6.0)),
            layers.ReLU(self.draw(None, 2.0), self.draw(0.0, 0.1), self.draw(0.0, 0.3)),
            layers.PReLU("uniform"),
            layers.ELU(self.draw(0.5, 1.0)),
            layers.Softmax(axis=self.draw(-1, -1, 1)),
            layers.Lambda(lambda x: x * 0.5 + 0.1),
        )

    def kernel(self, x: Any, name: str | None = None) -> Any:
        rank = len(x.shape)
        padding, activation = self.draw("same", "valid"), self.activation()
        options: dict[str, Any] = {"activation": activation, "name": name}
        options["use_bias"] = self.chance(0.6)
        if rank == 2 or self.chance(0.2):
            made = layers.Dense(self.size(), **options)(x)
        elif rank == 3 and self.chance(0.1):
            made = self._einsum(x, options)
        else:
            made = self._convolution(x, padding, options)
        if activation is None and self.chance(0.5):
            made = layers.BatchNormalization(
                scale=self.chance(0.8), center=self.chance(0.8), epsilon=self.draw(1e-3, 1e-2)
            )(made)
            made = self.draw(
                *(layers.ReLU(), layers.ReLU(6.0), layers.Identity(), layers.Activation("silu"))
            )(made)
        return made

    def _einsum(self, x: Any, options: dict[str, Any]) -> Any:
        steps, channels, use = x.shape[1], x.shape[2], options.pop("use_bias")
        equation, shape, axes = self.draw(
            ("abc,cd->abd", (steps, self.size()), "d"),
            ("abc,bd->adc", (self.size(), channels), None),
            ("abc,cde->abde", (steps, 2, self.size()), "de"),
        )
        axes = axes if use else None
        return layers.EinsumDense(equation, shape, bias_axes=axes, **options)(x)

    def _convolution(self, x: Any, padding: str, options: dict[str, Any]) -> Any:
        rank, channels = len(x.shape), x.shape[-1]
        least = int(min(x.shape[1:-1]))
        size = min(self.draw(1, 2, 3, 3), least)
        stride = self.draw(1, 1, 2)
        dilation = self.draw(1, 1, 2) if stride == 1 and (padding == "same" or least > 5) else 1
        convolution: Any = {3: layers.Conv1D, 4: layers.Conv2D}[rank]
        depthwise: Any = {3: layers.DepthwiseConv1D, 4: layers.DepthwiseConv2D}[rank]
        separable: Any = {3: layers.SeparableConv1D, 4: layers.SeparableConv2D}[rank]
        transposed: Any = {3: layers.Conv1DTranspose, 4: layers.Conv2DTranspose}[rank]
        kind = self.draw("plain", "plain", "plain", "depthwise", "separable", "transposed")
        if kind == "plain":
            groups = self.draw(channels, 2) if channels % 2 == 0 and self.chance(0.3) else 1
            filters = groups * self.draw(1, 2) if groups > 1 else self.size()
            if rank == 3 and self.chance(0.2):
                padding = "causal"
            shape = (size, max(1, size - 1)) if rank == 4 and self.chance(0.2) else size
            options |= {"dilation_rate": dilation, "groups": groups}
            return convolution(filters, shape, stride, padding, **options)(x)
        multiplier = self.draw(1, 1, 2)
        if kind == "depthwise":
            options |= {"dilation_rate": dilation, "depth_multiplier": multiplier}
            return depthwise(size, stride, padding, **options)(x)
        if kind == "separable":
            options |= {"dilation_rate": dilation, "depth_multiplier": multiplier}
            return separable(self.size(), size, stride, padding, **options)(x)
        stride = self.draw(1, 2, 3)
        if stride == 1:
            options["dilation_rate"] = dilation
        elif self.chance(0.2):
            options["output_padding"] = 1
        return transposed(self.size(), size, stride, padding, **options)(x)

    def normalisation(self, x: Any) -> Any:
        kind = self.draw("batch", "batch", "axis", "layer", "group", "rms")
        if kind == "batch":
            return layers.BatchNormalization()(x)
        if kind == "axis":
            return layers.BatchNormalization(axis=1)(x)
        if kind == "layer":
            return layers.LayerNormalization(center=self.chance(0.7), scale=self.chance(0.7))(x)
        if kind == "rms":
            return layers.RMSNormalization()(x)
        groups = self.draw(-1, 1, 2 if x.shape[-1] % 2 == 0 else 1)
        return layers.GroupNormalization(groups)(x)

    def pooled(self, x: Any, keep: bool | None = None) -> Any:
        one = len(x.shape) == 3
        average: Any = layers.GlobalAveragePooling1D if one else layers.GlobalAveragePooling2D
        largest: Any = layers.GlobalMaxPooling1D if one else layers.GlobalMaxPooling2D
        keep = self.chance(0.5) if keep is None else keep
        return self.draw(average, largest)(keepdims=keep)(x)

    def moved(self, x: Any) -> Any:
        rank = len(x.shape)
        axis = int(self.random.integers(1, rank))
        kind = self.draw("permute", "flip", "slice", "split", "dropout", "repeat", "pad", "stack")
        if kind == "permute" and rank > 2:
            order = [int(i) + 1 for i in self.random.permutation(rank - 1)]
            if self.chance(0.5):
                return layers.Permute(order)(x)
            return self.draw(
                lambda: ops.transpose(x, (0, *order)),
                lambda: ops.swapaxes(x, 1, rank - 1),
                lambda: ops.moveaxis(x, 1, rank - 1),
            )()
        if kind == "flip":
            return ops.flip(x, axis)
        if kind == "slice":
            begin, end = self.draw((0, 1), (1, 0)), max(1, x.shape[axis] - 1)
            cut = slice(None, end) if begin[1] else slice(min(1, end - 1), None)
            key = [slice(None)] * rank
            key[axis] = slice(None, None, self.draw(2, -1)) if self.chance(0.3) else cut
            return x[tuple(key)]
        if kind == "split" and x.shape[axis] % 2 == 0:
            first, second = ops.split(x, 2, axis=axis)
            return self.draw(ops.multiply, ops.add, ops.maximum)(first, second)
        if kind == "repeat":
            return ops.repeat(x, 2, axis=axis)
        if kind == "pad":
            mode = self.draw("constant", "reflect") if x.shape[axis] > 2 else "constant"
            widths = [(0, 0)] * rank
            widths[axis] = (1, 2)
            return ops.pad(x, widths, mode=mode)
        if kind == "stack" and rank == 3:
            return ops.stack([x, ops.flip(x, 1)], axis=self.draw(1, 2, 3))
        return self.draw(layers.Dropout(0.1), layers.GaussianNoise(0.1), layers.Identity())(x)

    def operation(self, x: Any) -> Any:
        """Of keras.ops; values stay of a size that int8 can hold."""
        rank, channels = len(x.shape), x.shape[-1]
        constants = self.random.uniform(0.5, 2, channels).astype(np.float32)
        made: list[Any] = [
            lambda: x + 1.5,
            lambda: 1.0 - x,
            lambda: x * constants,
            lambda: x / 3.0,
            lambda: x - constants,
            lambda: ops.maximum(x, 0.1),
            lambda: ops.abs(x),
            lambda: -x,
            lambda: ops.clip(x, -0.5, 0.7),
            lambda: ops.square(ops.tanh(x)),
            lambda: ops.sin(x),
            lambda: ops.cos(x),
            lambda: ops.exp(ops.tanh(x)),
            lambda: ops.sqrt(ops.relu(x) + 0.1),  # whose gradient is finite
            lambda: ops.log1p(ops.relu(x)),
            lambda: ops.erf(x),
            lambda: ops.relu6(x),
            lambda: ops.leaky_relu(x, 0.2),
            lambda: ops.elu(x),
            lambda: ops.sigmoid(x) * x,
            lambda: ops.softplus(x),
            lambda: ops.threshold(x, 0.1, 0.0),
            lambda: ops.gelu(x),
            lambda: ops.softmax(x, axis=-1),
            lambda: ops.concatenate([x, x], axis=-1),
        ]
        if rank == 3:
            made += [
                lambda: ops.matmul(x, ops.transpose(ops.tanh(x), (0, 2, 1))),
                lambda: ops.einsum("abc,adc->abd", x, ops.tanh(x)),
                lambda: ops.squeeze(ops.expand_dims(x, 2), 2),
                lambda: ops.stack(ops.unstack(x, axis=1)[:3], axis=1),
            ]
        return self.draw(*made)()
