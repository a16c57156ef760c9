"""The old name of `ec2t_tf.export.mcu`, for one release."""

import warnings
from typing import Any


def __getattr__(name: str) -> Any:
    from ec2t_tf.export import mcu

    if name not in mcu.__all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warnings.warn(
        f"ec2t_tf.export.c.{name} is now ec2t_tf.export.mcu.{name}.",
        DeprecationWarning,
        stacklevel=2,
    )
    return getattr(mcu, name)
