"""Small random worlds: words, file names, files. Everything is drawn anew for each task."""

import random
from collections.abc import Sequence

from aw_jax.environments.registry import Recipe
from aw_jax.environments.terminal import initial_state
from aw_jax.trajectories import SUBMIT, Verifier


def _listed(words: str) -> tuple[str, ...]:
  return tuple(words.split())


WORDS = _listed("""
able acid actor air amber angle ankle apple april arch arm army arrow art ash atlas aunt autumn
badge bag baker ball band bank barn basin basket beach bead beam bean bear bed bee bell belt bench
berry bird black blade blue board boat bolt bone book boot bottle bowl box branch brass bread brick
bridge broom brown brush bucket bus butter cabin cable cake camel camp candle cane canoe card cargo
carpet castle cat cave cedar chain chair chalk cheese cherry chess circle city clay cliff clock
cloud coal coast coat coffee coin cold comet copper coral corn cotton crab crane cream crow crown
cup curve dance dawn deer desk dew dish dog doll door dove dragon drum duck dust eagle ear earth
east egg elm engine fan farm feather fence fern field fig finger fire fish flag flame flute fog
forest fork fox frog frost fruit garden gate ghost glass glove goat gold goose grain grape grass
green grey hammer hand harbor hat hawk hay hill honey hook horn horse hotel house ice ink iron
island ivory jacket jar jewel juice jungle kettle key king kite knife knot lace ladder lake lamp
lantern leaf lemon letter light lily lime linen lion lizard lock maple marble market mask meadow
melon metal milk mill mint mirror moon moss moth mouse mud music nail needle nest night north nut
oak oar ocean olive onion orange orchid otter oven owl paint palm panda paper park pear pearl pen
pepper piano pigeon pillow pine pipe plane planet plate plum pocket pond pony poppy port potato
queen quiet rabbit rain red reed ribbon rice ring river road robin rock roof room root rope rose
ruby sail salt sand scarf school sea seed shadow sheep shell ship shoe silk silver sky slow small
snail snow soap sock soft song south spade spoon spring square stable star steam stone storm straw
sugar summer sun swan table tall tent thread tiger tin toast tower town train tree tulip valley
velvet violet wagon wall water wave west wheat wheel white willow wind window winter wolf wood wool
yard yellow zebra
""")
STEMS = _listed("""
account archive author budget catalog chapter class client colors contact course data diary draft
event export fruits game guest history hosts idea index inbox input items journal lab lesson list
log maps members memo menu names news notes orders output page people plan points prices project
queue recipe record report result rooms sales scores stock summary survey tasks team test todo
travel trip users visits
""")
FOLDERS = _listed("""
backup box case docs files crate keep lib media old pack parts safe shelf src store temp web work
zone
""")
COLUMNS = ('price', 'count', 'age', 'score', 'size', 'year')


