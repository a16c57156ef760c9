"""What a ternary method is: state per layer, a differentiable pass, an assignment."""

from __future__ import annotations

import abc
import dataclasses
import math
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple, Protocol

import keras
import numpy as np
from keras import ops

from ec2t_tf.export.graph.ternary import entropy

# A backend's tensor, and a variable of Keras 3 or of tf_keras (on TensorFlow).
Tensor = Any
Variable = Any

# Largest magnitude of a symmetric int8 weight code; -128 is not used (TensorFlow Lite).
INT8_LARGEST_CODE = 127
# Centroids stay positive, also in a layer whose weights are all zero.
SMALLEST_CENTROID = 1e-8

State = dict[str, Variable]


class AddWeight(Protocol):
    """Creates a variable of a layer's state, zero to begin with.

    A shape of None is that of the layer's weights. None is returned for what `OwnRate` and
    `StepCounter` need only where a forward pass may not write trained variables (Keras 3 on JAX).
    """

    def __call__(
        self, name: str, shape: tuple[int, ...] | None, trainable: bool, dtype: str = "float32", /
    ) -> Variable: ...


class Member(NamedTuple):
    """One ternary layer of a network."""

    latent: Variable
    state: State
    relative_size: float

    @property
    def weights(self) -> Tensor:
        """The latent weights as they are now."""
        is_variable = hasattr(self.latent, "assign")
        return ops.convert_to_tensor(self.latent if is_variable else self.latent.value)


@dataclasses.dataclass(frozen=True)
class Assignment:
    """What a layer's weights have become, as NumPy values.

    Attributes:
      codes: int8, shape of the weights; code c stands for `levels[c + zero_index]`.
      levels: float32, ascending; (-w_n, 0, +w_p) for a ternary layer. Shape (levels,), or
        (channels, levels) where each slice along the last axis of the weights has its own.
      zero_index: position of code 0 in `levels`.
      largest_code: int8 code with which a file stores the largest level.
    """

    codes: np.ndarray
    levels: np.ndarray
    zero_index: int = 1
    largest_code: int = INT8_LARGEST_CODE

    @property
    def axis(self) -> int | None:
        """Axis along which the levels differ; None where one set serves the whole tensor."""
        return None if self.levels.ndim == 1 else -1

    @property
    def scale_neg(self) -> float:
        """w_n: magnitude of the negative level next to zero; the mean where channels differ."""
        return float(-self.levels[..., self.zero_index - 1].mean())

    @property
    def scale_pos(self) -> float:
        """w_p: the positive level next to zero; the mean where channels differ."""
        return float(self.levels[..., self.zero_index + 1].mean())

    @property
    def largest(self) -> np.ndarray:
        """What the int8 code 127 means to a file: float32, shape () or (channels,)."""
        largest = np.abs(self.levels).max(axis=-1)
        return largest * np.float32(INT8_LARGEST_CODE / self.largest_code)

    @property
    def sparsity(self) -> float:
        """Share of zero weights, 0 to 1."""
        return float(np.mean(self.codes == 0))

    @property
    def entropy(self) -> float:
        """First-order entropy of the codes, bits per weight."""
        return entropy(self.codes)

    def dequantise(self) -> np.ndarray:
        """The weights the network computes with: float32, shape of the codes."""
        index = self.codes.astype(np.int64) + self.zero_index
        if self.axis is None:
            return self.levels[index]
        return self.levels[np.arange(len(self.levels)), index]


class Quantised(NamedTuple):
    """What a forward pass computes with: an `Assignment` as tensors.

    `codes` is int8 with the shape of the weights, `levels` float32 (levels,) or (channels, levels).
    """

    codes: Tensor
    levels: Tensor
    zero_index: int = 1
    largest_code: int = INT8_LARGEST_CODE

    @property
    def weights(self) -> Tensor:
        """float32, shape of the codes; no gradient."""
        index = ops.cast(self.codes, "int32") + self.zero_index
        if len(self.levels.shape) > 1:
            per_channel = [
                ops.where(index == i, self.levels[:, i], 0.0) for i in range(self.levels.shape[1])
            ]
            return sum(per_channel[1:], per_channel[0])
        if self.levels.shape[0] == 3:
            negative, _, positive = ops.unstack(self.levels)
            return ops.where(self.codes > 0, positive, ops.where(self.codes < 0, negative, 0.0))
        return ops.take(self.levels, index)

    @property
    def assignment(self) -> Assignment:
        return Assignment(
            ops.convert_to_numpy(self.codes),
            ops.convert_to_numpy(self.levels),
            self.zero_index,
            self.largest_code,
        )


def ternary(negative: Tensor, positive: Tensor, levels: Tensor) -> Quantised:
    """Code -1 where `negative`, +1 where `positive` (bool, shape of the weights), else 0."""
    return Quantised(ops.cast(positive, "int8") - ops.cast(negative, "int8"), levels)


