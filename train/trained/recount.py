"""Counts the C of every trained net anew: after a change of its kernels the cards hold old figures.

    python -m ec2t_tf.train.trained.recount

needs arm-none-eabi-gcc and qemu-system-arm. README.md's table is copied from the cards by hand.
"""

from __future__ import annotations

import dataclasses
import json

from ec2t_tf import files
from ec2t_tf.export import file_formats
from ec2t_tf.train.trained.add import counts
from ec2t_tf.train.trained.cards import FOLDER, card, names, path


def recounted(name: str) -> dict[str, dict[str, int]]:
    """Of a net, what its card has as `cores`, with the kernels of today."""
    int8 = file_formats.plain(path(name).read_bytes())
    return {core: counts(int8, core) for core in card(name).cores}


def main() -> None:
    for name in names():
        found = dataclasses.replace(card(name), cores=recounted(name))
        text = json.dumps(dataclasses.asdict(found), indent=1) + "\n"
        files.write_text(FOLDER / f"{name}.json", text)
        print(found)


if __name__ == "__main__":
    main()
