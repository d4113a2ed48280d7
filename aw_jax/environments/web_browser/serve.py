"""The process inside the sandbox that drives the browser; started by web_host.py.

It answers requests (answering.py); an operation is a method of `browser.Browser`.
"""

import json
import sys

from aw_jax.environments import answering
from aw_jax.environments.web_browser import browser


def main():
  """Serves requests until stdin closes."""
  settings = json.loads(sys.argv[1])
  answering.serve(lambda: browser.Browser(settings['program'], settings['roots']))


if __name__ == '__main__':
  main()
