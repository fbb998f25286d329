"""Chains: cells that begin with the weights of another cell of the same sweep, and so come after it.

`sweep.starts` is a list of (cells, other): a cell that matches the first, {axis: label}, starts from the cell that has
the labels of the second and is like it otherwise, its seed among the rest. The first entry that matches a cell holds.
A third part names what else is bound to the other's MODEL_DIR, such as 'Frozen.checkpoint' for a scorer beside the
decoder; then the first entry of that name holds.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ... import UserError
from . import axes as axes_lib

Entry = tuple[Mapping[str, Any], Mapping[str, Any]] | tuple[Mapping[str, Any], Mapping[str, Any], str]
WEIGHTS = 'train.initial_weights'
"""What an entry of two parts binds."""


def starts(choices: Sequence[axes_lib.Choice], entries: Sequence[Entry], axes: axes_lib.Axes) -> list[dict[str, int]]:
  """For each choice, which ones it starts from, by what is bound to their directories; none for random weights.

  Args:
    choices: of all cells.
    entries: of sweep.starts.
    axes: all there are.

  Raises:
    UserError: an entry is malformed, names an axis or a label that there is not or a cell that is left out, or cells
      start from each other.
  """
  for entry in entries:
    if not _is_entry(entry):
      raise UserError(
        f'sweep.starts holds {entry!r}; give ({{axis: label}} of cells, {{axis: label}} to start from), and a third '
        "part where another binding than the first weights' is meant."
      )
    for labels in entry[:2]:
      axes_lib.check_entry('sweep.starts', labels, axes)
  labels = [_labels(choice) for choice in choices]
  found = [_starts(one, labels, entries) for one in labels]
  for number in range(len(found)):
    _refuse_circle(number, found, labels)
  return found


def _labels(choice: axes_lib.Choice) -> dict[str, str]:
  return {axis: str(option.label) for axis, option in choice.items()}


def _is_entry(entry: Any) -> bool:
  if not isinstance(entry, list | tuple) or len(entry) not in (2, 3):
    return False
  return all(isinstance(one, Mapping) for one in entry[:2]) and all(
    isinstance(name, str) and name for name in entry[2:]
  )


def _starts(one: dict[str, str], labels: list[dict[str, str]], entries: Sequence[Entry]) -> dict[str, int]:
  found: dict[str, int] = {}
  for cells, other, *rest in entries:
    binding = rest[0] if rest else WEIGHTS
    if binding not in found and all(one[axis] == str(label) for axis, label in cells.items()):
      wanted = one | {axis: str(label) for axis, label in other.items()}
      if wanted not in labels:
        raise UserError(
          f'sweep.starts has the cell {_shown(one)} start from {_shown(wanted)}, which is no cell of the sweep: '
          'CELLS and EXCLUDE must leave it in.'
        )
      found[binding] = labels.index(wanted)
  return found


def _refuse_circle(
  number: int, found: list[dict[str, int]], labels: list[dict[str, str]], seen: tuple[int, ...] = ()
) -> None:
  if number in seen:
    circle = ' from '.join(_shown(labels[i]) for i in [*seen[seen.index(number) :], number])
    raise UserError(f'sweep.starts goes in a circle: {circle}. Some cell must start from random weights.')
  for start in found[number].values():
    _refuse_circle(start, found, labels, (*seen, number))


def _shown(labels: Mapping[str, str]) -> str:
  return ', '.join(f'{axis}={label}' for axis, label in labels.items())
