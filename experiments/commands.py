"""What the commands share: one clear sentence for an expected error, CPU devices, huge pages."""

import contextlib
import errno
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence

import jax
from absl import app, logging

EXPECTED = (ValueError, RuntimeError, OSError)
DISK_ERRORS = (errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EDQUOT)


def run(main: Callable[[], None], command: str) -> None:
  """Parses the flags and runs `main`, each of the library's own errors as one sentence."""
  use_huge_pages()
  use_two_cpu_devices()

  def checked_main(argv: Sequence[str]) -> None:
    if len(argv) > 1:
      raise app.UsageError(f'unknown argument {argv[1]!r}; flags begin with --')
    quiet_logs()
    with clear_errors(command):
      main()

  app.run(checked_main, flags_parser=_parse)


def quiet_logs() -> None:
  """Warnings and errors alone; none of Orbax, which logs every error that it raises as well."""
  logging.set_verbosity(logging.WARNING)
  logging.get_absl_logger().addFilter(lambda record: 'orbax' not in record.pathname)


def use_huge_pages() -> None:
  """Starts this program again with huge pages for what malloc hands out, where Linux has them.

  XLA on a CPU allocates its temporaries anew at every step, hundreds of megabytes of them: with
  pages of 4 KiB a fifth to a third of a training step goes into page faults (experiments/results).
  glibc reads the setting once, when a program starts. A GLIBC_TUNABLES of the user's is left alone.
  """
  setting = '/sys/kernel/mm/transparent_hugepage/enabled'
  if 'GLIBC_TUNABLES' in os.environ or not os.path.exists(setting):
    return
  with open(setting, encoding='utf-8') as file:
    if '[madvise]' not in file.read():  # 'always' needs no help, 'never' allows none
      return
  os.environ['GLIBC_TUNABLES'] = 'glibc.malloc.hugetlb=1'
  os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def use_two_cpu_devices() -> None:
  """Makes two JAX devices of a CPU, where this process may use two cores or more.

  Small models decode over a third faster on two devices than on one that uses both cores: see
  `partitioning.by_rows`. Batches of an even number of rows can be split over two and not always
  over more. JAX_NUM_CPU_DEVICES, or JAX's own flag in XLA_FLAGS, says otherwise.
  """
  flag = 'xla_force_host_platform_device_count'
  if 'JAX_NUM_CPU_DEVICES' not in os.environ and flag not in os.environ.get('XLA_FLAGS', ''):
    jax.config.update('jax_num_cpu_devices', min(2, len(os.sched_getaffinity(0))))


def _parse(argv: Sequence[str]) -> list[str]:
  """absl's parser; a config file or key that does not exist is one sentence, not a traceback."""
  with config_errors():
    for argument in argv:  # ml_collections would print a traceback
      flag, _, path = argument.partition('=')
      if flag in ('--config', '-config') and path and not os.path.exists(path.partition(':')[0]):
        raise FileNotFoundError(f'no such file: {path}')
    return app.parse_flags_with_usage(list(argv))


@contextlib.contextmanager
def config_errors() -> Iterator[None]:
  """Ends the program with one sentence where a config file, a key or a value does not exist.

  The values of a config file with a default are read where its flag is defined, the others where
  the flags are parsed: both stand inside this.
  """
  try:
    yield
  except (AttributeError, KeyError, OSError, TypeError, ValueError) as error:
    reason = error
    while reason.args and isinstance(reason.args[0], Exception):  # ml_collections nests them
      reason = reason.args[0]
    message = str(reason) if isinstance(reason, OSError) else ' '.join(map(str, reason.args))
    raise SystemExit(_config_error(' '.join(message.split()) or repr(reason))) from error


def _config_error(message: str) -> str:
  """The sentence for a config that cannot be read: which flag, and what to do."""
  unknown = re.match(r"'(\w+)'", message)
  if not unknown:
    return f'--config: {message}'
  paths = [argument.partition('=')[0] for argument in sys.argv if argument.startswith('--config.')]
  flag = next((path for path in paths if unknown[1] in path.split('.')), '--config')
  hint = message[unknown.end():].strip()
  named = [argument.partition('=')[2] for argument in sys.argv if argument.startswith('--config=')]
  return f'{flag}: there is no {unknown[1]!r} there. {hint} {_values_in(named)} has all values.'


def _values_in(named: list[str]) -> str:
  """The file to look values up in: of most configs the one that they are made from."""
  own = [path for path in named if os.path.basename(path) == 'bench.py' or 'studies' in path]
  return own[0] if own else 'configs/base.py'


@contextlib.contextmanager
def clear_errors(command: str) -> Iterator[None]:
  """Ends the program with one sentence where the library raised one of its own errors.

  The library's errors say what is wrong and what to do; a traceback would hide that. So it would
  with a disk that is full or may not be written to. Other errors pass through whole.
  """
  try:
    yield
  except EXPECTED as error:
    if type(error).__module__.startswith(('aw_jax', 'data_pipelines', 'experiments')):
      raise SystemExit(f'{command}: {error}') from error
    if isinstance(error, OSError) and error.errno in DISK_ERRORS:
      raise SystemExit(f'{command}: {error.filename or "writing"}: {error.strerror}') from error
    raise
