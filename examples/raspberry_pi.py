"""A packed file on a Raspberry Pi, or any Linux. Needs the plain package only, and a C compiler."""

import time

import numpy as np

from ec2t_tf.export import Interpreter
from ec2t_tf.train import trained

NET = "hand_signs_mobilenet_80"  # or the path of a file of your own
inputs, labels, _ = trained.examples(NET)  # float32 (8, 64, 64, 3), normalised; int64 (8,)
names = trained.card(NET).labels

interpreter = Interpreter(str(trained.path(NET)), num_threads=2)
interpreter.allocate_tensors()
into = interpreter.get_input_details()[0]["index"]
out = interpreter.get_output_details()[0]["index"]
for image, label in zip(inputs, labels, strict=True):
    start = time.perf_counter()
    interpreter.set_tensor(into, image[None])
    interpreter.invoke()
    best = int(np.argmax(interpreter.get_tensor(out)[0]))
    took = time.perf_counter() - start
    print(f"{names[label]}: {names[best]}, {1000 * took:.2f} ms")
