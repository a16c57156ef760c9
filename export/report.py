"""The former name of `ec2t_tf.export.reports`."""

from ec2t_tf.lazy import moved

__getattr__ = moved(__name__, "ec2t_tf.export.reports")
