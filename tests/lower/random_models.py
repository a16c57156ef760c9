"""Random models out of all kinds of layers."""

from __future__ import annotations

from typing import Any

import keras
from keras import layers, ops

from .random_layers import RandomLayers, kernel_of_rank


class RandomModel(RandomLayers):
    """A net of a few layers, each drawn from those that the shape at that point allows.

    It begins with an image, a sequence, a vector or tokens, or two of them; it may call a layer or
    a model inside twice, and have two outputs.
    """

    def make(self) -> keras.Model:
        sources: list[Any] = []
        x = self.source("x", sources)
        if self.chance(0.7):
            x = self.kernel(x, "first")
        count = int(self.random.integers(2, 6))
        for number in range(count):
            x = self.limited(self.layer(x))
            if number == 0 and self.chance(0.1):
                x = self.joined(x, self.source("y", sources))
        x = self.kernel(x, "middle")
        outputs = [self.ended(x, "last")]
        if self.chance(0.1):
            outputs.append(self.ended(self.limited(self.layer(x)), "second"))
        if self.chance(0.1):
            outputs[0] = layers.Activation(self.draw("softmax", "sigmoid", "tanh"))(outputs[0])
        given = sources if len(sources) > 1 else sources[0]
        return keras.Model(given, outputs if len(outputs) > 1 else outputs[0])

    def source(self, name: str, sources: list[Any]) -> Any:
        shape = self.draw((9, 8, 3), (7, 7, 4), (12, 5), (10, 4), (14,), (8,))
        if self.chance(0.06):
            dtype = self.draw("int32", "int32", "int64")
            tokens = keras.Input((self.draw(6, 9),), name=name, dtype=dtype)
            sources.append(tokens)
            return layers.Embedding(11, self.size())(tokens)
        sources.append(keras.Input(shape, name=name))
        x = sources[-1]
        if self.chance(0.15):
            channels = shape[-1]
            mean, variance = (
                self.random.normal(size=channels),
                self.random.uniform(0.5, 2, channels),
            )
            x = self.draw(
                layers.Rescaling(1 / 2, -0.1),
                layers.Normalization(mean=mean.tolist(), variance=variance.tolist()),
                layers.GaussianNoise(0.1),
            )(x)
        return x

    def ended(self, x: Any, name: str) -> Any:
        if len(x.shape) > 2 and self.chance(0.5):
            x = self.pooled(x)
        if len(x.shape) > 2:
            x = layers.Flatten()(x)
        return layers.Dense(4, name=name)(x)

    def joined(self, x: Any, other: Any) -> Any:
        """Two values of any shapes, as one of the shape of the first or a vector."""
        flat = [v if len(v.shape) == 2 else self.pooled(v, keep=False) for v in (x, other)]
        if self.chance(0.5):
            return layers.Concatenate()(flat)
        gate = layers.Dense(x.shape[-1], activation=self.draw("sigmoid", "relu", None))(flat[1])
        gate = layers.Reshape((*[1] * (len(x.shape) - 2), x.shape[-1]))(gate)
        return self.draw(layers.Multiply, layers.Add)()([x, gate])

    def limited(self, x: Any) -> Any:
        """Smaller where it has become large."""
        if len(x.shape) == 4 and max(x.shape[1:-1]) > 14:
            x = layers.MaxPooling2D(2, padding="same")(x)
        if len(x.shape) == 3 and x.shape[1] > 40:
            x = layers.AveragePooling1D(3)(x)
        if x.shape[-1] > 24:
            x = layers.Dense(6)(x)
        return x

    def layer(self, x: Any) -> Any:
        rank = len(x.shape)
        general = ("kernel", "kernel", "kernel", "merge", "activation", "moved", "normal", "ops")
        choices: tuple[str, ...] = (*general, "twice", "inside", "reduced")
        if rank == 4:
            choices = (*choices, "pool", "border", "resize", "sequence")
        elif rank == 3:
            choices = (*choices, "pool", "border", "recurrent", "attention", "image", "steps")
        else:
            choices = (*choices, "unflattened")
        return getattr(self, "_" + self.draw(*choices))(x)

    def _kernel(self, x: Any) -> Any:
        return self.kernel(x)

    def twin(self, x: Any) -> Any:
        """Another value that broadcasts to this shape."""
        kind = self.draw("dense", "flip", "same", "part")
        if kind == "dense":
            return layers.Dense(x.shape[-1], activation=self.draw(None, "relu"))(x)
        if kind == "part" and len(x.shape) > 2:
            return ops.max(x, axis=tuple(range(1, len(x.shape) - 1)), keepdims=True)
        return ops.flip(x, len(x.shape) - 1) if kind == "flip" else x

    def _merge(self, x: Any) -> Any:
        kind = self.draw(
            *(layers.Add, layers.Multiply, layers.Subtract, layers.Average, layers.Maximum),
            *(layers.Minimum, layers.Concatenate),
        )
        values = [x, self.twin(x)]
        if kind is not layers.Subtract and self.chance(0.5):
            values.append(self.twin(x))
        if kind is layers.Concatenate:
            values = [v for v in values if v.shape[1:-1] == x.shape[1:-1]]
            values = values if len(values) > 1 else [x, x]
            return kind()(values)
        made = kind()(values)
        return layers.ReLU()(made) if self.chance(0.2) else made

    def _moved(self, x: Any) -> Any:
        return self.moved(x)

    def _ops(self, x: Any) -> Any:
        return self.operation(x)

    def _activation(self, x: Any) -> Any:
        return self.activation_layer()(x)

    def _normal(self, x: Any) -> Any:
        return self.normalisation(x)

    def _reduced(self, x: Any) -> Any:
        """A reduction that keeps its axis, beside what it reduces; or attention of channels."""
        axis = int(self.random.integers(1, len(x.shape)))
        kind = self.draw(ops.mean, ops.max, ops.min, ops.sum)
        part = kind(x, axis=axis, keepdims=True)
        return self.draw(layers.Subtract, layers.Multiply, layers.Maximum)()([x, part])

    def _twice(self, x: Any) -> Any:
        """A layer called two times, its results joined."""
        shared = self.draw(
            layers.Dense(x.shape[-1], activation=self.activation()),
            kernel_of_rank(len(x.shape), x.shape[-1], self.activation()),
            layers.BatchNormalization(),
            layers.PReLU("uniform"),
        )
        first = shared(x)
        return layers.Add()([first, shared(self.draw(x, first))])

    def _inside(self, x: Any) -> Any:
        """A model in the model, called once or twice."""
        source = keras.Input(x.shape[1:])
        y = self.activation_layer()(self.kernel(source))
        y = layers.Dense(x.shape[-1])(y)
        if y.shape[1:] != x.shape[1:]:
            y = layers.Dense(x.shape[-1], activation="relu")(source)
        block = keras.Model(source, y)
        return block(block(x)) if self.chance(0.4) else block(x)

    def _pool(self, x: Any) -> Any:
        if min(x.shape[1:-1]) < 3:
            return x
        one = len(x.shape) == 3
        average: Any = layers.AveragePooling1D if one else layers.AveragePooling2D
        largest: Any = layers.MaxPooling1D if one else layers.MaxPooling2D
        size, stride = self.draw(2, 3), self.draw(None, 1, 2)
        return self.draw(average, largest)(size, stride, self.draw("same", "valid"))(x)

    def _border(self, x: Any) -> Any:
        one, small = len(x.shape) == 3, min(x.shape[1:-1]) < 4
        if one:
            made = self.draw(layers.ZeroPadding1D((1, 2)), layers.Cropping1D((1, 1)))
            return layers.ZeroPadding1D(1)(x) if small else made(x)
        made = self.draw(
            *(layers.ZeroPadding2D(((1, 2), (0, 1))), layers.Cropping2D(((1, 0), (0, 2)))),
            layers.CenterCrop(x.shape[1] - 1, x.shape[2] - 2),
        )
        return layers.ZeroPadding2D(1)(x) if small else made(x)

    def _resize(self, x: Any) -> Any:
        if max(x.shape[1:-1]) > 8:
            return layers.Resizing(5, 6, self.draw("nearest", "bilinear"))(x)
        size = self.draw(2, (1, 3))
        return layers.UpSampling2D(size, interpolation=self.draw("nearest", "bilinear"))(x)

    def _recurrent(self, x: Any) -> Any:
        if x.shape[1] > 12:
            return layers.GlobalMaxPooling1D(keepdims=True)(x)
        both = self.chance(0.25)
        options: dict[str, Any] = {
            "return_sequences": self.chance(0.8),
            "go_backwards": self.chance(0.4) and not both,
            "use_bias": self.chance(0.8),
        }
        made: Any = layers.LSTM(self.size(), **options)
        if x.shape[1] <= 6 and self.chance(0.6):
            made = layers.GRU(self.size(), **options)
        if not both:
            return made(x)
        return layers.Bidirectional(made, merge_mode=self.draw("concat", "sum", "mul", "ave"))(x)

    def _attention(self, x: Any) -> Any:
        if x.shape[1] > 16:
            return layers.MaxPooling1D(2)(x)
        kind = self.draw("heads", "heads", "cross", "block")
        made = layers.MultiHeadAttention(
            self.draw(1, 2), self.draw(2, 4), use_bias=self.chance(0.7), dropout=self.draw(0.0, 0.1)
        )
        if kind == "heads":
            return made(x, x)
        if kind == "cross":
            return made(x, layers.Dense(self.size(), activation="relu")(x))
        y = layers.LayerNormalization()(x)
        return layers.Add()([x, made(y, y)])

    def _sequence(self, x: Any) -> Any:
        """An image as a sequence of its rows or places."""
        if x.shape[2] * x.shape[3] <= 40:
            return layers.Reshape((x.shape[1], -1))(x)
        return layers.Reshape((-1, x.shape[-1]))(x)

    def _image(self, x: Any) -> Any:
        return ops.expand_dims(x, self.draw(1, 2, 3))

    def _steps(self, x: Any) -> Any:
        return layers.TimeDistributed(layers.Dense(self.size(), activation=self.activation()))(x)

    def _unflattened(self, x: Any) -> Any:
        channels = x.shape[-1]
        if self.chance(0.5):
            return layers.RepeatVector(3)(x)
        if channels % 2 == 0:
            return layers.Reshape(self.draw((channels // 2, 2), (1, channels // 2, 2)))(x)
        return ops.expand_dims(x, 1)
