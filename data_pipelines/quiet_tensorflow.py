"""Imports TensorFlow without its start-up notes and without a GPU, which belongs to JAX.

Import this module before anything that imports TensorFlow.
"""

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator


@contextlib.contextmanager
def held_back_stderr() -> Iterator[None]:
  """Holds back what native code writes to stderr; shows it where the block fails."""
  sys.stderr.flush()
  with tempfile.TemporaryFile() as notes, os.fdopen(os.dup(2), 'wb') as stderr:
    os.dup2(notes.fileno(), 2)
    try:
      yield
    except BaseException:
      notes.seek(0)
      stderr.write(notes.read())
      raise
    finally:
      sys.stderr.flush()
      os.dup2(stderr.fileno(), 2)


os.environ.setdefault('TF_CPP_MIN_LOG_LEVEL', '2')
with held_back_stderr():
  import tensorflow as tf

  with contextlib.suppress(RuntimeError):  # somebody has used TensorFlow already
    tf.config.set_visible_devices([], 'GPU')
  tf.constant(0)  # starts the runtime, with more notes
