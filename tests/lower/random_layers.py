"""Layers with random options, for models that are put together of them."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np

from .random_doors import Door

FREQUENT = ("relu", "relu", "relu", "relu6", "silu", "gelu", "tanh", "sigmoid")
_CHANGES = ("Brightness", "Hue", "Saturation", "Sharpness", "ColorDegeneration")


class RandomLayers:
    """Draws layers and their options.

    Args:
      seed: of all that is drawn.
      door: the Keras that they are of.
    """

    def __init__(self, seed: int, door: Door) -> None:
        self.random = np.random.default_rng(seed)
        self.door = door
        self.keras, self.layers, self.ops = door.keras, door.layers, door.ops

    def limited_relu(self, x: Any, most: float = 1.0) -> Any:
        return self.ops.minimum(self.ops.relu(x), most)

    def kernel_of_rank(self, rank: int, channels: int, activation: Any) -> Any:
        """A layer that keeps the shape of a value of this rank."""
        if rank == 2:
            return self.layers.Dense(channels, activation=activation)
        kind: Any = self.layers.Conv1D if rank == 3 else self.layers.Conv2D
        return kind(channels, 3, padding="same", activation=activation)

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
                *(self.limited_relu, functools.partial(self.limited_relu, most=0.7)),
                *(
                    self.layers.ReLU(6.0),
                    self.layers.LeakyReLU(0.2),
                    lambda x: self.ops.minimum(x * 2, 1.0),
                ),
            )
        return self.draw(*FREQUENT) if self.chance(0.5) else self.draw(*self.door.activations)

    def activation_layer(self) -> Any:
        return self.draw(
            self.layers.Activation(self.activation() or "relu"),
            self.layers.Activation(self.activation() or "sigmoid"),
            self.layers.LeakyReLU(self.draw(0.1, 0.3)),
            self.layers.ReLU(self.draw(None, 0.5, 1.0, 4.0, 6.0)),
            self.layers.ReLU(self.draw(None, 2.0), self.draw(0.0, 0.1), self.draw(0.0, 0.3)),
            self.layers.PReLU("uniform"),
            self.layers.ELU(self.draw(0.5, 1.0)),
            self.layers.Softmax(axis=self.draw(-1, -1, 1)),
            self.layers.Lambda(lambda x: x * 0.5 + 0.1),
        )

    def kernel(self, x: Any, name: str | None = None) -> Any:
        rank = len(x.shape)
        padding, activation = self.draw("same", "valid"), self.activation()
        options: dict[str, Any] = {"activation": activation, "name": name}
        options["use_bias"] = self.chance(0.6)
        if rank == 2 or self.chance(0.2):
            made = self.layers.Dense(self.size(), **options)(x)
        elif rank == 3 and self.chance(0.1):
            made = self._einsum(x, options)
        else:
            made = self._convolution(x, padding, options)
        if activation is None and self.chance(0.5):
            made = self.layers.BatchNormalization(
                scale=self.chance(0.8), center=self.chance(0.8), epsilon=self.draw(1e-3, 1e-2)
            )(made)
            made = self.draw(
                *(
                    self.layers.ReLU(),
                    self.layers.ReLU(6.0),
                    self.layers.Identity(),
                    self.layers.Activation("silu"),
                )
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
        return self.layers.EinsumDense(equation, shape, bias_axes=axes, **options)(x)

    def _convolution(self, x: Any, padding: str, options: dict[str, Any]) -> Any:
        rank, channels = len(x.shape), x.shape[-1]
        least = int(min(x.shape[1:-1]))
        size = min(self.draw(1, 2, 3, 3), least)
        stride = self.draw(1, 1, 2)
        dilation = self.draw(1, 1, 2) if stride == 1 and (padding == "same" or least > 5) else 1
        convolution: Any = {3: self.layers.Conv1D, 4: self.layers.Conv2D}[rank]
        depthwise: Any = {3: self.layers.DepthwiseConv1D, 4: self.layers.DepthwiseConv2D}[rank]
        separable: Any = {3: self.layers.SeparableConv1D, 4: self.layers.SeparableConv2D}[rank]
        transposed: Any = {3: self.layers.Conv1DTranspose, 4: self.layers.Conv2DTranspose}[rank]
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
            return self.layers.BatchNormalization()(x)
        if kind == "axis":
            return self.layers.BatchNormalization(axis=1)(x)
        if kind == "layer":
            return self.layers.LayerNormalization(center=self.chance(0.7), scale=self.chance(0.7))(
                x
            )
        if kind == "rms":
            return self.draw(*self.door.has("RMSNormalization", "UnitNormalization"))()(x)
        groups = self.draw(-1, 1, 2 if x.shape[-1] % 2 == 0 else 1)
        return self.layers.GroupNormalization(groups)(x)

    def pooled(self, x: Any, keep: bool | None = None) -> Any:
        one = len(x.shape) == 3
        average: Any = (
            self.layers.GlobalAveragePooling1D if one else self.layers.GlobalAveragePooling2D
        )
        largest: Any = self.layers.GlobalMaxPooling1D if one else self.layers.GlobalMaxPooling2D
        keep = self.chance(0.5) if keep is None else keep
        if keep and self.chance(0.3) and hasattr(self.layers, "AdaptiveMaxPooling1D"):
            # Where it makes 1 of 8, AdaptiveMaxPooling of Keras 3.15 ends the process on one CPU.
            kind = self.draw("AdaptiveAveragePooling", "AdaptiveMaxPooling")
            least = 1 if "Average" in kind else 2
            size = tuple(self.draw(n, least if n % 2 == 0 else n) for n in x.shape[1:-1])
            return getattr(self.layers, f"{kind}{len(size)}D")(size[0] if one else size)(x)
        return self.draw(average, largest)(keepdims=keep)(x)

    def _attended(self, x: Any) -> Any:
        if not hasattr(self.ops, "dot_product_attention"):
            return x
        return self.ops.dot_product_attention(x, self.ops.tanh(x), x)

    def moved(self, x: Any) -> Any:
        rank = len(x.shape)
        axis = int(self.random.integers(1, rank))
        kind = self.draw("permute", "flip", "slice", "split", "dropout", "repeat", "pad", "stack")
        if self.chance(0.4) and hasattr(self.ops, "roll"):
            return self.moved_in_blocks(x, axis)
        if kind == "permute" and rank > 2:
            order = [int(i) + 1 for i in self.random.permutation(rank - 1)]
            if self.chance(0.5):
                return self.layers.Permute(order)(x)
            return self.draw(
                lambda: self.ops.transpose(x, (0, *order)),
                lambda: self.ops.swapaxes(x, 1, rank - 1),
                lambda: self.ops.moveaxis(x, 1, rank - 1),
            )()
        if kind == "flip":
            return self.ops.flip(x, axis)
        if kind == "slice":
            begin, end = self.draw((0, 1), (1, 0)), max(1, x.shape[axis] - 1)
            cut = slice(None, end) if begin[1] else slice(min(1, end - 1), None)
            key = [slice(None)] * rank
            key[axis] = slice(None, None, self.draw(2, -1)) if self.chance(0.3) else cut
            return x[tuple(key)]
        if kind == "split" and x.shape[axis] % 2 == 0:
            first, second = self.ops.split(x, 2, axis=axis)
            return self.draw(self.ops.multiply, self.ops.add, self.ops.maximum)(first, second)
        if kind == "repeat" and rank == 3 and self.chance(0.5):
            return self.layers.UpSampling1D(2)(x)
        if kind == "repeat":
            return self.ops.repeat(x, 2, axis=axis)
        if kind == "pad":
            mode = self.draw("constant", "reflect") if x.shape[axis] > 2 else "constant"
            widths = [(0, 0)] * rank
            widths[axis] = (1, 2)
            return self.ops.pad(x, widths, mode=mode)
        if kind == "stack" and rank == 3:
            return self.ops.stack([x, self.ops.flip(x, 1)], axis=self.draw(1, 2, 3))
        return self.only_in_training(x)

    def moved_in_blocks(self, x: Any, axis: int) -> Any:
        """Of keras.ops: rolled, tiled, taken, beside zeros; images cut into patches."""
        sizes, size = x.shape[1:], x.shape[axis]
        counts = [1] * len(x.shape)
        counts[axis] = 2
        begin = [0] * len(x.shape)
        begin[axis] = int(self.random.integers(size))
        shape = list(x.shape)
        shape[axis] = size - begin[axis]
        made: list[Any] = [
            lambda: self.ops.roll(x, self.draw(1, -2, 5), axis),
            lambda: self.ops.tile(x, counts) if math.prod(sizes) < 500 else x,
            lambda: self.ops.take(x, self.random.integers(0, size, 3), axis=axis),
            lambda: self.ops.slice(x, begin, [-1, *shape[1:]]),
            lambda: self.ops.concatenate([x, self.ops.zeros_like(x)], axis),
        ]
        if len(x.shape) == 4 and min(sizes[:2]) > 2:
            rows, columns = sizes[0] - 1, sizes[1] - 1
            made += 3 * [
                lambda: self.ops.image.extract_patches(x, 2, padding=self.draw("valid", "same")),
                lambda: self.ops.image.extract_patches(x, (2, 3), 1, 1, self.draw("valid", "same")),
                lambda: self.ops.image.crop_images(
                    x, 1, bottom_cropping=0, left_cropping=0, target_width=columns
                ),
                lambda: self.ops.image.pad_images(
                    x, 1, 0, target_height=rows + 3, target_width=columns + 2
                ),
                lambda: self.layers.RandomCrop(*sizes[:2])(x),
            ]
        return self.draw(*made)()

    def only_in_training(self, x: Any) -> Any:
        """A layer that does nothing at inference."""
        made = [
            *(self.layers.Dropout(0.1), self.layers.GaussianNoise(0.1), self.layers.Identity()),
            *(self.layers.GaussianDropout(0.1), self.layers.AlphaDropout(0.1)),
            self.layers.ActivityRegularization(l2=1e-4),
        ]
        if len(x.shape) in (3, 4):
            kind = "SpatialDropout1D" if len(x.shape) == 3 else "SpatialDropout2D"
            made += [getattr(self.layers, kind)(0.1)] * 2
        return self.draw(*made)(x)

    def augmentation(self, x: Any) -> Any:
        """Random changes of an image of three channels."""
        limits: dict[str, Any] = {"value_range": (-4.0, 4.0)}
        options: dict[str, dict[str, Any]] = {
            **{kind: {} for kind in ("RandomFlip", "RandomGrayscale", "RandomPerspective")},
            **{kind: {"factor": 0.2} for kind in ("RandomRotation", "RandomContrast")},
            "RandomZoom": {"height_factor": 0.2},
            "RandomTranslation": {"height_factor": 0.2, "width_factor": 0.2},
            "RandomShear": {
                "x_factor": (0.0, 0.2),
                "y_factor": (0.0, 0.1),
            },  # Keras rebuilds no other
            "RandomGaussianBlur": {},
            **dict.fromkeys(("RandomInvert", "RandomErasing", "RandomColorJitter"), limits),
            "RandomPosterization": {"factor": 4, **limits},
            **{f"Random{change}": {"factor": 0.2, **limits} for change in _CHANGES},
        }
        kind = self.draw(*self.door.has(*options))
        return kind(**options[kind.__name__])(x)

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
            lambda: self.ops.maximum(x, 0.1),
            lambda: self.ops.clip(x, -0.5, 0.7),
            lambda: self.ops.square(self.ops.tanh(x)),
            lambda: self.ops.exp(self.ops.tanh(x)),
            lambda: self.ops.sqrt(self.ops.relu(x) + 0.1),  # whose gradient is finite
            lambda: self.ops.log1p(self.ops.relu(x)),
            lambda: self.ops.log(self.ops.relu(x) + 0.3),
            lambda: self.ops.rsqrt(self.ops.relu(x) + 0.3),
            lambda: self.ops.reciprocal(self.ops.relu(x) + 0.5),
            lambda: self.ops.divide(x, 3.0),
            lambda: self.ops.leaky_relu(x, 0.2),
            lambda: self.ops.sigmoid(x) * x,
            lambda: self.ops.softmax(x, axis=-1),
            lambda: self.ops.concatenate([x, x], axis=-1),
            lambda: self.ops.cast(x, "float32"),
        ]
        name = self.draw(*self.door.elementwise())
        one = getattr(self.ops, name)
        stepped = name in ("floor", "ceil", "round", "sign", "trunc")  # which have no gradient
        made += [(lambda: x + one(x)) if stepped else (lambda: one(x))] * len(made)
        inside = 0.9 * self.ops.tanh(x)
        curve = self.draw("arcsin", "arctanh", "tan", "sinh", "cosh", "erfinv", "exp2", "arccos")
        made.append(lambda: self.ops.log_softmax(x, axis=self.draw(1, -1)))
        if hasattr(self.ops, curve):
            made += [lambda: getattr(self.ops, curve)(inside)] * 3
        if rank == 4:
            size, how = self.draw((3, 5), (8, 8)), self.draw("nearest", "bilinear")
            made += [lambda: self.ops.image.resize(x, size, interpolation=how)] * 3
        if hasattr(self.ops, "threshold"):
            made += [
                lambda: self.ops.layer_normalization(x),
                lambda: self.ops.logsumexp(x, axis=-1, keepdims=True) - x,
                lambda: self.ops.amax(x, axis=-1, keepdims=True) - x,
                lambda: self.ops.amin(x, axis=1, keepdims=True) + x,
                lambda: self.ops.log2(self.ops.relu(x) + 0.3),
                lambda: self.ops.log10(self.ops.relu(x) + 0.3),
                lambda: self.ops.average(x, axis=-1, weights=constants),
            ]
            made += [lambda: self.ops.glu(x)] * 2 if channels % 2 == 0 else []
            made.append(lambda: self.ops.threshold(x, 0.1, 0.0))
            made.append(lambda: self.ops.array_split(x, 2, axis=-1)[0])
        if rank == 3:
            made += [
                lambda: self.ops.matmul(x, self.ops.transpose(self.ops.tanh(x), (0, 2, 1))),
                lambda: self.ops.einsum("abc,adc->abd", x, self.ops.tanh(x)),
                lambda: self.ops.squeeze(self.ops.expand_dims(x, 2), 2),
                lambda: self.ops.squeeze(self._attended(self.ops.expand_dims(x, 2)), 2),
                lambda: self.ops.stack(self.ops.unstack(x, axis=1)[:3], axis=1),
            ]
        return self.draw(*made)()
