"""Axes: what a sweep's cells differ in, and which combinations of their options there are."""

import dataclasses
import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ... import UserError

FOLDERS = {'objective': 'objectives', 'model': 'models', 'task': 'tasks'}
"""Axes whose options are files of a folder of gin/."""

SEED = 'seed'
_LABEL = re.compile(r'[A-Za-z0-9_.+-]+')
_AXIS = re.compile(r'[A-Za-z_][A-Za-z0-9_.]*')


@dataclasses.dataclass(frozen=True)
class Option:
  """One choice of an axis.

  Attributes:
    label: its name; a whole number for a seed.
    files: gin files it adds.
    lines: 'NAME = VALUE' lines it adds.
    by_objective: what it adds instead where that depends on the objective: an option of the same label for each.
  """

  label: str | int
  files: tuple[str, ...] = ()
  lines: tuple[str, ...] = ()
  by_objective: Mapping[str, 'Option'] | None = None


Axes = dict[str, list[Option]]
Choice = dict[str, Option]


def parse(axes: Mapping[str, Any], seeds: Sequence[int]) -> Axes:
  """Options by axis, 'seed' last; see `runner.sweep`.

  Raises:
    UserError: an axis or a label that is no name, an axis without options, or one with a label twice.
  """
  found: Axes = {}
  for axis, values in {**axes, SEED: seeds}.items():
    if axis == SEED and axis in axes:
      raise UserError("AXES has 'seed'; give the seeds by SEEDS, a list of whole numbers.")
    if not isinstance(axis, str) or not _AXIS.fullmatch(axis):
      raise UserError(f'AXES has an axis {axis!r}; name it by letters, digits, "_" and ".".')
    if not isinstance(values, list | tuple | Mapping) or not values:
      raise UserError(
        f'The axis {axis!r} is {values!r}; give a list of options, or {{label: [lines]}}, with one or more.'
      )
    if isinstance(values, Mapping):
      found[axis] = [_named(axis, label, lines) for label, lines in values.items()]
    else:
      found[axis] = [_option(axis, value) for value in values]
    labels = [option.label for option in found[axis]]
    twice = [label for label in labels if labels.count(label) > 1]
    if twice:
      raise UserError(f'The axis {axis!r} has {twice[0]!r} twice: the cells would share a directory. Leave one out.')
  return found


def _option(axis: str, value: Any) -> Option:
  """One value of an axis that lists its options."""
  if axis == SEED:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**31:
      raise UserError(f'The axis {SEED!r} has {value!r}; a seed is a whole number from 0, below 2**31.')
    return Option(value, lines=(f'SEED = {value}',))
  if axis in FOLDERS:
    _check_label(axis, value)
    return Option(value, files=(f'gin/{FOLDERS[axis]}/{value}.gin',))
  label = str(value)
  _check_label(axis, label)
  reference = isinstance(value, str) and value[:1] in ('@', '%')
  return Option(label, lines=(f'{axis} = {value if reference else repr(value)}',))


def _named(axis: str, label: Any, given: Any) -> Option:
  """One option of an axis that names them: gin files and 'NAME = VALUE' lines, or these by objective."""
  _check_label(axis, label)
  if isinstance(given, Mapping):
    return Option(label, by_objective={objective: _named(axis, label, each) for objective, each in given.items()})
  lines = [given] if isinstance(given, str) else given
  if not isinstance(lines, list | tuple) or not all(isinstance(line, str) for line in lines):
    raise UserError(f"The option {label!r} of the axis {axis!r} is {given!r}; give ['NAME = VALUE', ...].")
  files = tuple(line for line in lines if line.endswith('.gin') and '=' not in line)
  rest = tuple(line for line in lines if line not in files)
  check_lines(f'The option {label!r} of the axis {axis!r}', rest)
  return Option(label, files, rest)


def check_lines(where: str, lines: Sequence[str]) -> None:
  """Raises UserError unless each is 'NAME = VALUE'."""
  wrong = [line for line in lines if not all(part.strip() for part in f'{line}'.partition('='))]
  if wrong:
    raise UserError(f"{where} holds {wrong[0]!r}; each line is 'NAME = VALUE'.")


def _check_label(axis: str, label: Any) -> None:
  if not isinstance(label, str) or not _LABEL.fullmatch(label):
    raise UserError(
      f'The axis {axis!r} has an option {label!r}, which can be no part of a directory: name it by letters, digits, '
      f"and _ . + -, as {{'NAME': ['{axis} = VALUE']}}."
    )


def grid(axes: Axes, only: Sequence[Mapping[str, Any]] | None, exclude: Sequence[Mapping[str, Any]]) -> list[Choice]:
  """All combinations that match an entry of `only` (None: all) and none of `exclude`, the first axis slowest.

  Args:
    only, exclude: each entry is {axis: label}; an axis that it does not name may be anything.

  Raises:
    UserError: an entry names an axis or a label that there is not, or nothing is left.
  """
  for name, entries in (('CELLS', only or []), ('EXCLUDE', exclude)):
    for entry in entries:
      check_entry(name, entry, axes)
  names = list(axes)
  choices = [_resolved(dict(zip(names, options, strict=True))) for options in itertools.product(*axes.values())]
  left = [
    choice
    for choice in choices
    if (only is None or any(_matches(choice, entry) for entry in only))
    and not any(_matches(choice, entry) for entry in exclude)
  ]
  if not left:
    raise UserError('CELLS and EXCLUDE leave no cell.')
  return left


def _resolved(choice: Choice) -> Choice:
  """With what each option adds beside this objective."""
  objective = choice['objective'].label if 'objective' in choice else None
  found = dict(choice)
  for axis, option in choice.items():
    if option.by_objective is None:
      continue
    if objective not in option.by_objective:
      known = ', '.join(map(str, option.by_objective))
      raise UserError(
        f'The option {option.label!r} of the axis {axis!r} is for {known}; say what it is for {objective}.'
      )
    found[axis] = option.by_objective[objective]
  return found


def _matches(choice: Choice, entry: Mapping[str, Any]) -> bool:
  return all(str(choice[axis].label) == str(label) for axis, label in entry.items())


def check_entry(name: str, entry: Mapping[str, Any], axes: Axes) -> None:
  """Raises UserError if an entry names an axis or a label that there is not."""
  for axis, label in entry.items():
    if axis not in axes:
      raise UserError(f'{name} names the axis {axis!r}, which does not exist; AXES has {", ".join(axes)}.')
    labels = [str(option.label) for option in axes[axis]]
    if str(label) not in labels:
      raise UserError(f'{name} names {label!r} of the axis {axis!r}, which has {", ".join(labels)}.')


def row_name(choice: Choice, otherwise: str) -> str:
  """All of a cell but its seed: 'mlm-rate0.30'; `otherwise` where there is nothing but a seed."""
  first = [str(choice['objective'].label)] if 'objective' in choice else []
  rest = [f'{axis}{option.label}' for axis, option in choice.items() if axis not in ('objective', SEED)]
  return '-'.join(first + rest) or otherwise
