"""What is particular to each site: what of it is seen, how it begins, how success is asked for."""

import dataclasses
import json
from collections.abc import Callable, Mapping

# Chance is drawn from a seed; a MiniWoB page begins its one episode as soon as it is loaded.
_CHANCE = """
(() => {
  let state = SEED >>> 0;
  Math.random = () => {  // mulberry32
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
})();
"""
_EPISODE = """
window.addEventListener('load', () => setTimeout(() => {
  if (typeof core === 'undefined' || !document.getElementById('query')) return;
  core.EPISODE_MAX_TIME = 1e9;
  Math.seedrandom('SEED');
  core.startEpisodeReal();
}, 0));
"""
_STORED = """
(() => {
  if (location.protocol !== 'http:' || sessionStorage.getItem('begun')) return;
  sessionStorage.setItem('begun', 'yes');
  for (const [key, value] of Object.entries(STORED)) localStorage.setItem(key, value);
})();
"""
_SOLVED = "() => WOB_DONE_GLOBAL && WOB_RAW_REWARD_GLOBAL === 1 ? 'solved' : 'not solved'"

# A line for each todo, in either application's storage.
_TODOS = """() => {
  const read = name => JSON.parse(localStorage.getItem(name) || '[]');
  const todos = [...(read('todos-vanillajs').todos || []), ...read('todos-vuejs')];
  return todos.map(todo => `${todo.completed ? '[x]' : '[ ]'} ${todo.title}`).join('\\n');
}"""
# A line for each tiddler that was written; what is still being edited is none.
_TIDDLERS = """() => $tw.wiki.filterTiddlers('[!is[system]!has[draft.of]sort[title]]')
  .map(title => `${title}: ${$tw.wiki.getTiddlerText(title)}`).join('\\n')"""


@dataclasses.dataclass(frozen=True)
class World:
  """A site.

  Attributes:
    host: its name.
    prepare: (seed, what is stored) -> the script that runs before each of its documents' own.
    leave: a selector of what is never shown, '' for nothing.
    goal: JavaScript of a function whose value says what the page asks for.
    ended: JavaScript of an expression: whether the page takes no more actions.
    checks: hidden command -> JavaScript of a function whose value is the answer.
  """

  host: str
  prepare: Callable[[int, Mapping[str, str]], str]
  leave: str = ''
  goal: str = "() => ''"
  ended: str = 'false'
  checks: Mapping[str, str] = dataclasses.field(default_factory=dict)


def _miniwob(seed, stored):
  return (_CHANCE + _EPISODE).replace('SEED', str(seed))


def _wiki(seed, stored):
  tiddlers = [{'title': title, 'text': text} for title, text in stored.items()]
  return _CHANCE.replace('SEED', str(seed)) + (
      f'window.$tw = Object.assign(Object.create(null), '
      f'{{preloadTiddlers: {json.dumps(tiddlers)}}});')


def _stored(seed, stored):
  return _CHANCE.replace('SEED', str(seed)) + _STORED.replace('STORED', json.dumps(stored))


WORLDS = {
    'miniwob': World(
        'miniwob.test', _miniwob,
        leave='#query, #reward-display, #sync-task-cover, #click-canvas, #attention-canvas',
        goal='() => core.getUtterance()',
        ended="typeof WOB_DONE_GLOBAL !== 'undefined' && WOB_DONE_GLOBAL",
        checks={'verdict': _SOLVED}),
    'todomvc': World('todomvc.test', _stored, checks={'todos': _TODOS}),
    'tiddlywiki': World('tiddlywiki.test', _wiki, checks={'tiddlers': _TIDDLERS}),
}
