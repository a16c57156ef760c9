"""The door of tf_keras and tfmot: the only room that imports them."""
