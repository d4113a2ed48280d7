"""Chat markup as token ids, inside jitted programs: messages put together and taken apart.

Shapes: B rows, T tokens.
"""

import dataclasses

import jax
import jax.numpy as jnp

from aw_jax.tokenizer import (
    END_PREDICTED,
    END_THINK,
    IM_END,
    PREDICTED,
    THINK,
    Tokenizer,
)
from aw_jax.trajectories import SUBMIT


@dataclasses.dataclass(frozen=True)
class Markup:
  """Token ids of the chat markup that phases are glued with.

  `reserved` are all ids that no text has. A model can sample them where text should be; what it
  says is then no action and no observation, or it could write the other side's lines.
  """

  user: tuple[int, ...]
  assistant: tuple[int, ...]
  end: int
  predicted: int
  end_predicted: int
  submit: int
  think: int
  end_think: int
  reserved: tuple[int, ...]

  @classmethod
  def of(cls, tokenizer: Tokenizer) -> 'Markup':
    return cls(
        tuple(tokenizer.role_header('user')), tuple(tokenizer.role_header('assistant')),
        *(tokenizer.special(token)
          for token in (IM_END, PREDICTED, END_PREDICTED, SUBMIT, THINK, END_THINK)),
        tokenizer.reserved)


def compose(prefix: tuple[int, ...], body_BxT: jax.Array, lengths_B: jax.Array,
            suffix: tuple[int, ...]) -> tuple[jax.Array, jax.Array]:
  """prefix + body + suffix of each row: int32[B, T + prefix + suffix], int32[B]."""
  before, after = len(prefix), len(suffix)
  place = jnp.arange(before + body_BxT.shape[1] + after)
  in_suffix = place - before - lengths_B[:, None]
  body = jnp.pad(body_BxT, ((0, 0), (before, after)))
  tokens = jnp.where(place < before, jnp.take(jnp.array(prefix + (0,)), place, mode='clip'), body)
  ending = jnp.take(jnp.array(suffix + (0,)), jnp.clip(in_suffix, 0, after))
  return jnp.where(in_suffix >= 0, ending, tokens), lengths_B + before + after


def first(tokens: jax.Array, wanted: int) -> jax.Array:
  """Index of the first `wanted` in each row; the row's length where there is none."""
  found = tokens == wanted
  return jnp.where(jnp.any(found, axis=1), jnp.argmax(found, axis=1), tokens.shape[1])


def reserved_between(tokens_BxT, markup: Markup, starts_B, ends_B) -> jax.Array:
  """int32[B]: reserved ids among the tokens from `starts_B` to before `ends_B`."""
  place = jnp.arange(tokens_BxT.shape[1])
  within = (place >= starts_B[:, None]) & (place < ends_B[:, None])
  return jnp.sum(within & jnp.isin(tokens_BxT, jnp.array(markup.reserved)), axis=1)
