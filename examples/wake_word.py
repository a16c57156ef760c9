"""A wake word, computed a frame at a time: C that takes the newest frame only (`stream=True`).

The word here is a tone that rises in noise, so that nothing needs to be downloaded; put 30 frames
of log-mel features of your own recordings in its place. Convolutions use padding="valid" in time:
only such a net can be computed step by step.

python wake_word.py [epochs]
"""

import sys

import keras
import numpy as np

import ec2t_tf
from ec2t_tf import export

FRAMES, BANDS = 30, 20
epochs = int(sys.argv[1]) if len(sys.argv) > 1 else 5
random = np.random.default_rng(1)
features = random.normal(size=(2000, FRAMES, BANDS)).astype(np.float32)
is_word = random.integers(0, 2, 2000)
band = np.arange(BANDS)
for clip in np.flatnonzero(is_word):
    features[clip, 5 + band, band] += 2  # a band higher with every frame

net = keras.Sequential([keras.Input((FRAMES, BANDS))])
for filters in (32, 32, 32):
    net.add(keras.layers.Conv1D(filters, 5, padding="valid", use_bias=False))
    net.add(keras.layers.BatchNormalization(momentum=0.9))
    net.add(keras.layers.ReLU())
net.add(keras.layers.GlobalAveragePooling1D())
net.add(keras.layers.Dense(2))


def fit(model: keras.Model) -> None:
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(2e-3), loss, metrics=["accuracy"])
    model.fit(features[:1600], is_word[:1600], epochs=epochs, verbose=0)
    print(f"accuracy {model.evaluate(features[1600:], is_word[1600:], verbose=0)[1]:.4f}")


fit(net)
ternary = ec2t_tf.apply(net, ec2t_tf.methods.EC2T(target_sparsity=0.7))
fit(ternary)
export.to_tflite(ternary, "wake_word.tflite", io_dtype="int8")
print(export.to_c("wake_word.tflite", "wake_word_c", core="m4", stream=True))
