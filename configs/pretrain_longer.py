"""The second half of the base checkpoint's recipe: on from the first, with smaller batches.

    python -m experiments.train --config=configs/pretrain.py --workdir=/tmp/base
    python -m experiments.train --config=configs/pretrain_longer.py --config.init=/tmp/base/cpt \
        --workdir=/tmp/base_longer

The episodes are those of configs/pretrain.py. Observations with notes and the expert's actions
alone; the learning rate warms up again, to three quarters of the first peak. It was run twice, the
second time on new episodes: checkpoints/base/README.md.
"""

from configs import base, pretrain


def get_config():
  config = pretrain.get_config()
  config.init = '/tmp/base/cpt'
  config.cpt = base.stage(10000, 1.5e-2, rows={'reasoning': 2, 'agent': 1})
  config.cpt.optimizer.warmup_steps = 50
  return config
