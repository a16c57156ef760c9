"""The door of tf_keras and tfmot: the only room that imports them.

Importing it imports tfmot, which sets `TF_USE_LEGACY_KERAS`: `tf.keras` then means tf_keras.
`import ec2t_tf` does not, and neither does anything that has to do with Keras 3 models only.

- `ec2t_tf.apply` and all that follows take tf_keras models here.
- `TernaryQuantizeConfig` works where tfmot's users put a `QuantizeConfig`; then `finish(model)`.
- `to_tf_keras` and `to_keras_3` rebuild models of the one Keras in the other.
"""

import keras

if keras.backend.backend() != "tensorflow":
    raise ImportError(
        "ec2t_tf.tfmot, the door of tf_keras models, requires TensorFlow as the backend of "
        "Keras 3, whose operations the ternary methods use. Received: the backend "
        f"'{keras.backend.backend()}'. Set KERAS_BACKEND=tensorflow before Keras is imported, or "
        "use a Keras 3 model."
    )

from ec2t_tf.tfmot import calls, strip, summary
from ec2t_tf.tfmot.in_keras_3 import to_keras_3
from ec2t_tf.tfmot.in_tf_keras import to_tf_keras
from ec2t_tf.tfmot.quantize_config import TernaryQuantizeConfig, finish

__all__ = [
    "TernaryQuantizeConfig",
    "calls",
    "finish",
    "strip",
    "summary",
    "to_keras_3",
    "to_tf_keras",
]
