"""A method's layer without a model around it, on whichever backend Keras runs."""

from __future__ import annotations

import keras
import numpy as np

from ec2t_tf.methods import Assignment
from ec2t_tf.methods.base import TernaryMethod
from tests.native import gradients


class MethodLayer:
    """Latent weights and state of one method."""

    def __init__(self, method: TernaryMethod, latent: np.ndarray) -> None:
        self.method = method
        self.latent = keras.Variable(latent.astype(np.float32), name="latent")
        self.state = method.build(self._add_weight)
        method.initialise(keras.ops.convert_to_tensor(self.latent), self.state)

    def _add_weight(
        self, name: str, shape: tuple[int, ...] | None, trainable: bool, dtype: str = "float32"
    ) -> keras.Variable:
        shape = tuple(self.latent.shape) if shape is None else shape
        dtype = "int32" if dtype == "int64" else dtype
        return keras.Variable(np.zeros(shape), dtype=dtype, trainable=trainable, name=name)

    @property
    def trained(self) -> dict[str, keras.Variable]:
        return {"latent": self.latent} | {n: v for n, v in self.state.items() if v.trainable}

    def weights(self, *, training: bool = False) -> object:
        return self.method.quantise(
            keras.ops.convert_to_tensor(self.latent),
            self.state,
            relative_size=1.0,
            training=training,
        )

    def assign(self) -> Assignment:
        return self.method.assign(self.latent, self.state, relative_size=1.0)

    def losses(self) -> dict[str, float]:
        latent = keras.ops.convert_to_tensor(self.latent)
        found = self.method.losses(latent, self.state, relative_size=1.0)
        return {name: float(value) for name, value in found.items()}

    def gradients(self, upstream: np.ndarray) -> dict[str, np.ndarray]:
        """Of sum(upstream * weights) by the latent weights and by each trained variable."""
        upstream = keras.ops.convert_to_tensor(upstream.astype(np.float32))
        found = gradients.by_variables(
            lambda: keras.ops.sum(self.weights(training=True) * upstream),
            list(self.trained.values()),
        )
        return dict(zip(self.trained, found, strict=True))
