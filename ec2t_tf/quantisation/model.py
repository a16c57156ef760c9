"""The model that `apply` returns for a Keras 3 model."""

from __future__ import annotations

import warnings
from typing import Any

import keras

from ec2t_tf.policy import ApplyReport
from ec2t_tf.quantisation import two_pass, variables_first
from ec2t_tf.quantisation.quantised import connect
from ec2t_tf.quantisation.registered import registered


@registered
class TernaryModel(keras.Model):
    """A functional Keras 3 model for quantize-aware training; use it as any other.

    Attributes:
      ec2t_report: the `ApplyReport` of `apply`; saved with the model.
      output_names: by which losses and metrics are given, those of the user's layers; saved too.
    """

    ec2t_report: ApplyReport | None = None
    train_function: Any

    def __init__(self, inputs: Any, outputs: Any, name: str | None = None, **options: Any) -> None:
        super().__init__(inputs, outputs, name=name, **options)
        connect(self)

    def make_train_function(self, force: bool = False) -> Any:
        variables_first.make_optimizers(self)
        before = self.train_function
        super().make_train_function(force)
        if keras.backend.backend() == "tensorflow" and self.train_function is not before:
            self.train_function = variables_first.with_metrics(self, self.train_function)

    def train_step(self, *arguments: Any) -> Any:
        """One batch of `fit`; in two passes where a method wants its own variables to go first."""
        if two_pass.twice_updated(self):
            return two_pass.train_step(self, super().train_step, arguments)
        return super().train_step(*arguments)

    def export(
        self, filepath: Any, format: str = "tf_saved_model", *more: Any, **options: Any
    ) -> None:
        """As Keras exports it: in float32, with its fake quantisations inside.

        Warns:
          UserWarning: for `format="litert"`, whose file is not the int8 one.
        """
        if format == "litert":
            warnings.warn(
                "The file of Keras' own export computes in float32, as the model trains. "
                "ec2t_tf.export.to_tflite(model, path) writes the int8 one.",
                stacklevel=2,
            )
        super().export(filepath, format, *more, **options)

    def get_config(self) -> dict:
        config = {**super().get_config(), "output_names": list(self.output_names)}
        if self.ec2t_report is not None:
            config["ec2t_report"] = self.ec2t_report.get_config()
        return config

    @classmethod
    def from_config(cls, config: dict, custom_objects: dict | None = None) -> TernaryModel:
        config = dict(config)
        report = config.pop("ec2t_report", None)
        names = config.pop("output_names", None)
        model = super().from_config(config, custom_objects)
        if names is not None:
            model.output_names = list(names)
        if report is not None:
            model.ec2t_report = ApplyReport.from_config(report)
        return model
