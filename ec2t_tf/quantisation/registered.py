"""Our classes in Keras' registry, so that `keras.saving.load_model` needs no scope."""

import keras

registered = keras.saving.register_keras_serializable(package="ec2t_tf")