class World:
  """Files and directories of a task in the making; every draw is new to this world.

  Attributes:
    files: path -> text.
    modes: path -> octal, where unusual.
    dirs: empty directories.
  """

  def __init__(self, rng: random.Random):
    self.rng = rng
    self.files: dict[str, str] = {}
    self.modes: dict[str, str] = {}
    self.dirs: list[str] = []
    self._words = iter(rng.sample(WORDS, len(WORDS)))
    self._stems = iter(rng.sample(STEMS, len(STEMS)))
    self._folders = iter(rng.sample(FOLDERS, len(FOLDERS)))

  def word(self) -> str:
    """A word not used yet."""
    return next(self._words)

  def stem(self) -> str:
    """A file's name without its extension, not used yet."""
    return next(self._stems)

  def name(self, extension: str = 'txt') -> str:
    """A file name not used yet."""
    return f'{self.stem()}.{extension}'

  def folder(self) -> str:
    """A directory name not used yet."""
    return next(self._folders)

  def line(self, low: int = 1, high: int = 3) -> str:
    """A line of `low` to `high` new words."""
    return ' '.join(self.word() for _ in range(self.rng.randint(low, high)))

  def number(self, high: int = 99) -> int:
    """A number from 1 to `high`."""
    return self.rng.randint(1, high)

  def text(self, count: int = 0, where: str = '', extension: str = 'txt') -> str:
    """Adds a file of `count` (3 to 5 where 0) lines of words; returns its path."""
    lines = [self.line() for _ in range(count or self.rng.randint(3, 5))]
    return self.add(where + self.name(extension), lines)

  def numbers(self, count: int = 0) -> str:
    """Adds a file of distinct numbers, one a line; returns its path."""
    found = self.rng.sample(range(1, 100), count or self.rng.randint(3, 6))
    return self.add(self.name(), [str(n) for n in found])

  def table(self, count: int = 0) -> str:
    """Adds a CSV file of words and distinct numbers, without a header; returns its path."""
    values = self.rng.sample(range(1, 100), count or self.rng.randint(3, 5))
    return self.add(self.name('csv'), [f'{self.word()},{value}' for value in values])

  def repeats(self) -> str:
    """Adds a file of words of which some stand in it more than once; returns its path."""
    words = [self.word() for _ in range(self.rng.randint(2, 3))]
    lines = words + [self.rng.choice(words) for _ in range(self.rng.randint(2, 3))]
    self.rng.shuffle(lines)
    return self.add(self.name(), lines)

  def some(self) -> str:
    """Adds a file of any kind; returns its path."""
    return self.rng.choice([self.text, self.text, self.numbers, self.table, self.repeats])()

  def add(self, path: str, lines: Sequence[str]) -> str:
    """Adds a file; returns its path."""
    self.files[path] = ''.join(line + '\n' for line in lines)
    return path

  def lines(self, path: str) -> list[str]:
    """The lines of a file."""
    return self.files[path].splitlines()

  def any_word(self, path: str) -> str:
    """A word, not a number, that stands in a file."""
    words = self.files[path].replace(',', ' ').split()
    return self.rng.choice([word for word in words if word.isalpha()])

  def fill(self, low: int = 2, high: int = 3) -> None:
    """Adds files that the task is not about, up to `low` to `high` in all."""
    for _ in range(self.rng.randint(low, high) - len(self.files)):
      self.some()

  def say(self, *phrasings: str) -> str:
    """One of the ways to say it."""
    return self.rng.choice(phrasings)

  def look(self, *paths: str) -> list[str]:
    """What a person does first: list, then perhaps read the files at hand."""
    steps = [self.rng.choice(['ls', 'ls', 'ls', 'ls -l', 'wc -l *'])]
    steps += [f'cat {path}' for path in paths if self.rng.random() < 0.6]
    return steps if self.rng.random() < 0.85 else steps[1:]

  def sometimes(self, *steps: str, chance: float = 0.6) -> list[str]:
    """The steps, or none of them."""
    return list(steps) if self.rng.random() < chance else []

  def setup(self) -> dict:
    """`Task.setup` of this world."""
    setup = {'files': dict(sorted(self.files.items()))}
    if self.modes:
      setup['modes'] = dict(sorted(self.modes.items()))
    if self.dirs:
      setup['dirs'] = sorted(self.dirs)
    return setup

  def checked(
      self, instruction: str, check: str, output: Sequence[str], plan: Sequence[str]) -> Recipe:
    """A recipe verified by the command `check`, which prints the lines `output`."""
    expected = ''.join(line + '\n' for line in output) + '~$'
    return self._recipe(instruction, Verifier('command', expected, f'cd; {check}'), plan, '')

  def answered(self, instruction: str, answer: str | int, plan: Sequence[str]) -> Recipe:
    """A recipe verified by the answer that the agent submits."""
    return self._recipe(instruction, Verifier('answer', str(answer)), plan, str(answer))

  def _recipe(self, instruction, verifier, plan, answer) -> Recipe:
    setup = self.setup()
    return Recipe(instruction=instruction, setup=setup, initial_state=initial_state(setup),
                  verifier=verifier, plan=(*plan, SUBMIT + answer))
