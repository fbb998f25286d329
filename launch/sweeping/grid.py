"""The cells of one sweep, all checked ahead, and what the command does with them."""

import dataclasses
import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import rich.table

from ... import UserError
from .. import config, reporting, tables
from ..judging import kept
from . import axes as axes_lib
from . import cells as cells_lib
from . import estimates, local, plans, shares, tuning
from .board import Board
from .budget import Budget
from .cells import Cell
from .engines import Engine
from .plans import Plan
from .tuning import Search


@dataclasses.dataclass(frozen=True, kw_only=True)
class Grid:
  """The cells of a sweep, all checked.

  Attributes:
    sweep_dir: where they go.
    plans: of the judged cells, in order.
    tries: of the search for learning rates, by row and rate; None where one is shared.
    search: how; None too.
    budget: of each cell.
    search_paths: where gin files are looked for.
  """

  sweep_dir: str
  plans: list[Plan]
  tries: dict[str, dict[float, Plan]] | None
  search: Search | None
  budget: Budget
  search_paths: list[str]

  @classmethod
  def read(
    cls,
    *,
    sweep_dir: str,
    run: str,
    choices: list[axes_lib.Choice],
    starts: Sequence[Mapping[str, int]],
    bindings: Sequence[str],
    budget: Budget,
    learning_rates: Sequence[float] | None,
    tuning_share: float,
    tuning_seed: int,
  ) -> 'Grid':
    """Checks everything that can be checked before something runs; UserError names what is wrong."""
    axes_lib.check_lines('BINDINGS', bindings)
    names = {line.partition('=')[0].strip() for line in bindings}
    if budget.unit != 'steps' and 'TRAIN_STEPS' in names:
      raise UserError('BUDGET decides TRAIN_STEPS, which BINDINGS has too; leave one of them out.')
    if learning_rates is not None and 'LEARNING_RATE' in names:
      raise UserError('LEARNING_RATES are searched, and BINDINGS has LEARNING_RATE too; leave one of them out.')
    seeds = [int(choice[axes_lib.SEED].label) for choice in choices]
    search = None if learning_rates is None else Search.parse(learning_rates, tuning_share, tuning_seed, seeds)
    shared = {'run': run, 'bindings': sorted(bindings), 'budget': dataclasses.asdict(budget)}
    if search is not None:
      shared['search'] = json.loads(json.dumps(dataclasses.asdict(search)))
    sweep = sweep_name(sweep_dir)
    if search is not None and any(starts):
      raise UserError(
        'LEARNING_RATES are searched before any cell is trained, and sweep.starts has cells begin with trained '
        'weights: give such a sweep its rates by an axis, or LEARNING_RATE.'
      )
    cells = [Cell.of(choice, sweep_dir, sweep, shared) for choice in choices]
    places = [{binding: cells[start].model_dir for binding, start in each.items()} for each in starts]
    cells = [dataclasses.replace(cell, starts=place) for cell, place in zip(cells, places, strict=True)]
    cells_lib.check_apart(cells)
    config.find(run)
    paths = config.search_paths()
    planned = [
      plans.plan(cell, plans.command(run, paths, cell, bindings), budget, search is not None) for cell in cells
    ]
    plans.check_fair(planned)
    tries = None if search is None else search.tries(planned, sweep_dir)
    grid = cls(sweep_dir=sweep_dir, plans=planned, tries=tries, search=search, budget=budget, search_paths=paths)
    for one in [*planned, *grid.all_tries()]:
      one.cell.check()
    return grid

  def all_tries(self) -> list[Plan]:
    """Of all rows."""
    return [one for row in (self.tries or {}).values() for one in row.values()]

  def learning_rate(self, one: Plan) -> dict[str, Any] | None:
    """What is known of a cell's: the shared one, or what the search found; None before it has."""
    if self.search is None or self.tries is None:
      return {'value': one.learning_rate, 'how': 'shared'}
    return tuning.result(self.search, self.tries[one.cell.row])

  def ready(self) -> list[Plan]:
    """The cells whose learning rate is known, with the command that binds it."""
    found = []
    for one in self.plans:
      rate = self.learning_rate(one)
      if rate is None:
        continue
      if rate['how'] == 'tuned':
        command = plans.with_learning_rate(one.command, rate['value'])
        one = dataclasses.replace(one, command=command, learning_rate=rate['value'])
      found.append(one)
    return found

  def begin(self, one: Plan) -> None:
    """Writes a cell's 'cell.json'."""
    judged = any(one.cell == other.cell for other in self.plans)
    rate = self.learning_rate(one) if judged else {'value': one.learning_rate, 'how': 'tried'}
    one.cell.begin(sweep_name(self.sweep_dir), self.budget.as_json(one.train_steps), rate or {})

  # What each way of calling the command does.

  def train(self, parallel: int, retry_failed: bool) -> list[Plan]:
    """Here, the tries first; returns the cells that failed."""
    to_do = [one for one in [*self.all_tries(), *self.plans] if not one.cell.trained]
    alone = parallel == 1 or not to_do
    divided = [shares.Share()] if alone else shares.divide(parallel, shares.machine(), shares.host_cores())
    self._note_seeds()
    failed = []
    if self.search is not None:  # what has a result is not searched again, be it that a rate failed
      self._train('tuning', [one for row in self._unsearched() for one in row.values()], divided, retry_failed)
      self._tell_rates()
      failed = [one for row in self._unsearched() for one in row.values()]
    return failed + self._train(sweep_name(self.sweep_dir), self.ready(), divided, retry_failed)

  def _unsearched(self) -> list[dict[float, Plan]]:
    """The tries of rows that have no learning rate yet."""
    search = self.search
    return [] if search is None else [row for row in (self.tries or {}).values() if not tuning.result(search, row)]

  def _tell_rates(self) -> None:
    for row, tried in (self.tries or {}).items():
      found = tuning.result(self.search, tried) if self.search else None
      if found:
        print(tuning.told(row, found), flush=True)

  def _train(self, title: str, wanted: list[Plan], divided: list[shares.Share], retry_failed: bool) -> list[Plan]:
    left_out = [one for one in wanted if not retry_failed and one.cell.failure()]
    board = Board(title, wanted)
    for one in wanted:
      if one.cell.trained:
        board.to(one, 'is trained')
        board.rows[one.cell.model_dir].state = 'done'
      elif one in left_out:
        board.to(one, 'failed')
    return left_out + local.run([one for one in wanted if one not in left_out], divided, board, self.begin)

  def judge(self, bindings: Sequence[str], probes: Sequence[str] | None) -> list[Plan]:
    """Asks all trained cells the same questions, probes them, reports; returns those that have no checkpoint to ask."""
    done = [one for one in self.plans if one.cell.trained]
    lost = [one for one in done if one.cell.step() is None]
    found = [one.cell.model_dir for one in done if one not in lost]
    for one in lost:
      print(
        f'unmask: {one.cell.model_dir} is finished, but its checkpoints are gone: it is not judged. '
        'Bring them back, or delete the directory and run the same command to train it again.',
        file=sys.stderr,
      )
    if not found:
      return lost
    print(f'judging {len(found)} models by the same held-out questions', flush=True)
    models = [f'--gin_search_paths={",".join(self.search_paths)}', *(f'--model_dir={path}' for path in found)]
    if local.call('evaluate', [*models, *plans.as_flags(bindings)]):
      raise UserError('The evaluation failed; what it printed is above. The same command goes on from here.')
    if probes is not None and local.call('probe', [*models, *plans.as_flags(probes)]):
      raise UserError('A probe failed; what it printed is above. The same command goes on from here.')
    answered = [path for path in found if kept.newest(path) is not None]
    if not answered:
      print('There is nothing to report: no objective of these has a scorer.', flush=True)
      return lost
    unscored = [
      f'{os.path.basename(path)} (not judged: its objective has no scorer)' for path in found if path not in answered
    ]
    reporting.report(answered, self.sweep_dir, unscored)
    return lost

  def complain(self, failed: Sequence[Plan]) -> int:
    """Says what failed, why and where; returns how many."""
    for one in failed:
      failure = one.cell.failure()
      if failure:
        print(
          f'unmask: {one.cell.name} failed: {failure["line"]} (all it printed: {failure["log"]}). '
          'The same command tries it again.',
          file=sys.stderr,
        )
      elif not one.cell.can_start:
        print(
          f'unmask: {one.cell.name} was not begun: {one.cell.lacks[0]}, from which it starts, is not trained.',
          file=sys.stderr,
        )
    return len(failed)

  def write(self, engine: Engine) -> int:
    """The engine's files for the cells that are not trained; of a search, first its tries."""
    tries = [one for row in self._unsearched() for one in row.values() if not one.cell.trained]
    open_cells = [one for one in self.ready() if not one.cell.trained]
    later = [] if tries else [one for one in open_cells if not one.cell.can_start]
    wanted = tries or [one for one in open_cells if one.cell.can_start]
    engine.check(self.sweep_dir)
    for one in wanted:
      self.begin(one)
    engine.write(sweep_name(self.sweep_dir), wanted, tuning=bool(tries))
    if later:
      print(f'{len(later)} of the cells start from others of these: the same command writes them when those are done.')
    return 0

  def show(self, parallel: int) -> None:
    """A table of the cells, what they take, and how long that lasts."""
    everything = [*self.all_tries(), *self.plans]
    to_run = [one for one in everything if not one.cell.trained]
    estimate = estimates.of(to_run, everything, shares.machine)
    seconds = dict(zip((one.cell.model_dir for one in to_run), estimate.seconds, strict=True))
    table = rich.table.Table(title=f'{sweep_name(self.sweep_dir)}, {len(everything)} cells in {self.sweep_dir}')
    table.add_column('cell', no_wrap=True)
    chained = any(one.cell.starts for one in everything)
    if chained:
      table.add_column('starts from')
    for heading in ('state', 'updates', 'tokens', 'FLOPs', 'learning rate', 'time'):
      table.add_column(heading, justify='left' if heading == 'state' else 'right')
    for one in everything:
      rate = {'value': one.learning_rate} if one in self.all_tries() else self.learning_rate(one)
      table.add_row(
        os.path.relpath(one.cell.model_dir, self.sweep_dir),
        *([', '.join(map(os.path.basename, one.cell.starts.values()))] if chained else []),
        one.cell.state(),
        f'{one.train_steps:,}',
        f'{one.tokens:,}',
        '?' if one.flops is None else f'{one.flops:.3g}',
        'to be tuned' if rate is None else f'{rate["value"]:g}',
        '' if one.cell.trained else estimates.spoken(seconds[one.cell.model_dir]),
      )
    tables.print_table(table)
    known = [each for each in estimate.seconds if each is not None]
    if known:
      print(f'Updates still to run take {estimates.spoken(sum(known) / parallel)}, {estimate.rests_on}.')
      if parallel > 1:
        print(f'That is with {parallel} cells at a time, each at the rate of a whole machine: they will be slower.')
    elif to_run:
      print(f'There is no estimate of time: {estimate.rests_on}.')
    self._note_seeds()
    self._tell_rates()

  def _note_seeds(self) -> None:
    if len({one.cell.labels[axes_lib.SEED] for one in self.plans}) == 1:
      print('One seed only: the report can show no interval over seeds. --gin.SEEDS=[0,1,2] gives three.', flush=True)


def sweep_name(sweep_dir: str) -> str:
  """The last part of SWEEP_DIR."""
  return os.path.basename(os.path.normpath(sweep_dir)) or 'sweep'
