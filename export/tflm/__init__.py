"""TensorFlow Lite Micro: weights for its DECODE operators, and our operators' adapter."""

from .decode import TflmReport, to_tflm

__all__ = ["TflmReport", "to_tflm"]
