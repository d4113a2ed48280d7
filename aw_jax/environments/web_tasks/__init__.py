"""Web task families: pages of MiniWoB++ and local sites, whose experts read the tree alone.

The local sites, and some pages, are for test alone. Not here are pages that ask for what a tree
does not show (shapes, places on a canvas, drawing), or whose time is not that of the actions.
"""

import random
from typing import Any

from aw_jax.environments import web_sites
from aw_jax.environments.registry import Family, Recipe
from aw_jax.environments.web_tasks import clicking, entering, local, mail
from aw_jax.environments.web_tasks.actions import WebActions
from aw_jax.environments.web_tasks.plans import Expert, play
from aw_jax.trajectories import SUBMIT, Verifier

_SPARE_TURNS = 6  # beyond the expert's
_SEEDS = 1 << 30
_PAGES: tuple[tuple[Expert, str], ...] = (
    (clicking.click_test, 'click-test'),
    (clicking.named_button, 'click-test-2 click-test-transfer click-button'),
    (clicking.button_sequence, 'click-button-sequence'),
    (clicking.button_delay, 'button-delay'),
    (clicking.click_link, 'click-link'),
    (clicking.click_option, 'click-option'),
    (clicking.click_checkboxes,
     'click-checkboxes click-checkboxes-large click-checkboxes-transfer'),
    (clicking.choose_list, 'choose-list click-scroll-list'),
    (clicking.click_tab, 'click-tab'),
    (clicking.search_tabs, 'click-tab-2 click-tab-2-easy click-tab-2-medium'),
    (clicking.expand_section, 'click-collapsible'),
    (clicking.search_sections, 'click-collapsible-2'),
    (clicking.click_dialog, 'click-dialog click-dialog-2'),
    (clicking.click_menu, 'click-menu'),
    (clicking.click_widget, 'click-widget'),
    (clicking.click_shades, 'click-shades'),
    (clicking.navigate_tree, 'navigate-tree'),
    (clicking.focus_text, 'focus-text focus-text-2'),
    (clicking.odd_or_even, 'odd-or-even'),
    (clicking.order_food, 'order-food'),
    (clicking.guess_number, 'guess-number'),
    (clicking.generate_number, 'generate-number'),
    (clicking.find_greatest, 'find-greatest'),
    (clicking.drag_items, 'drag-items'),
    (clicking.drag_sort_numbers, 'drag-sort-numbers'),
    (clicking.social_media, 'social-media'),
    (clicking.social_media_posts, 'social-media-all social-media-some'),
    (clicking.phone_book, 'phone-book'),
    (entering.enter_text, 'enter-text enter-text-dynamic'),
    (entering.enter_text_case, 'enter-text-2'),
    (entering.enter_password, 'enter-password'),
    (entering.enter_date, 'enter-date'),
    (entering.enter_time, 'enter-time'),
    (entering.choose_date, 'choose-date choose-date-easy choose-date-medium'),
    (entering.login, 'login-user'),
    (entering.search_movies, 'multi-orderings'),
    (entering.read_table, 'read-table'),
    (entering.read_table_form, 'read-table-2'),
    (entering.find_word, 'find-word'),
    (entering.copy_paste, 'copy-paste copy-paste-2'),
    (entering.text_transform, 'text-transform'),
    (entering.scroll_text, 'scroll-text'),
    (entering.simple_arithmetic, 'simple-arithmetic'),
    (entering.simple_algebra, 'simple-algebra'),
    (entering.form_slider, 'form-sequence'),
    (entering.form_radio, 'form-sequence-2'),
    (entering.form_list, 'form-sequence-3'),
    (entering.use_slider, 'use-slider'),
    (entering.use_sliders, 'use-slider-2'),
    (entering.use_spinner, 'use-spinner'),
    (entering.use_autocomplete, 'use-autocomplete'),
    (entering.search_engine, 'search-engine'),
    (mail.email, 'email-inbox email-inbox-delete email-inbox-forward email-inbox-important '
                 'email-inbox-noscroll email-inbox-reply'),
)
_HELD_OUT: tuple[tuple[Expert, str], ...] = (
    (clicking.named_button, 'unicode-test'),
    (clicking.search_tabs, 'click-tab-2-hard'),
    (entering.login, 'login-user-popup'),
    (entering.search_movies, 'multi-layouts'),
    (mail.email, 'email-inbox-star-reply'),
)


def _recipe(
    found: dict[str, Any], setup: dict[str, Any], verifier: Verifier) -> Recipe:
  """A task of what `play` found of it."""
  return Recipe(
      instruction=f'{found["goal"]}\n\n{found["observation"]}', setup=setup,
      initial_state=found['state'], verifier=verifier, plan=(*found['plan'], SUBMIT),
      max_turns=len(found['plan']) + _SPARE_TURNS)


def _miniwob(expert: Expert, page: str, *, held_out: bool = False) -> Family:
  def make(seed: int, rng: random.Random) -> Recipe:
    del seed
    setup = {'site': 'miniwob', 'path': f'/miniwob/{page}.html', 'seed': rng.randrange(_SEEDS)}
    return _recipe(play(expert, setup), setup, Verifier('command', 'solved', 'verdict'))
  return Family(page.replace('-', '_'), make, held_out)


def _local(draw: local.Draw, expert: Expert) -> Family:
  def make(seed: int, rng: random.Random) -> Recipe:
    del seed
    errand = draw(rng)
    found = play(expert, errand.setup, errand.goal)
    return _recipe(found, errand.setup, Verifier('command', errand.expected, errand.command))
  site = web_sites.SITES['tiddlywiki' if draw.__name__.startswith('wiki') else 'todomvc']
  return Family(draw.__name__, make, held_out=True, requires=(site.path,))


ACTIONS = WebActions()
FAMILIES = (
    *(_miniwob(expert, page) for expert, pages in _PAGES for page in pages.split()),
    *(_miniwob(expert, page, held_out=True)
      for expert, pages in _HELD_OUT for page in pages.split()),
    *(_local(draw, expert) for draw, expert in local.ERRANDS),
)
