"""A program that uses everything that works without what trains; it runs in an empty folder."""

PROGRAM = """
from pathlib import Path
import ec2t_tf
from ec2t_tf import export
from ec2t_tf.export import file_formats
from ec2t_tf.export.verification import verify_files
from ec2t_tf.train import trained
packed = trained.path("watch_sensor_cnn_90")
Path("int8.tflite").write_bytes(file_formats.plain(packed.read_bytes()))
for name in ("sparse", "packed", "download", "tflm"):
    export.rewrite("int8.tflite", format=name, output=name)
assert export.report("packed").kernels
assert export.to_c("packed", "model_c", board="pico").fits
for place, result in verify_files("int8.tflite", ["packed", "sparse"]).items():
    assert result.passes(most_steps=0), result
    print(place)
try:
    interpreter = export.Interpreter("packed")
    interpreter.allocate_tensors()
    interpreter.invoke()
    print("Interpreter runs")
except FileNotFoundError as error:
    print(error)
print("file side done", ec2t_tf.__version__)
"""
