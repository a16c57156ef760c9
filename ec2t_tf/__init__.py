"""Sparse ternary networks for Keras.

>>> model = ec2t_tf.apply(float_model)  # then compile and fit as usual

Names load their module when first used: `import ec2t_tf` loads neither TensorFlow nor Keras.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from ec2t_tf import former, keras_hook, lazy

if TYPE_CHECKING:
    from ec2t_tf import callbacks, export, methods, tfmot, train  # noqa: F401
    from ec2t_tf.apply import UnsupportedLayerError, apply
    from ec2t_tf.export.lower import exact
    from ec2t_tf.policy import ApplyReport, Policy, Rule, Treatment
    from ec2t_tf.recalibrate import recalibrate
    from ec2t_tf.saving import load_model
    from ec2t_tf.schedule import ConstantSparsity, PolynomialDecay
    from ec2t_tf.strip import strip
    from ec2t_tf.summary import LayerSummary, Summary, summary

__version__ = "0.2.0.dev0"

# Without tfmot, which loads tf_keras: `from ec2t_tf import *` must not.

__all__ = [
    "ApplyReport",
    "ConstantSparsity",
    "LayerSummary",
    "Policy",
    "PolynomialDecay",
    "Rule",
    "Summary",
    "Treatment",
    "UnsupportedLayerError",
    "apply",
    "callbacks",
    "exact",
    "export",
    "load_model",
    "methods",
    "recalibrate",
    "strip",
    "summary",
    "train",
]

# In a checkout `train/` and `export/` lie beside this folder, which hides an installed package.
if (Path(__file__).parents[1] / "export" / "__init__.py").is_file():
    __path__.append(str(Path(__file__).parents[1]))

former.install()
lazy.names(
    __name__,
    {
        "ApplyReport": "ec2t_tf.policy",
        "ConstantSparsity": "ec2t_tf.schedule",
        "LayerSummary": "ec2t_tf.summary",
        "Policy": "ec2t_tf.policy",
        "PolynomialDecay": "ec2t_tf.schedule",
        "Rule": "ec2t_tf.policy",
        "Summary": "ec2t_tf.summary",
        "Treatment": "ec2t_tf.policy",
        "UnsupportedLayerError": "ec2t_tf.apply",
        "apply": "ec2t_tf.apply",
        "exact": "ec2t_tf.export.lower",
        "load_model": "ec2t_tf.saving",
        "recalibrate": "ec2t_tf.recalibrate",
        "strip": "ec2t_tf.strip",
        "summary": "ec2t_tf.summary",
    },
    rooms=("callbacks", "export", "methods", "tfmot", "train"),
    afterwards=keras_hook.settle,
)
keras_hook.install()
