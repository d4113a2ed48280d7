"""Every arm of the recipe at the size of a smoke test: that each runs, nothing of what it is worth.

    python -m experiments.study --config=configs/studies/smoke.py --workdir=/tmp/recipe_smoke
"""

from configs import smoke
from configs.studies import recipe


def get_config():
  config = recipe.get_config()
  config.experiment = smoke.get_config()
  config.seeds = (0,)
  return config
