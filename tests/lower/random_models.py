"""Random models out of all kinds of layers."""

from __future__ import annotations

from typing import Any

from .random_layers import RandomLayers


class RandomModel(RandomLayers):
    """A net of a few layers, each drawn from those that the shape at that point allows.

    It begins with an image, a sequence, a vector or tokens, or two of them; it may call a layer or
    a model inside twice, and have two outputs.
    """

    def make(self) -> Any:
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
            outputs[0] = self.layers.Activation(self.draw("softmax", "sigmoid", "tanh"))(outputs[0])
        given = sources if len(sources) > 1 else sources[0]
        return self.keras.Model(given, outputs if len(outputs) > 1 else outputs[0])

    def source(self, name: str, sources: list[Any]) -> Any:
        shape = self.draw((9, 8, 3), (7, 7, 4), (12, 5), (10, 4), (14,), (8,))
        if self.chance(0.06):
            dtype = self.draw("int32", "int32", "int64")
            tokens = self.keras.Input((self.draw(6, 9),), name=name, dtype=dtype)
            sources.append(tokens)
            masked = self.chance(0.3)
            return self.layers.Embedding(11, self.size(), mask_zero=masked)(tokens)
        sources.append(self.keras.Input(shape, name=name))
        x = sources[-1]
        channels = shape[-1]
        if self.chance(0.15):
            mean, variance = (
                self.random.normal(size=channels),
                self.random.uniform(0.5, 2, channels),
            )
            x = self.draw(
                self.layers.Rescaling(1 / 2, -0.1),
                self.layers.Normalization(mean=mean.tolist(), variance=variance.tolist()),
                self.layers.GaussianNoise(0.1),
            )(x)
        elif len(shape) == 3 and channels == 3 and self.chance(0.4):
            x = self.augmentation(x)
        elif len(shape) == 2 and self.chance(0.1):
            x = self.layers.Masking()(x)
        return x

    def ended(self, x: Any, name: str) -> Any:
        if len(x.shape) > 2 and self.chance(0.5):
            x = self.pooled(x)
        if len(x.shape) > 2:
            x = self.layers.Flatten()(x)
        return self.layers.Dense(4, name=name)(x)

    def joined(self, x: Any, other: Any) -> Any:
        """Two values of any shapes, as one of the shape of the first or a vector."""
        flat = [v if len(v.shape) == 2 else self.pooled(v, keep=False) for v in (x, other)]
        if self.chance(0.5):
            return self.layers.Concatenate()(flat)
        gate = self.layers.Dense(x.shape[-1], activation=self.draw("sigmoid", "relu", None))(
            flat[1]
        )
        gate = self.layers.Reshape((*[1] * (len(x.shape) - 2), x.shape[-1]))(gate)
        return self.draw(self.layers.Multiply, self.layers.Add)()([x, gate])

    def limited(self, x: Any) -> Any:
        """Smaller where it has become large."""
        if len(x.shape) == 4 and max(x.shape[1:-1]) > 14:
            x = self.layers.MaxPooling2D(2, padding="same")(x)
        if len(x.shape) == 3 and x.shape[1] > 40:
            x = self.layers.AveragePooling1D(3)(x)
        if x.shape[-1] > 24:
            x = self.layers.Dense(6)(x)
        return x

    def layer(self, x: Any) -> Any:
        rank = len(x.shape)
        general = ("kernel", "kernel", "kernel", "merge", "activation", "moved", "normal", "ops")
        choices: tuple[str, ...] = (*general, "twice", "inside", "reduced")
        if rank == 4:
            choices = (*choices, "pool", "border", "resize", "sequence", "volume")
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
            return self.layers.Dense(x.shape[-1], activation=self.draw(None, "relu"))(x)
        if kind == "part" and len(x.shape) > 2:
            return self.ops.max(x, axis=tuple(range(1, len(x.shape) - 1)), keepdims=True)
        return self.ops.flip(x, len(x.shape) - 1) if kind == "flip" else x

    def _merge(self, x: Any) -> Any:
        kind = self.draw(
            *(
                self.layers.Add,
                self.layers.Multiply,
                self.layers.Subtract,
                self.layers.Average,
                self.layers.Maximum,
            ),
            *(self.layers.Minimum, self.layers.Concatenate),
        )
        values = [x, self.twin(x)]
        if kind is not self.layers.Subtract and self.chance(0.5):
            values.append(self.twin(x))
        if kind is self.layers.Concatenate:
            values = [v for v in values if v.shape[1:-1] == x.shape[1:-1]]
            values = values if len(values) > 1 else [x, x]
            return kind()(values)
        made = kind()(values)
        return self.layers.ReLU()(made) if self.chance(0.2) else made

    def _moved(self, x: Any) -> Any:
        return self.moved(x)

    def _ops(self, x: Any) -> Any:
        return self.operation(x)

    def _activation(self, x: Any) -> Any:
        made = self.activation_layer()
        if isinstance(made, self.layers.Softmax) and getattr(x, "_keras_mask", None) is not None:
            return x  # tf_keras takes a mask of steps for one of channels
        return made(x)

    def _normal(self, x: Any) -> Any:
        return self.normalisation(x)

    def _reduced(self, x: Any) -> Any:
        """A reduction that keeps its axis, beside what it reduces; or attention of channels."""
        axis = int(self.random.integers(1, len(x.shape)))
        kind = self.draw(self.ops.mean, self.ops.max, self.ops.min, self.ops.sum)
        # The sum of what a normalisation made is a zero of rounding.
        given = x if kind in (self.ops.max, self.ops.min) else self.ops.relu(x)
        part = kind(given, axis=axis, keepdims=True)
        return self.draw(self.layers.Subtract, self.layers.Multiply, self.layers.Maximum)()(
            [x, part]
        )

    def _twice(self, x: Any) -> Any:
        """A layer called two times, its results joined."""
        shared = self.draw(
            self.layers.Dense(x.shape[-1], activation=self.activation()),
            self.kernel_of_rank(len(x.shape), x.shape[-1], self.activation()),
            self.layers.BatchNormalization(),
            self.layers.PReLU("uniform"),
        )
        first = shared(x)
        return self.layers.Add()([first, shared(self.draw(x, first))])

    def _inside(self, x: Any) -> Any:
        """A model in the model, called once or twice."""
        if getattr(x, "_keras_mask", None) is not None:
            return x  # a softmax in it would take a mask of steps for one of channels
        source = self.keras.Input(x.shape[1:])
        y = self.activation_layer()(self.kernel(source))
        y = self.layers.Dense(x.shape[-1])(y)
        if y.shape[1:] != x.shape[1:]:
            y = self.layers.Dense(x.shape[-1], activation="relu")(source)
        block = self.keras.Model(source, y)
        return block(block(x)) if self.chance(0.4) else block(x)

    def _pool(self, x: Any) -> Any:
        if min(x.shape[1:-1]) < 3:
            return x
        one = len(x.shape) == 3
        average: Any = self.layers.AveragePooling1D if one else self.layers.AveragePooling2D
        largest: Any = self.layers.MaxPooling1D if one else self.layers.MaxPooling2D
        size, stride = self.draw(2, 3), self.draw(None, 1, 2)
        return self.draw(average, largest)(size, stride, self.draw("same", "valid"))(x)

    def _border(self, x: Any) -> Any:
        one, small = len(x.shape) == 3, min(x.shape[1:-1]) < 4
        if one:
            made = self.draw(self.layers.ZeroPadding1D((1, 2)), self.layers.Cropping1D((1, 1)))
            return self.layers.ZeroPadding1D(1)(x) if small else made(x)
        made = self.draw(
            *(
                self.layers.ZeroPadding2D(((1, 2), (0, 1))),
                self.layers.Cropping2D(((1, 0), (0, 2))),
            ),
            self.layers.CenterCrop(x.shape[1] - 1, x.shape[2] - 2),
        )
        return self.layers.ZeroPadding2D(1)(x) if small else made(x)

    def _volume(self, x: Any) -> Any:
        """An image as a volume, and back."""
        rows, columns, channels = x.shape[1:]
        y = self.layers.Reshape((rows, 1, columns, channels))(x)
        if min(rows, columns) > 2:
            y = self.draw(
                self.layers.ZeroPadding3D((1, 0, 2)), self.layers.Cropping3D(((1, 0), 0, (0, 1)))
            )(y)
        if self.chance(0.5):
            pool = self.draw(self.layers.GlobalAveragePooling3D, self.layers.GlobalMaxPooling3D)
            return pool(keepdims=False)(y)
        return self.layers.Reshape((y.shape[1] * y.shape[2], *y.shape[3:]))(y)

    def _resize(self, x: Any) -> Any:
        if max(x.shape[1:-1]) > 8:
            return self.layers.Resizing(5, 6, self.draw("nearest", "bilinear"))(x)
        size = self.draw(2, (1, 3))
        return self.layers.UpSampling2D(size, interpolation=self.draw("nearest", "bilinear"))(x)

    def _recurrent(self, x: Any) -> Any:
        if x.shape[1] > 12:
            return self.layers.GlobalMaxPooling1D(keepdims=True)(x)
        if self.chance(0.15):
            cells: list[Any] = [self.layers.LSTMCell(self.size()), self.layers.LSTMCell(3)]
            if x.shape[1] <= 6:
                kind = self.draw("GRUCell", "SimpleRNNCell")
                cells[self.draw(0, 1)] = getattr(self.layers, kind)(self.size())
            return self.layers.RNN(self.draw(cells, cells[0]), return_sequences=self.chance(0.8))(x)
        both = self.chance(0.25)
        options: dict[str, Any] = {
            "return_sequences": self.chance(0.8),
            "go_backwards": self.chance(0.4) and not both,
            "use_bias": self.chance(0.8),
        }
        made: Any = self.layers.LSTM(self.size(), **options)
        if x.shape[1] <= 6 and self.chance(0.6):
            made = self._steps(options)
        if not both:
            return made(x)
        return self.layers.Bidirectional(made, merge_mode=self.draw("concat", "sum", "mul", "ave"))(
            x
        )

    def _steps(self, options: dict[str, Any]) -> Any:
        """What a file has step by step."""
        kind = self.draw("GRU", "GRU", "SimpleRNN", "LSTM")
        options["activation"] = self.draw("tanh", "relu", "sigmoid", "linear")
        if kind == "LSTM":
            options["activation"] = self.draw("relu", "sigmoid", "linear")
        return getattr(self.layers, kind)(self.size(), **options)

    def _attention(self, x: Any) -> Any:
        if x.shape[1] > 16:
            return self.layers.MaxPooling1D(2)(x)
        kind = self.draw("heads", "heads", "cross", "block", "plain", "dot", "additive")
        if kind in ("plain", "additive"):
            pair = [x, self.layers.Dense(x.shape[-1])(x)]
            if kind == "additive" and x.shape[1] <= 10:
                return self.layers.AdditiveAttention(use_scale=self.chance(0.7))(pair)
            return self.layers.Attention(use_scale=self.chance(0.4))(pair)
        if kind == "dot":
            other = self.layers.Dense(x.shape[-1], activation=self.draw(None, "relu"))(x)
            return self.layers.Dot(self.draw(1, 2), normalize=self.chance(0.3))([x, other])
        made = self.layers.MultiHeadAttention(
            self.draw(1, 2), self.draw(2, 4), use_bias=self.chance(0.7), dropout=self.draw(0.0, 0.1)
        )
        if kind == "heads":
            return made(x, x)
        if kind == "cross":
            return made(x, self.layers.Dense(self.size(), activation="relu")(x))
        y = self.layers.LayerNormalization()(x)
        return self.layers.Add()([x, made(y, y)])

    def _sequence(self, x: Any) -> Any:
        """An image as a sequence of its rows or places."""
        if x.shape[2] * x.shape[3] <= 40:
            return self.layers.Reshape((x.shape[1], -1))(x)
        return self.layers.Reshape((-1, x.shape[-1]))(x)

    def _image(self, x: Any) -> Any:
        return self.ops.expand_dims(x, self.draw(1, 2, 3))

    def _steps(self, x: Any) -> Any:
        return self.layers.TimeDistributed(
            self.layers.Dense(self.size(), activation=self.activation())
        )(x)

    def _unflattened(self, x: Any) -> Any:
        channels = x.shape[-1]
        if self.chance(0.5):
            return self.layers.RepeatVector(3)(x)
        if channels % 2 == 0:
            return self.layers.Reshape(self.draw((channels // 2, 2), (1, channels // 2, 2)))(x)
        return self.ops.expand_dims(x, 1)
