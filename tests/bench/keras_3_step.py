"""Time and memory of a training step in Keras 3 against an earlier checkout's step, in one run.

    git worktree add ../v0.1.0 9670350
    python -m tests.bench.keras_3_step --baseline=../v0.1.0

Each contender is a process of its own with the same net and batch; they are timed in turns of a few
steps each, so that whatever else the machine does hits all of them. Memory is that of the process:
its peak (`ru_maxrss`) after the last turn, and by how much the steps raised it, the graph that
TensorFlow traces in the first one included. Both grow with the threads; compare on one machine.
Every `--net` is measured at every `--batch_size`.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from absl import app, flags

FLAGS = flags.FLAGS
flags.DEFINE_string("baseline", None, "folder of the earlier checkout", required=True)
flags.DEFINE_multi_string("backend", ["tensorflow"], "backends of Keras 3 to time")
flags.DEFINE_integer("turns", 10, "turns of each contender", lower_bound=3)
flags.DEFINE_integer("steps", 3, "steps in a turn", lower_bound=1)
flags.DEFINE_multi_integer("batch_size", [128], "images a step", lower_bound=1)
flags.DEFINE_multi_enum(
    "net", ["resnet8"], ["resnet8", "resnet18", "mobilenet", "ds_cnn"], "of the zoo"
)

SHAPES = {
    "resnet8": ((32, 32, 3), 10),
    "resnet18": ((64, 64, 3), 100),
    "mobilenet": ((96, 96, 3), 10),
    "ds_cnn": ((49, 10, 1), 12),
}

# Answers each line of its input with the seconds of a step; at the end, with its peak memory and by
# how much the steps have raised it, MiB.
WORKER = """
import json, resource, sys, time
root, path, library, batch, steps = sys.argv[1:]
sys.path.insert(0, root)
import numpy as np
if library == "keras":
    import keras
else:
    import tf_keras as keras
import ec2t_tf
net = keras.models.load_model(path, compile=False)
model = ec2t_tf.apply(net) if library == "tf_keras" else ec2t_tf.apply(net, verbose=0)
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
before = peak()
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
model.compile(keras.optimizers.Adam(1e-3), loss)
rng = np.random.default_rng(0)
images = rng.normal(size=(int(batch), *model.input_shape[1:])).astype("float32")
labels = rng.integers(0, model.output_shape[-1], int(batch))
for _ in range(2):
    model.train_on_batch(images, labels)
print("ready", flush=True)
for _ in sys.stdin:
    start = time.perf_counter()
    for _ in range(int(steps)):
        model.train_on_batch(images, labels)
    print(json.dumps((time.perf_counter() - start) / int(steps)), flush=True)
print(json.dumps([peak(), peak() - before]), flush=True)
"""


class Worker:
    """A contender in a process of its own."""

    def __init__(self, root: Path, path: Path, library: str, backend: str, batch: int) -> None:
        options = (str(root), str(path), library, str(batch), str(FLAGS.steps))
        self.process = subprocess.Popen(
            [sys.executable, "-c", WORKER, *options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "KERAS_BACKEND": backend},
        )
        assert self.process.stdout is not None
        while self.process.stdout.readline().strip() != "ready":
            if self.process.poll() is not None:
                raise RuntimeError(f"The process of {library} on {backend} ended.")
        self.seconds: list[float] = []

    def turn(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        self.seconds.append(json.loads(self.process.stdout.readline()))

    def finish(self) -> tuple[float, float]:
        """Peak memory, and by how much the steps raised it; MiB."""
        output, _ = self.process.communicate()
        peak, raised = json.loads(output.splitlines()[-1])
        return peak, raised


def compare(name: str, batch: int) -> None:
    from ec2t_tf.tfmot import to_tf_keras
    from ec2t_tf.train import zoo

    here = Path(__file__).parents[2]
    shape, classes = SHAPES[name]
    with tempfile.TemporaryDirectory() as scratch:
        net = zoo.build(name, input_shape=shape, classes=classes)
        old, new = Path(scratch, "tf_keras.keras"), Path(scratch, "keras.keras")
        to_tf_keras(net).save(old)
        net.save(new)
        baseline = Worker(Path(FLAGS.baseline), old, "tf_keras", "tensorflow", batch)
        contenders = {"baseline": baseline}
        for backend in FLAGS.backend:
            contenders[f"Keras 3 on {backend}"] = Worker(here, new, "keras", backend, batch)
        for turn in range(FLAGS.turns):
            workers = list(contenders.values())
            for worker in workers if turn % 2 else reversed(workers):
                worker.turn()
    print(f"\ntraining step, {name}, batch {batch}, median of {FLAGS.turns} turns")
    for label, worker in contenders.items():
        pairs = zip(baseline.seconds, worker.seconds, strict=True)
        ratio = statistics.median(b / a for a, b in pairs)
        milliseconds = 1e3 * statistics.median(worker.seconds)
        peak, raised = worker.finish()
        print(
            f"  {label:<24}{milliseconds:8.1f} ms  ratio {ratio:.3f}  "
            f"peak {peak:7.0f} MiB, {raised:.0f} by the steps",
            flush=True,
        )


def main(_: list[str]) -> None:
    for name in FLAGS.net:
        for batch in FLAGS.batch_size:
            compare(name, batch)


if __name__ == "__main__":
    app.run(main)
