"""`python -m ec2t_tf.export COMMAND`: the commands of `ec2t` that start from a model or a file."""

from __future__ import annotations

import sys

from ec2t_tf.export import commands

if __name__ == "__main__":
    sys.exit(commands.main(sys.argv[1:]))
