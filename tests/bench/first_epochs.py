"""Validation accuracy in the first ternary epochs, of this checkout and of an earlier one.

    git worktree add ../v0.1.0 9670350
    python -m tests.bench.first_epochs --baseline=../v0.1.0 --data_dir=../shared/tfds

One float ResNet-8 is trained on a part of fashion_mnist with Keras' own momentum of batch
normalisations (0.99), and saved. Each contender, a process of its own, goes on from that file with
its default method, the same optimiser (Adam, its rate falling to 0 as a cosine, for the float net
from 0.001 on), batches and number of epochs. A float net that is in `--work_dir` already is used
again; each contender leaves its accuracies there after every epoch. `--seeds` does all of it once
for each, in a folder of its own.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from absl import app, flags

FLAGS = flags.FLAGS
flags.DEFINE_string("baseline", None, "folder of the earlier checkout; none: only this one")
flags.DEFINE_string("data_dir", None, "TFDS folder with fashion_mnist", required=True)
flags.DEFINE_string("work_dir", None, "where the float net and the accuracies are kept")
flags.DEFINE_multi_integer("seeds", [1], "of the float net's weights and the order of the images")
flags.DEFINE_integer("images", 12000, "images to train on", lower_bound=1)
flags.DEFINE_integer("validation", 10000, "images to validate on", lower_bound=1)
flags.DEFINE_integer("float_epochs", 20, "epochs of the float net", lower_bound=1)
flags.DEFINE_integer("epochs", 8, "ternary epochs", lower_bound=2)
flags.DEFINE_integer("batch_size", 128, "images a step", lower_bound=1)
flags.DEFINE_float("learning_rate", 1e-3, "first rate of the ternary epochs")
flags.DEFINE_float("momentum", 0.99, "of the batch normalisations")

# Writes the validation accuracies of its epochs; "apply" is "no" for the float net.
WORKER = """
import json, pathlib, sys
root, library, apply, net, data, epochs, batch, rate, result, seed = sys.argv[1:]
sys.path.insert(0, root)
import numpy as np
if library == "keras":
    import keras
else:
    import tf_keras as keras
keras.utils.set_random_seed(int(seed))
arrays = dict(np.load(data))
model = keras.models.load_model(net, compile=False)
if apply == "yes":
    import ec2t_tf
    model = ec2t_tf.apply(model)
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
steps = int(epochs) * -(-len(arrays["x"]) // int(batch))
rate = keras.optimizers.schedules.CosineDecay(float(rate), steps)
model.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"])
found = []
def epoch_ended(epoch, logs):
    found.append([float(logs["accuracy"]), float(logs["val_accuracy"])])
    pathlib.Path(result).write_text(json.dumps(found))
model.fit(
    arrays["x"], arrays["y"], epochs=int(epochs), batch_size=int(batch), verbose=2,
    validation_data=(arrays["val_x"], arrays["val_y"]), validation_batch_size=500,
    callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=epoch_ended)],
)
if apply == "no":
    model.save(net)
"""


def images() -> dict[str, np.ndarray]:
    """The first of the training set to train on, its last to validate on; values from 0 to 1."""
    import tensorflow_datasets as tfds

    x, y = tfds.as_numpy(
        tfds.load(
            "fashion_mnist",
            split="train",
            data_dir=FLAGS.data_dir,
            download=False,
            batch_size=-1,
            as_supervised=True,
        )
    )
    x = x.astype(np.float32) / 255
    first, last = slice(FLAGS.images), slice(-FLAGS.validation, None)
    return {"x": x[first], "y": y[first], "val_x": x[last], "val_y": y[last]}


def trained(
    root: Path, library: str, folder: Path, seed: int, *, apply: bool, name: str
) -> list[list[float]]:
    """(training, validation) accuracy of each epoch."""
    result = folder / f"{name}.json"
    net = folder / ("net.keras" if library == "keras" else "net_tf_keras.keras")
    epochs = FLAGS.epochs if apply else FLAGS.float_epochs
    data = folder.parent / "data.npz"
    options = [str(root), library, "yes" if apply else "no", str(net), str(data)]
    rate = FLAGS.learning_rate if apply else 1e-3
    options += [str(epochs), str(FLAGS.batch_size), str(rate), str(result), str(seed)]
    subprocess.run([sys.executable, "-c", WORKER, *options], check=True)
    return json.loads(result.read_text())


def contenders(folder: Path, seed: int) -> dict[str, list[list[float]]]:
    """By name, the accuracies of the float net and of those that go on from it."""
    import keras

    from ec2t_tf.tfmot import to_tf_keras
    from ec2t_tf.train import zoo

    here = Path(__file__).parents[2]
    folder.mkdir(exist_ok=True)
    if not (folder / "float.json").exists():
        keras.utils.set_random_seed(seed)
        net = zoo.build("resnet8", input_shape=(28, 28, 1), classes=10)
        for layer in net.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.momentum = FLAGS.momentum
        net.save(folder / "net.keras")
        trained(here, "keras", folder, seed, apply=False, name="float")
    found = {"float": json.loads((folder / "float.json").read_text())}
    found["now"] = trained(here, "keras", folder, seed, apply=True, name="now")
    if FLAGS.baseline:
        net = keras.models.load_model(folder / "net.keras", compile=False)
        to_tf_keras(net).save(folder / "net_tf_keras.keras")
        root = Path(FLAGS.baseline).resolve()
        found["before"] = trained(root, "tf_keras", folder, seed, apply=True, name="before")
    return found


def main(_: list[str]) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(FLAGS.work_dir or scratch)
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "data.npz").exists():
            np.savez(folder / "data.npz", **images())
        found = {seed: contenders(folder / f"seed_{seed}", seed) for seed in FLAGS.seeds}
    print(f"\nresnet8, {FLAGS.images} images of fashion_mnist: validation accuracy by epoch, %")
    for seed, by_name in found.items():
        for name, epochs in by_name.items():
            accuracies = " ".join(f"{100 * validation:5.1f}" for _, validation in epochs)
            rise = 100 * (epochs[-1][1] - epochs[0][1])
            print(f"  seed {seed}  {name:<8}{accuracies}   first to last {rise:5.1f}")


if __name__ == "__main__":
    app.run(main)
