"""Anomalies: an autoencoder learns what is usual; its error tells what is not. C for a Cortex-M4.

python anomalies.py [unusual digit] [epochs]
"""

import sys

import keras
from sklearn.datasets import load_digits
from sklearn.metrics import roc_auc_score

import ec2t_tf
from ec2t_tf import export

unusual = int(sys.argv[1]) if len(sys.argv) > 1 else 0  # training never sees this one
epochs = int(sys.argv[2]) if len(sys.argv) > 2 else 60
keras.utils.set_random_seed(1)
values, digits = load_digits(return_X_y=True)  # 1,797 images of 8x8 values
values = (values / 16.0).astype("float32")
train, test = values[:1200][digits[:1200] != unusual], values[1200:]
is_unusual = digits[1200:] == unusual


def fit(model: keras.Model) -> None:
    model.compile(keras.optimizers.Adam(2e-3), "mse")
    model.fit(train, train, batch_size=64, epochs=epochs, verbose=0)


def auc(model: keras.Model) -> float:
    """The chance that an unusual digit has a greater error than a usual one: 0.5 is guessing."""
    error = ((model.predict(test, verbose=0) - test) ** 2).mean(axis=1)
    return float(roc_auc_score(is_unusual, error))


layers = [keras.Input((64,))]
for width in (64, 64, 8, 64, 64):
    layers += [keras.layers.Dense(width), keras.layers.BatchNormalization(momentum=0.9)]
    layers += [keras.layers.ReLU()]
net = keras.Sequential([*layers, keras.layers.Dense(64)])
fit(net)
ternary = ec2t_tf.apply(net, ec2t_tf.methods.EC2T(target_sparsity=0.8))
fit(ternary)
ec2t_tf.recalibrate(ternary, [(train, train)])
print(f"AUC of the float net {auc(net):.4f}")
print(f"AUC of the ternary net, in the integers of its file, {auc(ec2t_tf.exact(ternary)):.4f}")
export.to_tflite(ternary, "anomalies.tflite", io_dtype="int8")
print(export.to_c("anomalies.tflite", "anomalies_c", core="m4"))
