"""What the commands share: one clear sentence for an expected error, and nothing in argv."""

import contextlib
from collections.abc import Iterator, Sequence

from absl import app

EXPECTED = (ValueError, RuntimeError, OSError)


def no_arguments(argv: Sequence[str]) -> None:
  """Refuses positional arguments. Raises app.UsageError."""
  if len(argv) > 1:
    raise app.UsageError(f'unknown argument {argv[1]!r}; flags begin with --')


@contextlib.contextmanager
def clear_errors(command: str) -> Iterator[None]:
  """Ends the program with one sentence where the library raised one of its own errors.

  The library's errors say what is wrong and what to do; a traceback would hide that. Errors that
  are not the library's own pass through whole.
  """
  try:
    yield
  except EXPECTED as error:
    if type(error).__module__.startswith(('aw_jax', 'data_pipelines', 'experiments')):
      raise SystemExit(f'{command}: {error}') from error
    raise
