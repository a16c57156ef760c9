"""Training scripts: data, networks and recipes around `ec2t_tf`. Run `python -m ec2t_tf.train`."""
