"""TensorFlow's start-up lines, kept off the screen of the command line."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import tempfile


def load_tensorflow() -> None:
    """Imports TensorFlow and lets it look for devices without its lines about oneDNN and CUDA.

    They ignore TF_CPP_MIN_LOG_LEVEL as long as it starts. Whoever sets that variable sees them; so
    does everyone when the import fails.
    """
    if "TF_CPP_MIN_LOG_LEVEL" in os.environ or "tensorflow" in sys.modules:
        return
    if importlib.util.find_spec("tensorflow") is None:  # Keras has another backend
        return
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    sys.stderr.flush()
    screen = os.dup(2)
    with tempfile.TemporaryFile() as log:
        os.dup2(log.fileno(), 2)
        try:
            importlib.import_module("tensorflow").config.list_physical_devices()
        except BaseException:
            log.seek(0)
            os.write(screen, log.read())
            raise
        finally:
            os.dup2(screen, 2)
            os.close(screen)
