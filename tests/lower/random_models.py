"""Random models out of all kinds of layers."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers, ops


class RandomModel:
    """A net of a few layers, each drawn from those that the shape at that point allows."""

    def __init__(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.names: list[str] = []

    def draw(self, *choices: Any) -> Any:
        return choices[int(self.random.integers(len(choices)))]

    def make(self) -> keras.Model:
        shape = self.draw((9, 8, 3), (7, 7, 4), (12, 5), (10, 4), (14,))
        source = keras.Input(shape, name="x")
        x: Any = source
        if self.draw(True, True, False):
            x = self.kernel(x, "first")
        for _ in range(int(self.random.integers(2, 6))):
            x = self.layer(x)
        x = self.kernel(x, "middle")
        if len(x.shape) > 2 and self.draw(True, False):
            x = self.pooled(x)
        if len(x.shape) > 2:
            x = layers.Flatten()(x)
        return keras.Model(source, layers.Dense(4, name="last")(x))

    def size(self) -> int:
        return int(self.random.integers(2, 9))

    def activation(self) -> Any:
        return self.draw(
            *(None, None, "relu", "relu", "relu6", "silu", "gelu", "tanh", "sigmoid", "elu"),
            *("hard_silu", "leaky_relu", "softplus", "hard_sigmoid", "selu"),
        )

    def kernel(self, x: Any, name: str | None = None) -> Any:
        rank, random = len(x.shape), self.random
        padding, activation = self.draw("same", "valid"), self.activation()
        options: dict[str, Any] = {"activation": activation, "name": name}
        options["use_bias"] = self.draw(True, False)
        size = int(min(3, *(x.shape[1:-1] or (3,))))
        if rank == 2 or self.draw(*[False] * 4, True):
            return layers.Dense(self.size(), **options)(x)
        stride = self.draw(1, 1, 2)
        dilation = self.draw(1, 1, 2) if stride == 1 and padding == "same" else 1
        groups = 2 if x.shape[-1] % 2 == 0 and random.random() < 0.2 else 1
        convolution: Any = {3: layers.Conv1D, 4: layers.Conv2D}[rank]
        depthwise: Any = {3: layers.DepthwiseConv1D, 4: layers.DepthwiseConv2D}[rank]
        separable: Any = {3: layers.SeparableConv1D, 4: layers.SeparableConv2D}[rank]
        transposed: Any = {3: layers.Conv1DTranspose, 4: layers.Conv2DTranspose}[rank]
        kind = self.draw("plain", "plain", "depthwise", "separable", "transposed")
        if kind == "plain":
            filters = 2 * self.size() if groups == 2 else self.size()
            options |= {"dilation_rate": dilation, "groups": groups}
            made = convolution(filters, size, stride, padding, **options)(x)
        elif kind == "depthwise":
            made = depthwise(size, stride, padding, depth_multiplier=self.draw(1, 2), **options)(x)
        elif kind == "separable":
            made = separable(self.size(), size, stride, padding, **options)(x)
        else:
            made = transposed(self.size(), size, self.draw(1, 2), padding, **options)(x)
        if activation is None and self.draw(True, False):
            made = layers.BatchNormalization()(made)
            made = self.draw(layers.ReLU(), layers.ReLU(6.0), layers.Identity())(made)
        return made

    def pooled(self, x: Any) -> Any:
        one = len(x.shape) == 3
        average: Any = layers.GlobalAveragePooling1D if one else layers.GlobalAveragePooling2D
        largest: Any = layers.GlobalMaxPooling1D if one else layers.GlobalMaxPooling2D
        return self.draw(average, largest)(keepdims=self.draw(True, False))(x)

    def twin(self, x: Any) -> Any:
        """Another value of this shape."""
        kind = self.draw("dense", "flip", "same")
        if kind == "dense":
            return layers.Dense(x.shape[-1], activation=self.draw(None, "relu"))(x)
        return ops.flip(x, len(x.shape) - 1) if kind == "flip" else x

    def layer(self, x: Any) -> Any:
        rank = len(x.shape)
        general = ("kernel", "kernel", "merge", "activation", "moved", "normal")
        choices: tuple[str, ...] = general
        if rank == 4:
            choices = (*general, "pool", "border", "resize")
        elif rank == 3:
            choices = (*general, "pool", "recurrent", "attention")
        return getattr(self, "_" + self.draw(*choices))(x)

    def _kernel(self, x: Any) -> Any:
        return self.kernel(x)

    def _merge(self, x: Any) -> Any:
        kind = self.draw(
            *(layers.Add, layers.Multiply, layers.Subtract, layers.Average, layers.Maximum),
            *(layers.Minimum, layers.Concatenate),
        )
        values = [x, self.twin(x)]
        if kind is not layers.Subtract and self.draw(True, False):
            values.append(self.twin(x))
        return kind()(values)

    def _activation(self, x: Any) -> Any:
        alone = self.activation() or "relu"
        made = self.draw(
            *(layers.Activation(alone), layers.LeakyReLU(0.1), layers.ReLU(self.draw(0.5, 4.0))),
            *(layers.PReLU("uniform"), layers.ELU(0.5), layers.Softmax()),
        )
        return made(x)

    def _moved(self, x: Any) -> Any:
        rank = len(x.shape)
        if rank == 2:
            return self.draw(layers.RepeatVector(3), layers.Dropout(0.2))(x)
        order = [int(i) + 1 for i in self.random.permutation(rank - 1)]
        kind = self.draw("permute", "flip", "slice", "split", "dropout")
        if kind == "permute":
            return layers.Permute(order)(x)
        if kind == "flip":
            return ops.flip(x, 1)
        if kind == "slice":
            return x[:, : max(1, x.shape[1] - 1)]
        if kind == "split" and x.shape[-1] % 2 == 0:
            first, second = ops.split(x, 2, axis=-1)
            return ops.multiply(first, second)
        return layers.Dropout(0.1)(x)

    def _normal(self, x: Any) -> Any:
        return layers.BatchNormalization(axis=self.draw(-1, -1, 1))(x)

    def _pool(self, x: Any) -> Any:
        if min(x.shape[1:-1]) < 2:
            return x
        one = len(x.shape) == 3
        average: Any = layers.AveragePooling1D if one else layers.AveragePooling2D
        largest: Any = layers.MaxPooling1D if one else layers.MaxPooling2D
        return self.draw(average, largest)(2, self.draw(1, 2), self.draw("same", "valid"))(x)

    def _border(self, x: Any) -> Any:
        if min(x.shape[1:-1]) < 3:
            return layers.ZeroPadding2D(1)(x)
        return self.draw(layers.ZeroPadding2D(((1, 2), (0, 1))), layers.Cropping2D(1))(x)

    def _resize(self, x: Any) -> Any:
        if max(x.shape[1:-1]) > 12:
            return layers.Resizing(5, 6, self.draw("nearest", "bilinear"))(x)
        return layers.UpSampling2D(2, interpolation=self.draw("nearest", "bilinear"))(x)

    def _recurrent(self, x: Any) -> Any:
        if x.shape[1] > 16:
            return layers.GlobalMaxPooling1D(keepdims=True)(x)
        both = self.draw(*[False] * 3, True)
        options = {"return_sequences": True, "go_backwards": self.draw(True, False) and not both}
        made: Any = layers.LSTM(self.size(), **options)
        if x.shape[1] <= 6 and self.draw(True, False):
            made = layers.GRU(self.size(), **options)
        return layers.Bidirectional(made)(x) if both else made(x)

    def _attention(self, x: Any) -> Any:
        return layers.MultiHeadAttention(self.draw(1, 2), self.draw(2, 4))(x, x)
