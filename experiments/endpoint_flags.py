"""Flags of a language model behind an OpenAI-compatible endpoint, for the commands that ask one."""

import dataclasses

from absl import flags

from aw_jax.rewards.chat_endpoint import Endpoint

flags.disclaim_key_flags()  # they are flags of the command that defines them


@dataclasses.dataclass(frozen=True)
class EndpointFlags:
  """The flags `--{role}_model`, `--{role}_url` and so on."""

  role: str
  model: flags.FlagHolder[str | None]
  url: flags.FlagHolder[str | None]
  key: flags.FlagHolder[str]
  concurrency: flags.FlagHolder[int]
  retries: flags.FlagHolder[int]
  timeout: flags.FlagHolder[float]
  temperature: flags.FlagHolder[float]
  max_tokens: flags.FlagHolder[int]

  def endpoint(self) -> Endpoint | None:
    """The endpoint of the flags; None where no model is named."""
    if self.model.value is None:
      return None
    return Endpoint(
        self.model.value, self.url.value, self.key.value, self.concurrency.value,
        self.retries.value, self.timeout.value, self.temperature.value, self.max_tokens.value)


def define(role: str, what: str, temperature: float) -> EndpointFlags:
  """Defines the flags of the model in `role`, which is `what`."""
  return EndpointFlags(
      role,
      flags.DEFINE_string(f'{role}_model', None, f'Name of the model that is {what}.'),
      flags.DEFINE_string(
          f'{role}_url', None, "Its endpoint, like http://127.0.0.1:8000/v1; OpenAI's by default."),
      flags.DEFINE_string(
          f'{role}_key_variable', 'OPENAI_API_KEY', 'Environment variable with its API key.'),
      flags.DEFINE_integer(
          f'{role}_concurrency', 16, 'Requests to it at a time.', lower_bound=1),
      flags.DEFINE_integer(
          f'{role}_retries', 5, 'Retries of a request that fails for load or time.', lower_bound=0),
      flags.DEFINE_float(
          f'{role}_timeout', 120.0, 'Seconds that one try may take.', lower_bound=0.1),
      flags.DEFINE_float(f'{role}_temperature', temperature, 'Its temperature of sampling.'),
      flags.DEFINE_integer(
          f'{role}_max_tokens', 1024, 'Tokens of an answer at most.', lower_bound=1))
