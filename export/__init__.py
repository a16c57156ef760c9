"""Everything after training: from a trained model to files that phones and microcontrollers run.

Only what starts from a model loads Keras, and only for one of tf_keras TensorFlow.
"""

from typing import TYPE_CHECKING

from ec2t_tf import lazy

if TYPE_CHECKING:
    from .c_verification import verify_c
    from .convert import to_c, to_tflite
    from .file_formats import rewrite, unpack
    from .graph import FileError
    from .litert import Interpreter, load_delegate
    from .lower import ConversionError, exact, unwritable
    from .reports import Report, report
    from .verification import Verification, verify, verify_files

__all__ = [
    "ConversionError",
    "FileError",
    "Interpreter",
    "Report",
    "Verification",
    "exact",
    "load_delegate",
    "report",
    "rewrite",
    "to_c",
    "to_tflite",
    "unpack",
    "unwritable",
    "verify",
    "verify_c",
    "verify_files",
]

lazy.names(
    __name__,
    {
        "ConversionError": "ec2t_tf.export.lower",
        "FileError": "ec2t_tf.export.graph",
        "Interpreter": "ec2t_tf.export.litert",
        "Report": "ec2t_tf.export.reports",
        "Verification": "ec2t_tf.export.verification",
        "exact": "ec2t_tf.export.lower",
        "load_delegate": "ec2t_tf.export.litert",
        "report": "ec2t_tf.export.reports",
        "to_c": "ec2t_tf.export.convert",
        "to_tflite": "ec2t_tf.export.convert",
        "rewrite": "ec2t_tf.export.file_formats",
        "unpack": "ec2t_tf.export.file_formats",
        "unwritable": "ec2t_tf.export.lower",
        "verify": "ec2t_tf.export.verification",
        "verify_c": "ec2t_tf.export.c_verification",
        "verify_files": "ec2t_tf.export.verification",
    },
)
