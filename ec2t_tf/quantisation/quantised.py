"""A layer that computes with a ternary or int8 kernel."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
from keras import ops

from ec2t_tf import methods
from ec2t_tf.methods.base import Assignment, Member, State, TernaryMethod, straight_through
from ec2t_tf.quantisation.computed import Computed, OfComputed
from ec2t_tf.quantisation.registered import registered

Tensor = Any
LARGEST_CODE = 127  # of a symmetric int8 weight
SMALLEST_WEIGHT = 1e-8  # as largest of a kernel: an empty range has no scale


@contextlib.contextmanager
def substituted(layer: keras.layers.Layer, given: Sequence[tuple[Any, Tensor]]) -> Iterator[None]:
    """`layer` reads these values from these variables inside; no layer has to help.

    What the layer writes to its own state inside (moving averages, seeds) reaches its variables,
    and losses that it adds are its own.
    """
    values = {id(variable): value for variable, value in given}
    mapping = [(v, values.get(id(v), v.value)) for v in layer.variables]
    with keras.StatelessScope(state_mapping=mapping, collect_losses=True) as scope:
        yield
    for loss in scope.losses:
        layer.add_loss(loss)
    for variable in layer.non_trainable_variables:
        if id(variable) in values:
            continue
        after = scope.get_current_value(variable)
        if after is not None:
            variable.assign(after)


class Network(NamedTuple):
    """The ternary layers of a model that share one method, for what depends on all of them."""

    members: list[Member]
    leader: Quantised

    def before_pass(self, layer: Quantised) -> None:
        if layer is self.leader and layer.method is not None:
            layer.method.before_pass(self.members)


class _Losses:
    """The method's regularisation of one layer, as Keras calls that of a variable."""

    def __init__(self, layer: Quantised) -> None:
        self.layer = layer

    def __call__(self, _: Any) -> Tensor:
        losses = list(self.layer.losses_by_name().values())
        return sum(losses[1:], losses[0])


