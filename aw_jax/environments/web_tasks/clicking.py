"""Experts of MiniWoB++ pages that are solved by clicking."""

from collections.abc import Iterator

from aw_jax.environments.web_tasks.page import Page


def click_test(page: Page) -> Iterator[str]:
  """The only button."""
  yield page.click('button')