def straight_through(value: Tensor, surrogate: Tensor) -> Tensor:
    """`value`, bit for bit, with the gradient of `surrogate`; both of one shape, finite.

    Automatic differentiation finds the gradient on every backend: no custom gradient is needed.
    """
    return ops.stop_gradient(value) + (surrogate - ops.stop_gradient(surrogate))


def hold_within(values: Tensor, limit: float | Tensor) -> Tensor:
    """`values`, without the gradient that would take one beyond +-limit further out.

    So it takes the place of clipping the variable after each step.
    """

    @ops.custom_gradient
    def held(values: Tensor, limit: Tensor) -> tuple:
        outside = ops.abs(values) > limit

        def gradient(*arguments: Tensor, upstream: Tensor | None = None) -> tuple[Tensor, Tensor]:
            g = arguments[0] if upstream is None else upstream
            kept = ops.where(ops.logical_and(outside, values * g < 0.0), 0.0, g)
            return kept, ops.zeros_like(limit)

        return values * 1.0, gradient

    # Times 1: TensorFlow wants no variable in a custom gradient.
    return held(values * 1.0, ops.convert_to_tensor(limit, "float32"))


def wide() -> str:
    """The widest float dtype of the backend, for sums and differences that need it."""
    return "float32" if keras.backend.backend() == "jax" else "float64"


def number_of(tensor: Tensor) -> int:
    """How many values a tensor of known shape holds."""
    return math.prod(tensor.shape)


def ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """numerator / denominator; 0 where the denominator is 0."""
    zero = denominator == 0
    return ops.where(
        zero, 0.0, numerator / ops.where(zero, ops.ones_like(denominator), denominator)
    )


class TernaryMethod(abc.ABC):
    """Turns the latent weights of a layer into weights of three values.

    A method object holds options only; what a layer learns lives in `State`, a dictionary of
    variables that the caller keeps. `relative_size` is the number of the layer's weights divided by
    that of the largest ternary layer of the network.
    """

    name: ClassVar[str]
    # False for a method whose weights keep more than three values.
    is_ternary: ClassVar[bool] = True

    @abc.abstractmethod
    def get_config(self) -> dict:
        """Options that rebuild this object."""

    @abc.abstractmethod
    def build(self, add_weight: AddWeight) -> State:
        """Create one layer's state."""

    @abc.abstractmethod
    def initialise(self, latent: Tensor, state: State) -> None:
        """Set the state from the layer's weights; runs whenever float weights were loaded."""

    def initialise_network(self, members: Sequence[Member]) -> None:  # noqa: B027
        """Set what depends on all layers; runs after `initialise` of each of them."""

    @property
    def controls_network(self) -> bool:
        """Whether `before_pass` is needed: the layers then must know each other to train."""
        return False

    def before_pass(self, members: Sequence[Member]) -> None:  # noqa: B027
        """Update what depends on all layers; runs before each forward pass of training."""

    @abc.abstractmethod
    def quantise(
        self, latent: Tensor, state: State, *, relative_size: float, training: bool
    ) -> Tensor:
        """Differentiable ternary weights, float32, shape of `latent`.

        With `training` the state may be updated; without, nothing changes.
        """

    @abc.abstractmethod
    def assign(self, latent: Tensor, state: State, *, relative_size: float) -> Assignment:
        """The assignment that `quantise(..., training=False)` computes with."""

    def losses(self, latent: Tensor, state: State, *, relative_size: float) -> dict[str, Tensor]:
        """Regularisation losses of a layer by name, float32 scalars; Keras adds them up."""
        return {}

    @property
    def updates_twice(self) -> bool:
        """Whether the method's own variables step first, then, on a new gradient, all others."""
        return False


def int8_levels(w_n: Tensor, w_p: Tensor, *, largest_code: int = INT8_LARGEST_CODE) -> Tensor:
    """(-w_n, 0, +w_p) as an int8 tensor of scale max(w_n, w_p)/largest_code stores it.

    float32, shape (3,), or (channels, 3) for w_n and w_p of shape (channels,).

    The larger magnitude becomes `largest_code` and the smaller one the nearest code, an error of at
    most 0.4 % of the larger. On TensorFlow the arithmetic is its fake quantisation, bit for bit, so
    training computes with the very values that a file stores.
    """
    largest = ops.maximum(w_n, w_p) * np.float32(INT8_LARGEST_CODE / largest_code)
    levels = ops.stack([-w_n, ops.zeros_like(w_n), w_p])
    stored = stored_int8(levels, largest)
    return ops.transpose(stored) if len(stored.shape) > 1 else stored


def stored_int8(values: Tensor, largest: Tensor) -> Tensor:
    """Values as int8 codes -127 to 127 of scale largest/127 hold them; no gradient.

    Args:
      values: float32.
      largest: float32, positive: (), or (n,) for the n slices along the last axis of `values`.
    """
    return keras.quantizers.fake_quant_with_min_max_vars(
        ops.stop_gradient(values),
        -largest,
        largest,
        num_bits=8,
        narrow_range=True,
        axis=-1 if len(largest.shape) else None,
    )
