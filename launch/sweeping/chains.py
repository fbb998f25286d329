"""Chains: cells that begin with the weights of another cell of the same sweep, and so come after it.

`sweep.starts` is a list of (cells, other): a cell that matches the first, {axis: label}, starts from the cell that has
the labels of the second and is like it otherwise, its seed among the rest. The first entry that matches a cell holds.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ... import UserError
from . import axes as axes_lib

Entry = tuple[Mapping[str, Any], Mapping[str, Any]]


def starts(choices: Sequence[axes_lib.Choice], entries: Sequence[Entry], axes: axes_lib.Axes) -> list[int | None]:
  """For each choice, which one it starts from; None for random weights.

  Args:
    choices: of all cells.
    entries: of sweep.starts.
    axes: all there are.

  Raises:
    UserError: an entry is malformed, names an axis or a label that there is not or a cell that is left out, or cells
      start from each other.
  """
  for entry in entries:
    if not isinstance(entry, list | tuple) or len(entry) != 2 or not all(isinstance(one, Mapping) for one in entry):
      raise UserError(f'sweep.starts holds {entry!r}; give ({{axis: label}} of cells, {{axis: label}} to start from).')
    for labels in entry:
      axes_lib.check_entry('sweep.starts', labels, axes)
  labels = [_labels(choice) for choice in choices]
  found = [_start(one, labels, entries) for one in labels]
  for number in range(len(found)):
    _refuse_circle(number, found, labels)
  return found


def _labels(choice: axes_lib.Choice) -> dict[str, str]:
  return {axis: str(option.label) for axis, option in choice.items()}


def _start(one: dict[str, str], labels: list[dict[str, str]], entries: Sequence[Entry]) -> int | None:
  for cells, other in entries:
    if all(one[axis] == str(label) for axis, label in cells.items()):
      wanted = one | {axis: str(label) for axis, label in other.items()}
      if wanted not in labels:
        raise UserError(
          f'sweep.starts has the cell {_shown(one)} start from {_shown(wanted)}, which is no cell of the sweep: '
          'CELLS and EXCLUDE must leave it in.'
        )
      return labels.index(wanted)
  return None


def _refuse_circle(number: int, found: list[int | None], labels: list[dict[str, str]]) -> None:
  seen = [number]
  while (start := found[seen[-1]]) is not None:
    if start in seen:
      circle = ' from '.join(_shown(labels[i]) for i in [*seen[seen.index(start) :], start])
      raise UserError(f'sweep.starts goes in a circle: {circle}. Some cell must start from random weights.')
    seen.append(start)


def _shown(labels: Mapping[str, str]) -> str:
  return ', '.join(f'{axis}={label}' for axis, label in labels.items())
