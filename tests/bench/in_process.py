"""Runs of the training script in one process, for benches of many small ones.

Data are loaded once, and the float net of the same data, net and seed is trained once.
"""

from __future__ import annotations

import dataclasses
import json
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from absl import flags


@dataclasses.dataclass(frozen=True)
class Trained:
    """A run: `float_net` and `net` are Keras models, `data` the script's TaskData."""

    float_net: Any
    net: Any
    data: Any


def settings_of(words: Sequence[str], folder: Path) -> Any:
    """What `ec2t train` makes of its flags."""
    from ec2t_tf.train import __main__ as script
    from ec2t_tf.train import run
    from ec2t_tf.train.method_flags import OF_A_METHOD

    given = flags.FLAGS
    for name in {*run.SETTINGS, *script.IDENTITY, *OF_A_METHOD}:
        if given[name].present:
            given[name].unparse()
    given(["bench", *words, f"--output_dir={folder}", "--verbose=0"])
    return run.Settings(
        **{name: given[name].value for name in run.SETTINGS},
        image_size=None,
        method=script.build_method(),
        policy=script.build_policy(),
        output_dir=folder,
    )


def fill(
    figures: Path,
    wanted: Iterable[tuple[str, str, str]],
    measure: Callable[[Runs, str, str, str], Any],
) -> dict[str, Any]:
    """Measures what a file of figures lacks, and writes it after each.

    Args:
      figures: JSON, figures by the three names.
      wanted: three names each, the last of which may be a seed.
      measure: of these three.

    Returns:
      All figures of the file.
    """
    rows: dict[str, Any] = json.loads(figures.read_text()) if figures.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        runs = Runs(Path(folder))
        for one, other, last in wanted:
            place = rows.setdefault(one, {}).setdefault(other, {})
            if last in place:
                continue
            place[last] = measure(runs, one, other, last)
            print(f"{one}, {other}, {last}: {place[last]}", flush=True)
            figures.write_text(json.dumps(rows, indent=1) + "\n")
    return rows


class Runs:
    """Trains one run after another.

    Args:
      folder: scratch.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._data: dict[Any, Any] = {}
        self._float_nets: dict[Any, Path] = {}

    def train(self, words: Sequence[str]) -> Trained:
        """The run of these flags, without its files and its report."""
        import keras

        import ec2t_tf
        from ec2t_tf.train import recipe, run
        from ec2t_tf.train.doors import Keras3

        folder = Path(tempfile.mkdtemp(dir=self.folder))
        settings = settings_of(words, folder)
        of_data = [settings.dataset, settings.data_dir, settings.split, settings.apart]
        of_data.append(settings.leave_out)
        of_data += [settings.cutout, settings.augment, settings.copies]
        of_float = [settings.model, settings.width, settings.depth, settings.float_epochs]
        of_float += [settings.batch_size, settings.seed, settings.mixup]
        place, key = tuple(of_data), tuple(of_data + of_float)
        if place not in self._data:
            self._data[place] = run.load_data(settings)
        data, door = self._data[place], Keras3()
        keras.backend.clear_session()
        keras.utils.set_random_seed(settings.seed)
        float_net = run.build(settings, data)
        if key in self._float_nets:
            float_net.load_weights(self._float_nets[key])
        else:
            phase = run.float_phase(settings)
            run.train(door, float_net, data, phase, settings, ternary=False)
            self._float_nets[key] = folder / "float.weights.h5"
            float_net.save_weights(self._float_nets[key])
        recipe.compile_for_others(door, float_net)
        keras.utils.set_random_seed(settings.seed)
        net = ec2t_tf.apply(float_net, run.method_for(settings, data), policy=settings.policy)
        distil = run.distillation_of(settings, float_net, data)
        phase = run.ternary_phase(settings)
        run.train(door, net, data, phase, settings, ternary=True, distil=distil)
        recipe.compile_for_others(door, net)
        if settings.recalibrate:
            run.recalibrate(settings, data, net)
        return Trained(float_net, net, data)
