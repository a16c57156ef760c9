"""Everything after training: from a trained model to files that phones and microcontrollers run.

Only what starts from a Keras model loads TensorFlow.
"""

from typing import TYPE_CHECKING

from ec2t_tf import lazy

if TYPE_CHECKING:
    from .convert import to_c, to_tflite
    from .litert import Interpreter, load_delegate
    from .reports import Report, report
    from .tflite import unpack
    from .tflite_file import ConversionError, FileError
    from .verification import Verification, verify

__all__ = [
    "ConversionError",
    "FileError",
    "Interpreter",
    "Report",
    "Verification",
    "load_delegate",
    "report",
    "to_c",
    "to_tflite",
    "unpack",
    "verify",
]

lazy.names(
    __name__,
    {
        "ConversionError": "ec2t_tf.export.tflite_file",
        "FileError": "ec2t_tf.export.tflite_file",
        "Interpreter": "ec2t_tf.export.litert",
        "Report": "ec2t_tf.export.reports",
        "Verification": "ec2t_tf.export.verification",
        "load_delegate": "ec2t_tf.export.litert",
        "report": "ec2t_tf.export.reports",
        "to_c": "ec2t_tf.export.convert",
        "to_tflite": "ec2t_tf.export.convert",
        "unpack": "ec2t_tf.export.tflite",
        "verify": "ec2t_tf.export.verification",
    },
)
