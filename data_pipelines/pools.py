"""Which training stage a task belongs to (PAPER.md section 2: the pools are disjoint)."""

from aw_jax.trajectories import Task, Trajectory

STAGES = ('cpt', 'sft', 'rl', 'agent', 'reasoning')
POOLS = ('cpt', 'sft', 'rl')
ALL_POOLS = 'all'  # the pool of a validation task: every stage is validated on it
IMITATED_POLICY = 'noisy_expert'
_POOL_OF_TENS = ('cpt',) * 6 + ('sft',) * 2 + ('rl',) * 2


def stage_pool(task: Task) -> str:
  """The pool of a train task: the tens digit of its seed, 0-5 cpt, 6-7 sft, 8-9 rl."""
  return _POOL_OF_TENS[task.seed // 10 % 10]


def pool_of(task: Task) -> str:
  """`stage_pool` of a train task, ALL_POOLS of a validation task."""
  return stage_pool(task) if task.split == 'train' else ALL_POOLS


def pool_of_stage(stage: str) -> str:
  """The pool whose tasks `stage`, other than 'agent', trains on."""
  return 'cpt' if stage == 'reasoning' else stage


def is_in_stage(trajectory: Trajectory, stage: str) -> bool:
  """Whether `stage` trains on `trajectory`; an agent imitates over all pools.

  'reasoning', dialogues with a reasoning trace in every turn, is a part of CPT.
  """
  if stage == 'agent':
    return trajectory.policy == IMITATED_POLICY
  return pool_of(trajectory.task) in (pool_of_stage(stage), ALL_POOLS)
