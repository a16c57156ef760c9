"""What a ternary method is: state per layer, a differentiable pass, an assignment."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable
from typing import ClassVar

import numpy as np
import tensorflow as tf

# Largest magnitude of a symmetric int8 weight code; -128 is not used (TensorFlow Lite).
INT8_LARGEST_CODE = 127
# Centroids stay positive, also in a layer whose weights are all zero.
SMALLEST_CENTROID = 1e-8

State = dict[str, tf.Variable]
# add_weight(name, shape, trainable) -> variable
AddWeight = Callable[[str, tuple[int, ...], bool], tf.Variable]


@dataclasses.dataclass(frozen=True)
class Assignment:
    """What a layer's weights have become, as NumPy values.

    Attributes:
      codes: int8, shape of the weights; code c stands for `levels[c + zero_index]`.
      levels: float32, ascending; (-w_n, 0, +w_p) for a ternary layer.
      zero_index: position of code 0 in `levels`.
      axis: None where one set of levels serves the whole tensor.
    """

    codes: np.ndarray
    levels: np.ndarray
    zero_index: int = 1
    axis: int | None = None

    @property
    def scale_neg(self) -> float:
        """w_n: magnitude of the negative level of a ternary layer."""
        return float(-self.levels[self.zero_index - 1])

    @property
    def scale_pos(self) -> float:
        """w_p: the positive level of a ternary layer."""
        return float(self.levels[self.zero_index + 1])

    @property
    def sparsity(self) -> float:
        """Share of zero weights, 0 to 1."""
        return float(np.mean(self.codes == 0))

    @property
    def entropy(self) -> float:
        """First-order entropy of the codes, bits per weight."""
        _, counts = np.unique(self.codes, return_counts=True)
        shares = counts / counts.sum()
        return float(max(0.0, -(shares * np.log2(shares)).sum()))

    def dequantise(self) -> np.ndarray:
        """The weights the network computes with: float32, shape of the codes."""
        return self.levels[self.codes.astype(np.int64) + self.zero_index]


class TernaryMethod(abc.ABC):
    """Turns the latent weights of a layer into weights of three values.

    A method object holds options only; what a layer learns lives in `State`, a dictionary of
    variables that the caller keeps. `relative_size` is the number of the layer's weights divided by
    that of the largest ternary layer of the network.
    """

    name: ClassVar[str]

    @abc.abstractmethod
    def get_config(self) -> dict:
        """Options that rebuild this object."""

    @abc.abstractmethod
    def build(self, add_weight: AddWeight) -> State:
        """Create one layer's state."""

    @abc.abstractmethod
    def initialise(self, latent: tf.Tensor, state: State) -> None:
        """Set the state from the layer's weights; runs whenever float weights were loaded."""

    @abc.abstractmethod
    def quantise(
        self, latent: tf.Tensor, state: State, *, relative_size: float, training: bool
    ) -> tf.Tensor:
        """Differentiable ternary weights, float32, shape of `latent`.

        With `training` the state may be updated; without, nothing changes.
        """

    @abc.abstractmethod
    def assign(self, latent: tf.Tensor, state: State, *, relative_size: float) -> Assignment:
        """The assignment that `quantise(..., training=False)` computes with."""


def int8_levels(w_n: tf.Tensor, w_p: tf.Tensor) -> tf.Tensor:
    """(-w_n, 0, +w_p) as an int8 tensor of scale max(w_n, w_p)/127 stores it: float32 (3,).

    The larger magnitude becomes code 127 and the smaller one the nearest code, an error of at most
    0.4 % of the larger. The arithmetic is TensorFlow's fake quantisation, bit for bit, so training
    computes with the very values that the converter stores.
    """
    largest = tf.maximum(w_n, w_p)
    levels = tf.stack([-w_n, tf.zeros_like(w_n), w_p])
    return tf.quantization.fake_quant_with_min_max_vars(
        levels, -largest, largest, num_bits=8, narrow_range=True
    )
