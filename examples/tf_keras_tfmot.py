"""tf_keras with tfmot: `apply` gives a tf_keras model that holds tfmot's wrappers."""

import numpy as np
import tf_keras
from sklearn.datasets import load_digits

import ec2t_tf
from ec2t_tf import export

layers = tf_keras.layers
digits = load_digits()
images = (digits.images[..., None] / 16).astype(np.float32)
train, test = slice(0, 1500), slice(1500, None)
net = tf_keras.Sequential(
    [
        layers.Conv2D(16, 3, activation="relu", input_shape=(8, 8, 1)),
        layers.Conv2D(32, 3, activation="relu"),
        layers.Flatten(),
        layers.Dense(32, activation="relu"),
        layers.Dense(10),
    ]
)


def fit(model: tf_keras.Model, epochs: int) -> None:
    loss = tf_keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(tf_keras.optimizers.Adam(2e-3), loss, metrics=["accuracy"])
    model.fit(images[train], digits.target[train], epochs=epochs, verbose=0)
    print(f"accuracy {model.evaluate(images[test], digits.target[test], verbose=0)[1]:.4f}")


fit(net, epochs=15)
ternary = ec2t_tf.apply(net, ec2t_tf.methods.EC2T(target_sparsity=0.8))
fit(ternary, epochs=15)
export.to_tflite(ternary, "model.tflite")
print(export.verify(ternary, "model.tflite", images[test]))
