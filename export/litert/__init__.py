"""The runtime on LiteRT and TensorFlow Lite: an external delegate in C, and an interpreter."""

from .interpreter import Interpreter, load_delegate

__all__ = ["Interpreter", "load_delegate"]
