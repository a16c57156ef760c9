"""Time and memory of `apply` on ResNet50 against tfmot's own `quantize_model`.

Each contender runs in processes of its own, in turns, so that neither finds the other's traces and
peak memory is its own. The model is made in Keras 3 for ours, as users have it, and with the same
graph in tf_keras for tfmot, which takes nothing else; making it is not counted, but rebuilding the
Keras 3 model in tf_keras is.
"""

from __future__ import annotations

import contextlib
import io
import json
import resource
import statistics
import subprocess
import sys
import time

from absl import app, flags

FLAGS = flags.FLAGS
flags.DEFINE_integer("turns", 3, "processes of each contender", lower_bound=1)
flags.DEFINE_enum("contender", None, ["tfmot", "ours", "ours, tf_keras"], "run this one, once")
NAMES = {
    "tfmot": "tfmot quantize_model, tf_keras",
    "ours": "ec2t_tf.apply, Keras 3",
    "ours, tf_keras": "ec2t_tf.apply, tf_keras",
}


def measure(contender: str) -> dict[str, float]:
    import keras
    import tensorflow_model_optimization as tfmot
    import tf_keras

    import ec2t_tf

    library = keras if contender == "ours" else tf_keras
    model = library.applications.ResNet50(weights=None)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    wall, cpu = time.perf_counter(), time.process_time()
    with contextlib.redirect_stdout(io.StringIO()):
        if contender == "tfmot":
            tfmot.quantization.keras.quantize_model(model)
        else:
            ec2t_tf.apply(model)
    return {
        "seconds": time.perf_counter() - wall,
        "CPU seconds": time.process_time() - cpu,
        "peak MiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "MiB before": before / 1024,
    }


def main(_: list[str]) -> None:
    if FLAGS.contender:
        print(json.dumps(measure(FLAGS.contender)))
        return
    found: dict[str, list[dict[str, float]]] = {name: [] for name in NAMES}
    for _turn in range(FLAGS.turns):
        for name in NAMES:
            command = [sys.executable, "-m", "tests.bench.apply_resnet50", f"--contender={name}"]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            found[name].append(json.loads(done.stdout.splitlines()[-1]))
    print(f"\napply, ResNet50 at 224 x 224, median of {FLAGS.turns} processes")
    median = {
        name: {key: statistics.median(row[key] for row in rows) for key in rows[0]}
        for name, rows in found.items()
    }
    for name, row in median.items():
        print(
            f"  {NAMES[name]:<32}{row['seconds']:7.1f} s{row['CPU seconds']:8.1f} s of CPU"
            f"{row['peak MiB']:8.0f} MiB at most ({row['MiB before']:.0f} before)"
        )
    for name in ("ours", "ours, tf_keras"):
        ratio = median[name]["CPU seconds"] / median["tfmot"]["CPU seconds"]
        print(f"  ratio of CPU time, {NAMES[name]:<24}{ratio:6.2f}")


if __name__ == "__main__":
    app.run(main)
