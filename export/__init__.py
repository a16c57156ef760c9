"""Everything after training: from a trained model to files that phones and microcontrollers run."""

from ec2t_tf.export.convert import to_c, to_tflite
from ec2t_tf.export.litert import Interpreter, load_delegate
from ec2t_tf.export.report import Report, report
from ec2t_tf.export.tflite import unpack
from ec2t_tf.export.tflite_file import ConversionError, FileError
from ec2t_tf.export.verify import Verification, verify

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
