"""Engines for more than one machine: they write the files of a scheduler, which a person reads and submits.

Nothing here schedules anything. Such a file runs `unmask train` as the local engine would; the scheduler starts it
again where its exit status says so (docs/reliability.md).
"""

import hashlib
import os
import re
import shlex
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, Protocol

import yaml

from ... import UserError
from .. import exits, files
from .plans import Plan

AGAIN = (exits.HUNG, exits.PREEMPTED, exits.LOST, exits.ABORTED, 128 + 9, 128 + 15)
"""Exit statuses after which the same command goes on: the last two are of a process that was killed by a signal."""


Document = Callable[[str, Sequence[str], str], dict[str, Any]]
"""A scheduler's document of a run by its name there, the arguments of `unmask train`, and the run's MODEL_DIR."""


class Engine(Protocol):
  """A scheduler whose files can be written."""

  folder: str
  SUBMIT: ClassVar[str]
  """A command with FILE in it."""

  def check(self, place: str) -> None:
    """UserError unless its machines can all write to that SWEEP_DIR or MODEL_DIR, and what it needs was given."""

  def document(self, title: str, command: Sequence[str], model_dir: str) -> dict[str, Any]:
    """See `Document`."""

  def write(self, sweep: str, plans: Sequence[Plan], tuning: bool) -> None:
    """Writes a file a cell, and a README that says how to submit them.

    Args:
      sweep: its name.
      plans: to run.
      tuning: whether they are the tries of a search for learning rates, after which there is more to write.
    """


def check_shared(place: str) -> None:
  """Raises UserError for a folder that lies below the present one, which other machines do not have."""
  if not files.is_remote(place) and not os.path.isabs(place):
    raise UserError(
      f'The run would go to {place!r}; machines of a cluster need a place that all of them have: gs://BUCKET/FOLDER, '
      'or the absolute path of a shared disk.'
    )


def names(cells: Sequence[str], most: int = 45) -> list[str]:
  """Cells' names as clusters take them, all different: at most `most` of a-z, 0-9 and '-', a letter first.

  One that is cut, or that two cells would share, ends in a hash of the cell's own.
  """
  plain = [re.sub(r'[^a-z0-9]+', '-', f'{cell}'.lower()).strip('-') for cell in cells]
  return [
    name
    if len(name) <= most and name[:1].isalpha() and plain.count(name) == 1
    else f'c-{name[: most - 9].strip("-")}-{hashlib.sha256(cell.encode()).hexdigest()[:6]}'
    for name, cell in zip(plain, cells, strict=True)
  ]


class Block(str):
  """Text of several lines, which YAML shows as it is."""


yaml.SafeDumper.add_representer(Block, lambda dumper, text: dumper.represent_scalar('tag:yaml.org,2002:str', text, '|'))


def shell(command: str, arguments: Sequence[str]) -> Block:
  """A command as a person types it, a flag a line."""
  return Block(' \\\n  '.join([command, *map(shlex.quote, arguments)]) + '\n')


def write_files(
  folder: str,
  sweep: str,
  plans: Sequence[Plan],
  document: Document,
  submit: str,
  tuning: bool,
  notes: Sequence[str],
) -> None:
  """Writes 'NAME.yaml' for each plan and 'README.md'.

  Args:
    folder: made if it is not there; YAML files of an earlier call are removed, for their cells may be done.
    sweep: its name.
    plans: to run.
    document: the scheduler's.
    submit: a command with FILE in it.
    tuning: see `Engine.write`.
    notes: lines of the README.
  """
  titles = names([f'{sweep}-{one.cell.name}' for one in plans])
  pairs = zip(titles, plans, strict=True)
  documents = {title: document(title, one.command, one.cell.model_dir) for title, one in pairs}
  try:
    os.makedirs(folder, exist_ok=True)
    for old in os.listdir(folder):
      if old.endswith('.yaml'):
        os.remove(os.path.join(folder, old))
    for title, made in documents.items():
      _write(folder, title, made, f'One cell of the sweep {sweep}', submit)
    with open(os.path.join(folder, 'README.md'), 'w', encoding='utf-8') as file:
      file.write(_readme(sweep, titles, submit, tuning, notes))
  except OSError as error:
    raise UserError(f'The files cannot be written to {folder!r}: {files.reason(error)}.') from error
  print(f'{len(documents)} files are in {folder}; README.md there says how to submit them.')


def write_one(folder: str, name: str, command: Sequence[str], model_dir: str, document: Document, submit: str) -> str:
  """Writes the file of one run, and says how to submit it; returns its path.

  Args:
    folder: made if it is not there.
    name: of the run; the file's is what `names` makes of it.
    command, model_dir: see `Document`.
    document: the scheduler's.
    submit: a command with FILE in it.
  """
  (title,) = names([name])
  path = os.path.join(folder, f'{title}.yaml')
  try:
    os.makedirs(folder, exist_ok=True)
    _write(folder, title, document(title, command, model_dir), f'One run, to {model_dir}', submit)
  except OSError as error:
    raise UserError(f'{path} cannot be written: {files.reason(error)}.') from error
  print(f'Read it, then submit it: {submit.replace("FILE", shlex.quote(path))}')
  return path


def _write(folder: str, title: str, document: dict[str, Any], what: str, submit: str) -> None:
  text = yaml.safe_dump(document, sort_keys=False, width=120)
  with open(os.path.join(folder, f'{title}.yaml'), 'w', encoding='utf-8') as file:
    file.write(f'# {what}: {submit.replace("FILE", f"{title}.yaml")}\n{text}')


def _readme(sweep: str, titles: Sequence[str], submit: str, tuning: bool, notes: Sequence[str]) -> str:
  what = 'the tries of the search for learning rates' if tuning else 'the cells'
  then = (
    'writes the cells themselves, with the learning rates that were found.'
    if tuning
    else 'with `--engine=local` finds nothing left to train, judges all cells and writes the report.'
  )
  head = [f'# {sweep}', '', f'Each file is one run: {what}. Submit them in any order:', '']
  commands = [f'    {submit.replace("FILE", f"{title}.yaml")}' for title in titles]
  statuses = ', '.join(map(str, AGAIN))
  tail = [
    '',
    f'A run that stops with status {statuses} is started again and goes on from its last checkpoint;',
    'status 2 needs a person.',
    f'When all are done, the same `unmask sweep` command {then}',
    '',
    *notes,
  ]
  return '\n'.join([*head, *commands, *tail]).rstrip() + '\n'
