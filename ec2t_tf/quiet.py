"""TensorFlow's and LiteRT's start-up lines, kept off the screen of the command line."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator

from ec2t_tf import lazy


def load_keras() -> str:
    """Imports Keras and its backend, if that is TensorFlow without its lines about oneDNN and CUDA.

    They ignore TF_CPP_MIN_LOG_LEVEL as long as it starts. Whoever sets that variable sees them; so
    does everyone when the import fails.

    Returns:
      The name of the backend.

    Raises:
      ImportError: Keras or its backend is missing; the message says how to get it.
    """
    heard = "TF_CPP_MIN_LOG_LEVEL" in os.environ or "tensorflow" in sys.modules
    if not heard:
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    with lazy.needed_by("a Keras model"), contextlib.nullcontext() if heard else silence():
        import keras

        backend = keras.backend.backend()
        if backend == "tensorflow" and not heard:
            import tensorflow as tf

            tf.config.list_physical_devices()
    return str(backend)


def starting() -> contextlib.AbstractContextManager[None]:
    """Around the start of an interpreter of LiteRT, which announces its delegates.

    Whoever sets TF_CPP_MIN_LOG_LEVEL to 0 sees them: they are of that level. Keras sets it to
    another.
    """
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL") == "0":
        return contextlib.nullcontext()
    return silence()


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """What is written to the screen's error stream inside is seen only if something is raised."""
    sys.stderr.flush()
    screen = os.dup(2)
    with tempfile.TemporaryFile() as log:
        os.dup2(log.fileno(), 2)
        try:
            yield
        except BaseException:
            log.seek(0)
            os.write(screen, log.read())
            raise
        finally:
            os.dup2(screen, 2)
            os.close(screen)
