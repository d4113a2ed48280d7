"""The process inside the sandbox that has the desktop; started by desktop_host.py."""

import sys

from aw_jax.environments import answering
from aw_jax.environments.desktop_session import session


def main():
  """Serves requests until stdin closes."""
  home, size = sys.argv[1:]
  answering.serve(lambda: session.Session(home, size))


if __name__ == '__main__':
  main()
