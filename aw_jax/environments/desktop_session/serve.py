"""The process inside the sandbox that has the desktop; started by desktop_host.py."""

import json
import sys

from aw_jax.environments import answering
from aw_jax.environments.desktop_session import session


def main():
  """Serves requests until stdin closes."""
  settings = json.loads(sys.argv[1])
  answering.confine(settings['limits'], settings['uid'])
  answering.serve(lambda: session.Session(settings['home'], settings['size']))


if __name__ == '__main__':
  main()
