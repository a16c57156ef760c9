"""The door of tf_keras and tfmot: the only room that imports them."""

from ec2t_tf.tfmot import strip, summary

__all__ = ["strip", "summary"]
