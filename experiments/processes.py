"""Flags of commands that may run as several processes, one a host, which train one model together.

    python -m experiments.train … --coordinator=10.0.0.1:8476 --num_processes=2 --process_id=0
    python -m experiments.train … --coordinator=auto    # where the cluster knows: TPU pod, Slurm
"""

import jax
from absl import flags

from aw_jax.training.runner import StageConfigError

_COORDINATOR = flags.DEFINE_string(
    'coordinator', None, "HOST:PORT of process 0, where several processes train together; 'auto' "
    'on a TPU pod, GKE or Slurm.')
_NUM_PROCESSES = flags.DEFINE_integer(
    'num_processes', None, 'How many processes train together; known to the cluster under auto.')
_PROCESS_ID = flags.DEFINE_integer(
    'process_id', None, 'Which of them this one is, from 0; known to the cluster under auto.')


def initialize() -> None:
  """Meets the other processes, where the flags say that there are any.

  Raises StageConfigError where the flags do not belong together, or nobody is met.
  """
  coordinator, count, index = _COORDINATOR.value, _NUM_PROCESSES.value, _PROCESS_ID.value
  if coordinator is None:
    if count is not None or index is not None:
      raise StageConfigError(
          '--num_processes and --process_id need --coordinator=HOST:PORT of process 0')
    return
  if coordinator != 'auto' and (count is None or index is None or not 0 <= index < count):
    raise StageConfigError(
        f'--coordinator={coordinator} needs --num_processes and a --process_id below it, from 0')
  jax.config.update('jax_cpu_collectives_implementation', 'gloo')
  try:
    jax.distributed.initialize(None if coordinator == 'auto' else coordinator, count, index)
  except (RuntimeError, ValueError) as error:
    raise StageConfigError(
        f'--coordinator={coordinator}: {" ".join(str(error).split())[:300]}') from error
