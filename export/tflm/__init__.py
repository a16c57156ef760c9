"""TensorFlow Lite Micro: compressed weights for the stock library, and the custom operator's adapter."""

from .decode import TflmReport, to_tflm

__all__ = ["TflmReport", "to_tflm"]
