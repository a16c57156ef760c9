from tests.tflite.fixtures import int8_nets  # noqa: F401
