"""Time of a training step of `apply` against tfmot's own `quantize_model`, in one run.

The two are timed in turns of a few steps each, so that whatever else the machine does hits both.
"""

from __future__ import annotations

import statistics
import time

import numpy as np
import tensorflow_model_optimization as tfmot
import tf_keras
from absl import app, flags

import ec2t_tf
from ec2t_tf.tfmot import to_tf_keras
from ec2t_tf.train import zoo

FLAGS = flags.FLAGS
flags.DEFINE_integer("turns", 30, "turns of each model", lower_bound=3)
flags.DEFINE_integer("steps", 4, "steps in a turn", lower_bound=1)
flags.DEFINE_integer("batch_size", 128, "images a step", lower_bound=1)
flags.DEFINE_enum("model", "resnet8", sorted(zoo.MODELS), "network")


def main(_: list[str]) -> None:
    shape = (32, 32, 3)
    rng = np.random.default_rng(0)
    images = rng.normal(size=(FLAGS.batch_size, *shape)).astype(np.float32)
    labels = rng.integers(0, 10, FLAGS.batch_size)
    net = to_tf_keras(zoo.build(FLAGS.model, input_shape=shape, classes=10))
    contenders = {
        "tfmot quantize_model": tfmot.quantization.keras.quantize_model(net),
        "ec2t_tf.apply": ec2t_tf.apply(net),
    }
    for model in contenders.values():
        loss = tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile(tf_keras.optimizers.Adam(1e-3), loss)
        for _ in range(2):
            model.train_on_batch(images, labels)
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(FLAGS.turns):
        order = list(contenders.items())
        for name, model in order if turn % 2 else reversed(order):
            start = time.perf_counter()
            for _ in range(FLAGS.steps):
                model.train_on_batch(images, labels)
            seconds[name].append((time.perf_counter() - start) / FLAGS.steps)
    peer, ours = (seconds[name] for name in contenders)
    ratios = [b / a for a, b in zip(peer, ours, strict=True)]
    print(
        f"\ntraining step, {FLAGS.model}, batch {FLAGS.batch_size}, median of {FLAGS.turns} turns"
    )
    for name, times in seconds.items():
        print(f"  {name:<22}{1e3 * statistics.median(times):8.1f} ms")
    print(f"  ratio (median over turns) {statistics.median(ratios):.3f}")


if __name__ == "__main__":
    app.run(main)
