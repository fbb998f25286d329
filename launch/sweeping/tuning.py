"""A small search for each row's learning rate, before its cells are run.

Every rate is tried on a stated share of the budget, by a seed that is not judged. The lowest held-out loss of the
objective itself wins: losses of different objectives are never compared.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

from ... import UserError
from . import axes, plans
from .cells import Cell
from .plans import Plan

BY = 'held-out loss of the objective'


@dataclasses.dataclass(frozen=True, kw_only=True)
class Search:
  """How learning rates are found.

  Attributes:
    rates: that are tried, in rising order.
    share: of the budget that each try gets.
    seed: of the tries.
  """

  rates: tuple[float, ...]
  share: float = 0.2
  seed: int = 1000

  @classmethod
  def parse(cls, rates: Sequence[float], share: float, seed: int, seeds: Sequence[int]) -> 'Search':
    """UserError for a rate, share or seed that makes no sense; `seeds` are those that are judged."""
    if len(set(rates)) < 2 or not all(0 < rate < math.inf for rate in rates):
      raise UserError(
        f"LEARNING_RATES is {list(rates)}; give two or more different rates above 0, or None for the run's."
      )
    if not 0 < share <= 1:
      raise UserError(f'sweep.tuning_share is {share}; it is above 0 and 1 at most.')
    if seed in seeds:
      raise UserError(f'sweep.tuning_seed is {seed}, which is judged too; give another.')
    return cls(rates=tuple(sorted(set(rates))), share=share, seed=seed)

  def steps(self, train_steps: int) -> int:
    """Updates of a try."""
    return max(1, round(self.share * train_steps))

  def tries(self, judged: Sequence[Plan], sweep_dir: str) -> dict[str, dict[float, Plan]]:
    """By row and rate: a plan of a directory of its own below SWEEP_DIR/tuning."""
    return {
      row: {rate: self._try(first, rate, sweep_dir) for rate in self.rates}
      for row, first in _first_of_rows(judged).items()
    }

  def _try(self, of: Plan, rate: float, sweep_dir: str) -> Plan:
    seed = axes.Option(self.seed, lines=(f'SEED = {self.seed}',))
    found = axes.Option(f'{rate:g}', lines=(f'LEARNING_RATE = {rate!r}',))
    steps = self.steps(of.train_steps)
    cell = Cell(
      row=of.cell.row,
      options=of.cell.options | {axes.SEED: seed},
      model_dir=f'{sweep_dir.rstrip("/")}/tuning/{of.cell.row}-lr{found.label}-seed{self.seed}',
      shared=of.cell.shared | {'learning_rate': rate, 'share': self.share},
    )
    command = [*of.command, f'--gin.SEED={self.seed}', f'--gin.MODEL_DIR={cell.model_dir}']
    arguments = plans.with_steps(plans.with_learning_rate(command, rate), steps)
    return dataclasses.replace(of, cell=cell, command=arguments, train_steps=steps, learning_rate=rate)


def _first_of_rows(judged: Sequence[Plan]) -> dict[str, Plan]:
  found: dict[str, Plan] = {}
  for one in judged:
    found.setdefault(one.cell.row, one)
  return found


def best(losses: Mapping[float, float | None]) -> float | None:
  """The rate of the lowest loss, the lower rate of two alike; None while there is none.

  Args:
    losses: by rate; None, or no number, for a try that failed.
  """
  known = {rate: loss for rate, loss in losses.items() if loss is not None and math.isfinite(loss)}
  return min(sorted(known), key=lambda rate: known[rate]) if known else None


def result(search: Search, tries: Mapping[float, Plan]) -> dict[str, Any] | None:
  """What 'cell.json' says of a row's learning rate; None while a try is to come, or if all failed."""
  losses: dict[float, float | None] = {}
  for rate, one in tries.items():
    if not one.cell.trained and not one.cell.failure():
      return None
    losses[rate] = one.cell.held_out_loss() if one.cell.trained else None
  value = best(losses)
  if value is None:
    return None
  return {
    'value': value,
    'how': 'tuned',
    'over': {f'{rate:g}': loss for rate, loss in losses.items()},
    'steps': next(iter(tries.values())).train_steps,
    'seed': search.seed,
    'by': BY,
    'edge': value in (search.rates[0], search.rates[-1]),
  }


def told(row: str, found: Mapping[str, Any]) -> str:
  """A line about a row's learning rate."""
  over = ', '.join(f'{rate}: {"failed" if loss is None else f"{loss:.3f}"}' for rate, loss in found['over'].items())
  edge = ', at the edge of the grid: a better rate may lie beyond' if found['edge'] else ''
  return f'{row}: learning rate {found["value"]:g} by the {found["by"]} ({over}; {found["steps"]:,} updates){edge}.'
