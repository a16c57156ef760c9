"""Everything after training: from a trained model to files that phones and microcontrollers run."""

from ec2t_tf.export.convert import to_tflite
from ec2t_tf.export.report import Report, report
from ec2t_tf.export.tflite_file import ConversionError, FileError
from ec2t_tf.export.verify import Verification, verify

__all__ = [
    "ConversionError",
    "FileError",
    "Report",
    "Verification",
    "report",
    "to_tflite",
    "verify",
]
