"""What is seen of a sweep while it runs: a live table on a terminal, plain lines elsewhere."""

import contextlib
import dataclasses
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence

import rich.console
import rich.live
import rich.table

from .. import files
from . import estimates
from .plans import Plan

LINES_EVERY = 15.0
"""Seconds between lines about a running cell where there is no terminal."""

_TAIL = 8192  # bytes of the metrics that are looked at; a line has a few hundred


@dataclasses.dataclass
class Row:
  """A cell as it stands.

  Attributes:
    state: 'waiting', 'running', 'done', 'failed', ...
    step: updates applied, as its metrics say.
    loss: its own training loss; no other objective's can be compared with it.
    rate: tokens of the corpus a second.
  """

  plan: Plan
  state: str = 'waiting'
  step: int = 0
  loss: float | None = None
  rate: float | None = None
  told: float = 0.0

  @property
  def left(self) -> float | None:
    """Seconds of updates still to come, None where no rate is known."""
    if self.state != 'running' or not self.rate:
      return None
    return max(0, self.plan.train_steps - self.step) * self.plan.update_tokens / self.rate

  def look(self) -> None:
    """Takes step, loss and rate from the newest lines of the cell's metrics, where they lie on a disk."""
    for line in newest(self.plan.cell.model_dir):
      self.step = max(self.step, line.get('step', 0))
      self.loss = line.get('loss', self.loss)
      self.rate = line.get('tokens_per_second', self.rate)

  def line(self) -> str:
    """For where there is no terminal."""
    said = [f'{self.plan.cell.name}: {self.state}']
    if self.state in ('running', 'done') and self.step:
      said.append(f'{self.step:,} of {self.plan.train_steps:,}')
      said += [f'loss {self.loss:.3f}'] if self.loss is not None else []
      said += [f'{self.rate:,.0f} tokens/s'] if self.rate else []
    if self.left is not None and self.step:
      said.append(f'{estimates.spoken(self.left)} left')
    return ', '.join(said)


def newest(model_dir: str) -> list[dict]:
  """The last whole lines of a local run's metrics, oldest first; none of a bucket, which would have to be asked."""
  if files.is_remote(model_dir):
    return []
  try:
    with open(os.path.join(model_dir, 'metrics.jsonl'), 'rb') as file:
      file.seek(max(0, os.fstat(file.fileno()).st_size - _TAIL))
      whole = file.read().split(b'\n')
  except OSError:
    return []
  found = []
  for line in whole:
    with contextlib.suppress(ValueError):  # the first may be cut, the last not whole
      found.append(json.loads(line))
  return [line for line in found if isinstance(line, dict)]


class Board:
  """Shows the rows of some cells; see `showing`."""

  def __init__(self, title: str, plans: Sequence[Plan]):
    self.rows = {one.cell.model_dir: Row(one, state='done' if one.cell.trained else 'waiting') for one in plans}
    self._title, self._began = title, time.monotonic()
    self._live: rich.live.Live | None = None

  @contextlib.contextmanager
  def showing(self) -> Iterator['Board']:
    """Inside, a table is on the terminal if there is one."""
    if not sys.stdout.isatty():
      yield self
      return
    with rich.live.Live(self.table(), console=rich.console.Console(), auto_refresh=False) as self._live:
      yield self

  def to(self, plan: Plan, state: str) -> None:
    """A cell has come to another state."""
    row = self.rows[plan.cell.model_dir]
    row.state, row.told = state, time.monotonic()
    row.look()
    if self._live is None:
      self._print(row)
    self.refresh()

  def refresh(self) -> None:
    """Looks at the running cells, and shows what has changed."""
    for row in self.rows.values():
      if row.state == 'running':
        row.look()
        if self._live is None and time.monotonic() - row.told > LINES_EVERY and row.step:
          row.told = time.monotonic()
          self._print(row)
    if self._live is not None:
      self._live.update(self.table(), refresh=True)

  def say(self, line: str) -> None:
    """A line that stays, above the table."""
    (self._live.console.print if self._live else _say)(line)

  def _print(self, row: Row) -> None:
    number = list(self.rows).index(row.plan.cell.model_dir) + 1
    _say(f'[{time.monotonic() - self._began:4.0f} s] {number}/{len(self.rows)} {row.line()}')

  def table(self) -> rich.table.Table:
    """All rows as they stand."""
    states = [row.state for row in self.rows.values()]
    title = f'{self._title}: {states.count("done")} of {len(states)} done, {time.monotonic() - self._began:,.0f} s'
    table = rich.table.Table(title=title)
    for heading, justify in (('cell', 'left'), ('state', 'left'), ('step', 'right'), ('own loss', 'right')):
      table.add_column(heading, justify=justify, no_wrap=True)
    for heading in ('tokens/s', 'left'):
      table.add_column(heading, justify='right', no_wrap=True)
    for row in self.rows.values():
      step = row.plan.train_steps if row.state == 'done' else row.step
      table.add_row(
        row.plan.cell.name,
        row.state,
        f'{step:,}/{row.plan.train_steps:,}',
        '' if row.loss is None else f'{row.loss:.3f}',
        f'{row.rate:,.0f}' if row.rate else '',
        '' if row.left is None else estimates.spoken(row.left),
      )
    return table


def _say(line: str) -> None:
  print(line, flush=True)
