"""Keras 3: a float net, a ternary one at 80 % zeros, its files. Under half a minute on a laptop."""

import keras
import numpy as np
from sklearn.datasets import load_digits

import ec2t_tf
from ec2t_tf import export

keras.utils.set_random_seed(1)
digits = load_digits()
images = (digits.images[..., None] / 16).astype(np.float32)
train, test = slice(0, 1500), slice(1500, None)
net = keras.Sequential([keras.Input((8, 8, 1))])
for filters in (16, 32, 32):
    net.add(keras.layers.Conv2D(filters, 3, padding="same", use_bias=False))
    net.add(keras.layers.BatchNormalization(momentum=0.9))
    net.add(keras.layers.ReLU())
net.add(keras.layers.GlobalAveragePooling2D())
net.add(keras.layers.Dense(10))


def fit(model: keras.Model, epochs: int) -> None:
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    rate = keras.optimizers.schedules.CosineDecay(5e-3, 47 * epochs)
    model.compile(keras.optimizers.Adam(rate), loss, metrics=["accuracy"])
    model.fit(images[train], digits.target[train], epochs=epochs, verbose=0)
    print(f"accuracy {model.evaluate(images[test], digits.target[test], verbose=0)[1]:.4f}")


fit(net, epochs=15)
ternary = ec2t_tf.apply(net, ec2t_tf.methods.EC2T(target_sparsity=0.8))
fit(ternary, epochs=15)
export.to_tflite(ternary, "model.tflite")
print(export.verify(ternary, "model.tflite", images[test]))
print(export.rewrite("model.tflite", format="packed", output="packed.tflite"))
