"""Ternary training that begins where an earlier ternary net ended, with a schedule of its own.

For a second run at the same sparsity. The centroids come along, so a run to many more zeros is as
well begun at the float net (docs/results.md).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras

import ec2t_tf
from ec2t_tf.callbacks import ternary_layers
from ec2t_tf.schedule import StepCounter
from ec2t_tf.train.file_start import begin_from_file
from ec2t_tf.train.kept_shares import adapt


def begin_from(model: Any, path: str | Path, inputs: Any) -> None:
    """Copy an earlier net's latent weights, centroids, ranges and statistics into `model`.

    Steps made and whether codes are frozen are the earlier training's own and are not copied:
    schedules and the frozen phase begin anew. The codes are: a margin (`EC2T(hysteresis=)`) is
    around them, and thresholds alone would begin with another net.

    Args:
      model: from `ec2t_tf.apply`, of the same architecture, method and policy; the method's options
        may differ.
      path: `model.keras` of an earlier run, or the folder of the run; or an exported file, see
        `file_start`.
      inputs: some hundred examples, of which an exported file needs the statistics.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the nets do not have the same trainable weights.
    """
    path = Path(path)
    path = path / "model.keras" if path.is_dir() else path
    if not path.exists():
        raise FileNotFoundError(
            "--ternary_start must be the folder of a finished run, its model.keras, or an exported "
            "file of the net. "
            f"Received: '{path}', which does not exist."
        )
    if path.suffix != ".keras":
        begin_from_file(model, path, inputs)
        return
    before = ec2t_tf.load_model(path)
    earlier = _learnt(before)
    mine = _learnt(model)
    wanted = {place: list(v.shape) for place, v in mine.items() if v.trainable}
    given = {place: list(v.shape) for place, v in earlier.items() if v.trainable}
    if wanted != given:
        place = next(p for p in wanted | given if given.get(p) != wanted.get(p))
        raise ValueError(
            "--ternary_start must be a net of the same architecture, method and policy. Received: "
            f"'{path}', in which '{_path((mine | earlier)[place])}' has shape "
            f"{given.get(place, 'none at all')} where {wanted.get(place, 'none at all')} is needed."
        )
    for place in mine.keys() & earlier.keys():
        mine[place].assign(earlier[place])
    there, here = ternary_layers(before), ternary_layers(model)
    rises = any(getattr(layer.method, "schedule", None) is not None for layer in here)
    if rises or [_sparsity(layer) for layer in there] != [_sparsity(layer) for layer in here]:
        adapt(here, [float((layer.assign().codes == 0).mean()) for layer in there])


def _sparsity(layer: Any) -> float | None:
    return getattr(layer.method, "final_sparsity", None)


def _learnt(model: Any) -> dict[tuple[int, str, int], Any]:
    """What training changes, by layer and name within it, without counters, flags and clocks.

    The layer is its number: Keras numbers the names of layers without one (`input_2`) differently
    in each process. Variables of one name in a layer are numbered too.
    """
    found: dict[tuple[int, str, int], Any] = {}
    for number, layer in enumerate(model.layers):
        seen: dict[str, int] = {}
        for variable in layer.weights:
            name = _path(variable).rpartition("/")[2]
            place = (number, name, seen.get(name, 0))
            seen[name] = place[-1] + 1
            is_float = "float" in keras.backend.standardize_dtype(variable.dtype)
            is_clock = name.endswith((StepCounter.CLOCK, StepCounter.SEEN))
            if (is_float and not is_clock) or name == "codes":
                found[place] = variable
    return found


def _path(variable: Any) -> str:
    """Of a variable of Keras 3, or of tf_keras, which numbers the outputs of operations."""
    return getattr(variable, "path", None) or variable.name.removesuffix(":0")
