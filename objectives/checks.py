"""Refusals that settings of objectives share."""

import dataclasses
from collections.abc import Iterable
from typing import Any

from .. import UserError
from . import networks


def require_mark(name: str, number: int | None) -> None:
  """Raises UserError unless a setting is the number of a spare id or None."""
  if number is not None and not networks.is_count(number, 0):
    raise UserError(f'{name} is {number!r}; give the number of a spare id, from 0, or None.')


def require_prob(name: str, value: float, low: float = 0.0, high: float = 1.0) -> None:
  """Raises UserError unless low <= value <= high."""
  if not low <= value <= high:
    raise UserError(f'{name} is {value}; it must lie in [{low}, {high}].')


def require_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
  """Raises UserError unless `value` is one of `choices`."""
  if value not in choices:
    raise UserError(f'{name} is {value!r}; choose one of {", ".join(choices)}.')


def refuse_idle(settings: Any, names: Iterable[str], unless: str) -> None:
  """Raises UserError naming the first of `settings`' fields that was changed and has no effect as things are.

  Args:
    settings: a dataclass with defaults.
    names: of fields that nothing reads as the others stand.
    unless: what would give them an effect, in words.
  """
  defaults = {field.name: field.default for field in dataclasses.fields(settings)}
  for name in names:
    value = getattr(settings, name)
    if value != defaults[name]:
      raise UserError(
        f'{type(settings).__name__}.{name} is {value!r}, which has no effect here: only {unless} reads it. Leave it '
        'out.'
      )
