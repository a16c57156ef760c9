"""Model and optimiser after every epoch, as arrays: a run resumes bit for bit, on any backend."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np

from ec2t_tf import files
from ec2t_tf.callbacks import OfEpochs

KEPT = 2  # the latest: one may be damaged


class Checkpoints(OfEpochs):
    """`folder`/ckpt-N.npz after epoch N, with all state of the model and of its optimiser.

    Args:
      folder: created if missing.
      model: of either Keras, compiled, its optimiser built.
    """

    def __init__(self, folder: Path, model: Any) -> None:
        super().__init__()
        self.folder = folder
        # Seeds of random layers are state of a Keras 3 model, too.
        self._variables = [*model.variables, *model.optimizer.variables]

    def restore(self) -> int:
        """Load the latest checkpoint that is whole, if there is one: number of epochs done.

        Raises:
          ValueError: there are checkpoints, and none can be read.
        """
        reasons = []
        for epoch, path in self._found():
            try:
                arrays = self._read(path)
            except (OSError, ValueError) as error:
                reason = f"'{path}' cannot be read ({str(error).splitlines()[0]})"
                print(f"{reason}; trying the checkpoint before it")
                reasons.append(reason)
                continue
            for variable, array in zip(self._variables, arrays, strict=True):
                variable.assign(array)
            return epoch
        if not reasons and any(self.folder.glob("ckpt-*.index")):
            reasons = [f"'{self.folder}' has those of an earlier version"]
        if reasons:
            raise ValueError(
                f"A whole checkpoint is required. Received: {'; '.join(reasons)}. Delete the "
                "folder to start this phase anew."
            )
        return 0

    def _found(self) -> list[tuple[int, Path]]:
        """The checkpoints that lie in the folder, the latest first."""
        numbered = [
            (int(path.stem.removeprefix("ckpt-")), path)
            for path in self.folder.glob("ckpt-*.npz")
            if path.stem.removeprefix("ckpt-").isdecimal()
        ]
        return sorted(numbered, reverse=True)

    def _read(self, path: Path) -> list[np.ndarray]:
        """The arrays of one checkpoint, in the order of the variables."""
        arrays = list(files.read_arrays(path).values())
        given = [(array.shape, array.dtype.name) for array in arrays]
        wanted = [
            (tuple(v.shape), keras.backend.standardize_dtype(v.dtype)) for v in self._variables
        ]
        if given != wanted:
            raise ValueError("it is of another model or optimiser")
        return arrays

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        arrays = [_array(variable) for variable in self._variables]
        with files.replacing(self.folder / f"ckpt-{epoch + 1}.npz") as fresh:
            np.savez(fresh, *arrays)
        for _, path in self._found()[KEPT:]:
            path.unlink()


def _array(variable: Any) -> np.ndarray:
    if isinstance(variable, keras.Variable):
        return keras.ops.convert_to_numpy(variable)
    return variable.numpy()  # of tf_keras, perhaps one on several devices
