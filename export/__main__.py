"""Command line of the exporter.

python -m ec2t_tf.export [convert] --model=... --output=...
python -m ec2t_tf.export {report, sizes, verify, rewrite, unpack, benchmark} --help
"""

from __future__ import annotations

import os
import sys

from absl import app, flags

from ec2t_tf.export import commands
from ec2t_tf.export.c import CORES, OPTIMIZE
from ec2t_tf.export.file_formats import FORMATS

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

FLAGS = flags.FLAGS
RUN_BY_LITERT = tuple(form.name for form in FORMATS.values() if "LiteRT" in form.runtimes)
flags.DEFINE_string("model", None, "model saved by model.save (.keras, .h5 or SavedModel folder)")
flags.DEFINE_string("output", None, ".tflite file, or folder of C, to write")
flags.DEFINE_enum(
    "format",
    "int8",
    [*FORMATS, "c"],
    "how weights are stored, see `help(ec2t_tf.export.to_tflite)`; c: a folder of C, see `to_c`",
)
flags.DEFINE_enum("core", "generic", list(CORES), "of --format=c: the microcontroller's core")
flags.DEFINE_enum(
    "optimize", "balanced", list(OPTIMIZE), "of --format=c: flash or instructions first"
)
flags.DEFINE_bool("example", False, "of --format=c: also a firmware that runs in QEMU")
flags.DEFINE_bool("measure", False, "of --format=c: run that firmware and count instructions")
flags.DEFINE_enum("io_dtype", "float32", ["float32", "int8"], "type of the file's input and output")
flags.DEFINE_bool("allow_float", False, "accept operators of layers that apply left float")
flags.DEFINE_bool("safe_mode", True, "refuse a model that runs code which its file brings")
flags.DEFINE_string(
    "verify", None, "optional .npy file, float32 (count, *input shape): compare Keras with the file"
)


def main(argv: list[str]) -> None:
    if len(argv) > 1:
        raise app.UsageError(f"No arguments but flags are taken. Received: {argv[1:]}.")
    import ec2t_tf
    from ec2t_tf import export

    try:
        model = ec2t_tf.load_model(FLAGS.model, safe_mode=FLAGS.safe_mode)
        if FLAGS.format == "c":
            if FLAGS.verify:
                raise ValueError("--verify runs a .tflite file. Received: --format=c.")
            names = ("core", "optimize", "example", "measure")
            options = {name: FLAGS[name].value for name in names}
            print(export.to_c(model, FLAGS.output, **options))
            return
        export.to_tflite(
            model,
            FLAGS.output,
            format=FLAGS.format,
            io_dtype=FLAGS.io_dtype,
            allow_float=FLAGS.allow_float,
        )
        if FLAGS.format == "int8":
            print(export.report(FLAGS.output))
        else:
            print(f"{FLAGS.output}: {os.path.getsize(FLAGS.output):,} bytes ({FLAGS.format})")
        if FLAGS.verify and FLAGS.format not in RUN_BY_LITERT:
            raise ValueError(
                f"--verify runs the file in the stock interpreter, which takes {RUN_BY_LITERT}. "
                f"Received: --format={FLAGS.format}."
            )
        if FLAGS.verify:
            data = commands.read_data(FLAGS.verify)
            print(export.verify(model, FLAGS.output, data))
    except (ValueError, OSError, export.ConversionError) as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    if sys.argv[1:2] and sys.argv[1] in commands.NAMES:
        sys.exit(commands.main(sys.argv[1:]))
    if sys.argv[1:2] == ["convert"]:
        del sys.argv[1]
    flags.mark_flags_as_required(["model", "output"])
    app.run(main)