@registered
class Quantised(keras.layers.Wrapper):
    """Wraps a layer with one kernel (Dense, convolutions, EinsumDense, ...).

    Args:
      layer: the layer; its own variables are the latent weights, which the optimiser trains.
      method: a ternary method (or its saved form); None for int8 weights.
      relative_size: weights of the layer / weights of the largest ternary layer of the network.

    Attributes:
      layer: the layer inside, without the quantisation; its activation is what the file fuses.
      method, relative_size: as given.
      state: the method's variables by name; empty for int8.
    """

    def __init__(
        self,
        layer: keras.layers.Layer,
        method: TernaryMethod | dict | None = None,
        relative_size: float = 1.0,
        **options: Any,
    ) -> None:
        # Latent weights are read as they are; the layer inside casts to its own compute dtype.
        super().__init__(layer, **{**options, "dtype": "float32", "autocast": False})
        self.method = methods.deserialize(method) if isinstance(method, dict) else method
        self.relative_size = float(relative_size)
        self.supports_masking = layer.supports_masking
        self.state: State = {}
        # All ternary layers of the network, once the model is known (`connect`). Inside a function,
        # where Keras does not look for layers.
        self._network: Any = None

    def build(self, input_shape: Any) -> None:
        super().build(input_shape)
        self.built = True
        if self.method is None:
            return
        self.state = self.method.build(self._add_state)
        if type(self.method).losses is not TernaryMethod.losses:
            self.latent.regularizer = _Losses(self)

    def _add_state(
        self, name: str, shape: tuple[int, ...] | None, trainable: bool, dtype: str = "float32"
    ) -> keras.Variable:
        return self.add_weight(
            tuple(self.latent.shape) if shape is None else shape,
            "zeros",
            dtype="int32" if dtype == "int64" else dtype,  # JAX has no int64
            trainable=trainable,
            autocast=False,
            name=name,
        )

    @property
    def kernel_name(self) -> str:
        """Name of the attribute of the inner layer that holds the latent weights."""
        if hasattr(self.layer, "embeddings"):
            return "embeddings"
        return "depthwise_kernel" if hasattr(self.layer, "depthwise_kernel") else "kernel"

    @property
    def latent(self) -> keras.Variable | Computed:
        """The float weights that the optimiser trains, or what is computed from them."""
        if isinstance(self.layer, OfComputed):
            return self.layer.computed
        if hasattr(self.layer, "depthwise_kernel"):
            return self.layer.depthwise_kernel
        if hasattr(self.layer, "embeddings"):
            return getattr(self.layer, "_embeddings", self.layer.embeddings)
        # `kernel` of some layers adds what LoRA has learnt; the variable is meant.
        return getattr(self.layer, "_kernel", self.layer.kernel)

    def initialise(self) -> None:
        """Set the method's state from the latent weights."""
        if self.method is not None:
            self.method.initialise(ops.convert_to_tensor(self.latent.value), self.state)

    def call(self, inputs: Tensor, training: bool | None = None) -> Tensor:
        kernel = self.quantised_kernel(training=bool(training))
        given: list[Any] = [(self.latent, kernel)]
        inside: Any = contextlib.nullcontext()
        if isinstance(self.layer, OfComputed):
            given, inside = [], self.layer.computing_with(kernel)
        with substituted(self.layer, given), inside:
            return self.layer(inputs)

    def quantised_kernel(self, *, training: bool = False) -> Tensor:
        """What the layer computes with: float32, shape of the latent weights, differentiable."""
        latent = self.latent.value
        if self.method is None:
            scale = self._spread_scale(ops.stop_gradient(self._int8_scale(latent)))
            rounded = ops.round(ops.stop_gradient(latent) / scale) * scale
            return straight_through(rounded, latent)
        if training and self.method.controls_network:
            if self._network is None:
                raise ValueError(
                    f"'{self.name}' trains towards a sparsity of the whole network, so its ternary "
                    "layers must know each other. Received: a model that ec2t_tf.apply did not "
                    "return. Train the model that it returned, or call ec2t_tf.connect(model)."
                )
            self._network().before_pass(self)
        return self.method.quantise(
            latent, self.state, relative_size=self.relative_size, training=training
        )

    def losses_by_name(self) -> dict[str, Tensor]:
        """The method's regularisation losses, float32 scalars; parts of the model's losses."""
        if self.method is None:
            return {}
        return self.method.losses(self.latent.value, self.state, relative_size=self.relative_size)

    def assign(self) -> Assignment:
        """What the latent weights have become, as NumPy values.

        Raises:
          ValueError: an int8 layer, or NaN or infinity among the latent weights.
        """
        if self.method is None:
            raise ValueError(f"A ternary layer is required. Received: '{self.name}', int8.")
        latent = self._finite_latent()
        return self.method.assign(
            ops.convert_to_tensor(latent), self.state, relative_size=self.relative_size
        )

    def _finite_latent(self) -> np.ndarray:
        latent = ops.convert_to_numpy(self.latent.value)
        if not np.all(np.isfinite(latent)):
            raise ValueError(
                f"Finite weights are required. Received: NaN or infinity in '{self.latent.path}'. "
                "Train again from a good checkpoint."
            )
        return latent

    def codes_and_scale(self) -> tuple[np.ndarray, np.ndarray]:
        """The kernel as a file stores it.

        Returns:
          int8 codes of the kernel's shape, and the float32 scale of a code: (), or (channels,)
          along the axis `scale_axis`.
        """
        if self.method is None:
            scale = ops.convert_to_numpy(self._int8_scale(self._finite_latent()))
            spread = ops.convert_to_numpy(self._spread_scale(scale))
            codes = np.rint(self._finite_latent() / spread)
            return codes.astype(np.int8), scale.reshape(-1) if scale.ndim else scale
        assignment = self.assign()
        scale = np.asarray(assignment.largest, np.float32) / np.float32(LARGEST_CODE)
        return np.rint(assignment.dequantise() / scale).astype(np.int8), scale

    @property
    def scale_axis(self) -> int | None:
        """Axis of the kernel along which an int8 scale differs; None for one scale.

        A depthwise kernel ends in (inputs, multiplier), which together are its output channels.
        """
        kind = type(self.layer).__name__
        if kind in ("Dense", "EinsumDense", "Embedding"):
            return None  # their int8 operator has one
        return -2 if "Transpose" in kind else -1

    def _int8_scale(self, latent: Tensor) -> Tensor:
        """float32, (), (channels,), or (inputs, multiplier) of a depthwise kernel."""
        rank = len(latent.shape)
        axes: list[int] | None = None
        if "Depthwise" in type(self.layer).__name__:
            axes = list(range(rank - 2))
        elif self.scale_axis is not None:
            axes = [axis for axis in range(rank) if axis != rank + self.scale_axis]
        largest = ops.max(ops.abs(latent), axis=axes)
        return ops.maximum(largest, SMALLEST_WEIGHT) / LARGEST_CODE

    def _spread_scale(self, scale: Tensor) -> Tensor:
        """The scale in a shape that broadcasts to the kernel."""
        return scale[:, None] if self.scale_axis == -2 else scale

    def compute_output_spec(self, inputs: Any, *args: Any, **options: Any) -> Any:
        return self.layer.compute_output_spec(inputs)

    def compute_output_shape(self, input_shape: Any) -> Any:
        return self.layer.compute_output_shape(input_shape)

    def compute_mask(self, inputs: Any, previous_mask: Any) -> Any:
        return self.layer.compute_mask(inputs, previous_mask)

    def get_config(self) -> dict:
        method = None if self.method is None else methods.serialize(self.method)
        return {**super().get_config(), "method": method, "relative_size": self.relative_size}


def weights_of(layer: Quantised) -> int:
    return math.prod(layer.latent.shape)


def quantised_layers(model: keras.Model) -> list[Quantised]:
    """All layers with a quantised kernel, in order; of a recurrent layer its two kernels."""
    found: list[Quantised] = []
    for layer in model.layers:
        found += [layer] if isinstance(layer, Quantised) else getattr(layer, "parts", [])
    return found


def ternary_layers(model: keras.Model) -> list[Quantised]:
    """The layers with a method (ternary or pruned), in order."""
    return [layer for layer in quantised_layers(model) if layer.method is not None]


def connect(model: keras.Model) -> None:
    """Make the ternary layers of a model known to each other: those with one method are a network.

    `apply` and loading do it; a model that was put together from parts of others needs it once.
    """
    networks: dict[str, list[Quantised]] = {}
    for layer in ternary_layers(model):
        if layer.method is not None:
            networks.setdefault(repr(methods.serialize(layer.method)), []).append(layer)
    for network in networks.values():
        members = [Member(layer.latent, layer.state, layer.relative_size) for layer in network]
        known = Network(members, network[0])
        for layer in network:
            layer._network = lambda known=known: known


def networks(model: keras.Model) -> list[Network]:
    """The ternary layers of a connected model, by their method."""
    known = [(layer, layer._network()) for layer in ternary_layers(model)]
    return [network for layer, network in known if layer is network.leader]


def initialise(model: keras.Model) -> None:
    """Set the state of all ternary layers from their latent weights."""
    for layer in ternary_layers(model):
        layer.initialise()
    for network in networks(model):
        if network.leader.method is not None:
            network.leader.method.initialise_network(network.members)
