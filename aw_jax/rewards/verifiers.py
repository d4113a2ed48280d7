"""Rule verifiers: 0 or 1, without judgement (PAPER.md section 5)."""

from aw_jax.rewards.content import (
  Reference,
  as_written,
  canonical,
  fits,
  parse_json,
  tokenize,
  write_json,
)

# What a search engine finds of the world nobody can know to the character: the rubric alone.
_WITHOUT_RULE = ('search',)


def has_rule(domain: str) -> bool:
  """Whether a domain has a rule verifier: `exact_match`."""
  return domain not in _WITHOUT_RULE


def exact_match(predicted: str, reference: Reference) -> bool:
  """Whether a predicted observation is the true one.

  Runtime metadata counts as equal where it has the true one's format and range. A tool's JSON is
  compared as values: key order and spacing do not matter. Everything else must be the same to the
  character. `Reference` says which domain is read how.
  """
  if predicted == reference.observation:
    return True
  if reference.json_value is None and not reference.has_runtime_metadata:
    return False
  tokens, symbols = tokenize(canonical(predicted, reference)), reference.symbols
  if len(tokens) == len(symbols) and all(
      symbol == token or (not isinstance(symbol, str) and fits(symbol, token))
      for symbol, token in zip(symbols, tokens, strict=True)):
    return True
  unknown_style = reference.json_value is not None and reference.json_style is None
  return unknown_style and _same_values(predicted, reference)


def _same_values(predicted: str, reference: Reference) -> bool:
  """Compares JSON whose spacing cannot be reproduced; runtime metadata is not looked for."""
  value, truth = parse_json(predicted), reference.json_value
  written = write_json(as_written(value, truth), {})
  return value is not None and written is not None and written == write_json(truth, {})
