"""The process inside the sandbox that drives the browser; started by web_host.py.

It answers requests (answering.py); an operation is a method of `browser.Browser`.
"""

import json
import sys

from aw_jax.environments import answering


def main():
  """Serves requests until stdin closes."""
  settings = json.loads(sys.argv[1])
  answering.confine(settings['limits'], settings['uid'])

  def make():
    from aw_jax.environments.web_browser import browser  # as the user that it drops to
    return browser.Browser(settings['program'], settings['roots'])

  answering.serve(make)


if __name__ == '__main__':
  main()
