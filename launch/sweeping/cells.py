"""A cell: one run of a sweep, in a directory of its own, and what that directory says of it."""

import dataclasses
import json
import os
from typing import Any

from ... import UserError
from .. import files, metrics
from . import axes, chains

_ONE_OF = ('gin/objectives', 'gin/attention')

FAILED = 'failed.json'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cell:
  """One run.

  Attributes:
    row: the name of the cells that differ from it in their seed alone.
    options: by axis, 'seed' last.
    model_dir: where it goes.
    starts: MODEL_DIRs of the cells that it begins with, by what is bound to them; see `chains`.
    shared: what must be as it was when the cell was begun; see `runner.sweep`.
  """

  row: str
  options: axes.Choice
  model_dir: str
  starts: dict[str, str] = dataclasses.field(default_factory=dict)
  shared: dict[str, Any] = dataclasses.field(default_factory=dict)

  @classmethod
  def of(cls, choice: axes.Choice, sweep_dir: str, sweep: str, shared: dict[str, Any]) -> 'Cell':
    """The cell of one option of each axis, in a directory named by them."""
    row = axes.row_name(choice, sweep)
    return cls(
      row=row,
      options=choice,
      model_dir=os.path.join(sweep_dir, f'{row}-{axes.SEED}{choice[axes.SEED].label}'),
      shared=shared,
    )

  @property
  def name(self) -> str:
    """Of its directory."""
    return os.path.basename(self.model_dir)

  @property
  def labels(self) -> dict[str, str | int]:
    """By axis; that of 'seed' is a number."""
    return {axis: option.label for axis, option in self.options.items()}

  @property
  def gin_files(self) -> tuple[str, ...]:
    """What it adds to the run's file; of several objectives or attention rules the last, which takes their place."""
    files = [file for option in self.options.values() for file in option.files]
    last = {os.path.dirname(file): file for file in files}
    return tuple(file for file in files if last[os.path.dirname(file)] == file or os.path.dirname(file) not in _ONE_OF)

  @property
  def lines(self) -> tuple[str, ...]:
    """'NAME = VALUE' lines of its own, its seed among them."""
    return tuple(line for option in self.options.values() for line in option.lines)

  @property
  def settings(self) -> dict[str, Any]:
    """What decides the run, but for what follows from it."""
    named = lambda binding: 'start' if binding == chains.WEIGHTS else binding
    starts = {named(binding): os.path.basename(start) for binding, start in self.starts.items()}
    return self.shared | {'gin_files': list(self.gin_files), 'lines': list(self.lines)} | starts

  @property
  def can_start(self) -> bool:
    """Whether all that it begins with is there."""
    return not self.lacks

  @property
  def lacks(self) -> list[str]:
    """The names of the cells that it begins with and that are not trained."""
    places = dict.fromkeys(self.starts.values())
    return [os.path.basename(start) for start in places if not (files.path(start) / 'done.json').exists()]

  @property
  def trained(self) -> bool:
    """Whether it has been trained to its end."""
    return (files.path(self.model_dir) / 'done.json').exists()

  def step(self) -> int | None:
    """The update of its newest checkpoint, None without one."""
    folder = files.path(self.model_dir) / 'checkpoints'
    if not folder.exists():
      return None
    return max((int(path.name) for path in folder.iterdir() if path.name.isdigit()), default=None)

  def failure(self) -> dict[str, Any] | None:
    """What `failed` wrote, None unless the last attempt failed."""
    path = files.path(self.model_dir) / FAILED
    return json.loads(path.read_text()) if path.exists() and not self.trained else None

  def state(self) -> str:
    """In words: done, begun at an update, to run, failed, or done without a checkpoint."""
    step = self.step()
    if self.trained:
      return 'done' if step is not None else 'done, but its checkpoints are gone'
    if self.failure():
      return 'failed'
    return 'to run' if step is None else f'begun, at update {step:,}'

  def check(self) -> None:
    """Raises UserError if the cell was begun with other settings, or if another run lives there."""
    folder = files.path(self.model_dir)
    path = folder / 'cell.json'
    if not path.exists():
      if (folder / 'config.gin').exists():
        raise UserError(f'{self.model_dir} holds a run that no sweep began. Use a new SWEEP_DIR.')
      return
    before = read(self.model_dir).get('settings', {})
    changed = [
      f'{name} was {before.get(name)} and is now {value}'
      for name, value in self.settings.items()
      if before.get(name) != value
    ]
    if changed:
      raise UserError(f'{self.model_dir} was begun with other settings: {"; ".join(changed)}. Use a new SWEEP_DIR.')

  def begin(self, sweep: str, budget: dict[str, Any], learning_rate: dict[str, Any]) -> None:
    """Makes the directory and says in it what the cell is: 'cell.json'; UserError if it cannot be written."""
    files.probe(self.model_dir)
    facts = {
      'axes': self.labels,
      'name': self.row,
      'sweep': sweep,
      'settings': self.settings,
      'budget': budget,
      'learning_rate': learning_rate,
    }
    folder = files.path(self.model_dir)
    files.write_atomically(folder / 'cell.json', json.dumps(facts, indent=2))
    if (folder / FAILED).exists():
      (folder / FAILED).unlink()

  def failed(self, status: int, line: str, log: str) -> None:
    """Remembers that it failed, and why."""
    path = files.path(self.model_dir) / FAILED
    files.write_atomically(path, json.dumps({'status': status, 'line': line, 'log': log}, indent=2))

  def held_out_loss(self) -> float | None:
    """The objective's own, at its last evaluation; None without one."""
    losses = [row['eval/loss'] for row in metrics.read(self.model_dir) if 'eval/loss' in row]
    return losses[-1] if losses else None


def read(model_dir: str) -> dict[str, Any]:
  """'cell.json' of a directory; UserError if it is damaged."""
  path = files.path(model_dir) / 'cell.json'
  try:
    return dict(json.loads(path.read_text()))
  except (ValueError, TypeError, OSError) as error:
    raise UserError(f'{path} is damaged ({error}): bring it back from a copy, or delete {model_dir}.') from error


def check_apart(cells: list[Cell]) -> None:
  """Raises UserError naming two cells that share a directory."""
  seen: dict[str, Cell] = {}
  for cell in cells:
    other = seen.setdefault(os.path.normpath(cell.model_dir), cell)
    if other is not cell:
      raise UserError(
        f'Two cells share the directory {cell.model_dir}: {_shown(other)} and {_shown(cell)}. '
        'Rename an axis or a label.'
      )


def _shown(cell: Cell) -> str:
  return ', '.join(f'{axis}={label}' for axis, label in cell.labels.items())
