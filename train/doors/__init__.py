"""What trains: Keras 3 on any backend, or tf_keras with tfmot.

A door has the library (`keras`) and says how a net and its data go into it. All else of the script
is the same for both.
"""

from __future__ import annotations

from ec2t_tf.train.doors.keras_3 import Keras3

__all__ = ["Keras3", "open_door"]


def open_door(name: str, *, distribute: str | None = None) -> Keras3:
    """The door of `--door`; to be opened before its library computes anything.

    Args:
      name: "keras" or "tfmot".
      distribute: of "tfmot": "mirrored" or "multiworker", see `tf_keras.strategy`.

    Raises:
      ValueError: the name is unknown, or "multiworker" without its machines.
      ImportError: "tfmot" where Keras 3 does not compute with TensorFlow.
    """
    if name == "keras":
        return Keras3()
    if name != "tfmot":
        raise ValueError(f"door must be 'keras' or 'tfmot'. Received: door='{name}'.")
    from ec2t_tf.train.doors.tf_keras import TfKeras

    return TfKeras(distribute)
