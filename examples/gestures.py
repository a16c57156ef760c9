"""Gestures from a watch: data of the pip package seglearn, people kept apart; C for a Cortex-M4.

python gestures.py [epochs]
"""

import sys

import keras

import ec2t_tf
from ec2t_tf import export
from ec2t_tf.train.tasks.sensors import load_watch
from ec2t_tf.train.zoo.sensor_cnn import sensor_cnn

epochs = int(sys.argv[1]) if len(sys.argv) > 1 else 15
data = load_watch()  # windows of 2 s, 100 samples of 6 axes
windows, test = ((split.inputs - data.mean) / data.std for split in (data.train, data.test))


def fit(model: keras.Model) -> None:
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(2e-3), loss, metrics=["accuracy"])
    model.fit(windows, data.train.labels, batch_size=64, epochs=epochs, verbose=0)
    print(f"accuracy {model.evaluate(test, data.test.labels, verbose=0)[1]:.4f}")


net = sensor_cnn(classes=len(data.labels))
fit(net)
ternary = ec2t_tf.apply(net, ec2t_tf.methods.EC2T(target_sparsity=0.8))
fit(ternary)
export.to_tflite(ternary, "gestures.tflite", io_dtype="int8")
print(export.to_c("gestures.tflite", "gestures_c", core="m4"))
