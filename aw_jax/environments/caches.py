"""Where environments keep what is made or fetched once."""

import os


def folder(name: str) -> str:
  """The directory `name` below AW_JAX_CACHE, by default ~/.cache/aw_jax; it need not exist yet."""
  top = os.environ.get('AW_JAX_CACHE')
  if not top:
    base = os.environ.get('XDG_CACHE_HOME') or os.path.join(os.path.expanduser('~'), '.cache')
    top = os.path.join(base, 'aw_jax')
  return os.path.join(top, name)
