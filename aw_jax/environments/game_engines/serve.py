"""The process inside the sandbox that plays games; started by game_host.py.

A request's operation is a method of the engine. Several games run side by side, each under the name
of its session.
"""

import json
import sys

from aw_jax.environments import answering


def make_engine(name):
  """The engine of a name: 'textworld', 'express' or 'scienceworld'."""
  if name == 'textworld':
    from aw_jax.environments.game_engines import inform
    return inform.TextWorld()
  from aw_jax.environments.game_engines import java
  return {'express': java.Express, 'scienceworld': java.ScienceWorld}[name]()


def main():
  """Serves requests until stdin closes."""
  settings = json.loads(sys.argv[1])
  answering.confine(settings['limits'], settings['uid'])
  answering.serve(lambda: make_engine(settings['engine']))


if __name__ == '__main__':
  main()
