"""`python -m ec2t_tf.train.zoo [NAME]`, `ec2t zoo`: the trained nets, or the card of one."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from ec2t_tf.export.commands.parser import say_error
from ec2t_tf.train import trained
from ec2t_tf.train.zoo import MODELS


def command(argv: Sequence[str]) -> int:
    """Prints the table, or a card; `argv` has the program's name first. Returns the exit code."""
    if argv[1:2] in (["-h"], ["--help"]):
        print(f"usage: {argv[0]} [NAME]\n\nThe trained nets, or what is known of one.")
        return 0
    if len(argv) < 2:
        print(f"{trained.table().text()}\n\n'{argv[0]} NAME' shows the card of one.")
        print(f"Networks that 'ec2t train --model=NAME' trains: {', '.join(MODELS)}.")
        return 0
    try:
        print(trained.card(argv[1]))
    except ValueError as error:
        return say_error(str(error))
    return 0


if __name__ == "__main__":
    sys.exit(command(["python -m ec2t_tf.train.zoo", *sys.argv[1:]]))
