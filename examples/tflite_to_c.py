"""An int8 .tflite file becomes C for a microcontroller. No TensorFlow, no Keras.

python tflite_to_c.py model.tflite model_c m4

Without arguments: the net for spoken digits that comes with the package. With arm-none-eabi-gcc and
qemu-system-arm installed the firmware is run and its instructions are counted.
"""

import shutil
import sys

from ec2t_tf import export
from ec2t_tf.train import trained

defaults = (str(trained.path("digits_ds_cnn_80")), "model_c", "m4")
file, folder, core = sys.argv[1:] or defaults
tools = ("arm-none-eabi-gcc", "qemu-system-arm")
measure = core.startswith("m") and all(shutil.which(tool) for tool in tools)
print(export.report(file))
print(export.to_c(file, folder, core=core, example=True, measure=measure))
print(f"Next: make -C {folder}/example run")
