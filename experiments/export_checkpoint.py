"""Writes a checkpoint's parameters, model config and vocabulary as three small files.

    python -m experiments.export_checkpoint --checkpoint=/tmp/run/cpt --out=checkpoints/base
"""

from absl import flags

from aw_jax.training.checkpoints import export_params
from experiments import commands

_CHECKPOINT = flags.DEFINE_string(
    'checkpoint', None, 'Folder of a stage, such as {workdir}/cpt.', required=True)
_OUT = flags.DEFINE_string('out', None, 'Folder for the export.', required=True)


def main():
  export_params(_CHECKPOINT.value, _OUT.value)
  print(f'{_OUT.value}: written; start from it with --config.init={_OUT.value}')


if __name__ == '__main__':
  commands.run(main, 'export_checkpoint')
