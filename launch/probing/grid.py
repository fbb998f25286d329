"""The grid of a probe: attentions x learning rates x seeds, and the choice of the learning rate on the dev split.

Test examples are answered in every run but marked only for the learning rate that dev chose.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from ... import UserError
from ...objectives.attention import BIDIRECTIONAL, CAUSAL
from ..optimizers import Optimizer, Schedule
from .tuning import Tuner

ATTENTIONS = {'bidirectional': BIDIRECTIONAL, 'causal': CAUSAL}
Attention = Literal['bidirectional', 'causal']
Marks = Callable[[np.ndarray], np.ndarray]  # predictions -> float64 [rows], 1 where right


@dataclasses.dataclass(frozen=True, kw_only=True)
class Grid:
  """What is tried, and how a model is tuned.

  Attributes:
    learning_rates: peaks; the best on dev is chosen, for each attention and start by itself. Six from 1e-5 to 5e-4 in
      arXiv 2507.00994 (210M parameters and more); small decoders want more.
    seeds: how many, of the head's first weights and the order of examples.
    search_seeds: how many of them try every learning rate; the others are tuned at the one that is best in the mean of
      these.
    attentions: while tuning. The first is the one that models are compared by: bidirectional for all of them, and one
      causal run (2507.00994, section 3.3).
    untrained: whether a decoder of random weights is tuned in the same way, under the first attention, as a control.
    updates: of each run.
    batch_size: 32 as in BERT (arXiv 1810.04805, appendix A.3), 2507.00994 and BabyLM.
    optimizer: AdamW with BERT's decay of 0.01; a tenth of the updates warm up, then the rate falls to 0 (1810.04805,
      appendix A.3). Its peak is not used.
  """

  learning_rates: Sequence[float] = (1e-3, 3e-3, 1e-2)
  seeds: int = 2
  search_seeds: int = 1
  attentions: Sequence[Attention] = ('bidirectional', 'causal')
  untrained: bool = True
  updates: int = 45
  batch_size: int = 32
  optimizer: Optimizer = Optimizer(
    b2=0.999, weight_decay=0.01, schedule=Schedule(decay='linear', warmup_steps=5, final_frac=0.0)
  )

  def __post_init__(self) -> None:
    for name in ('seeds', 'search_seeds', 'updates', 'batch_size'):
      if getattr(self, name) < 1:
        raise UserError(f'Grid.{name} is {getattr(self, name)}; give 1 or more.')
    if not self.learning_rates or min(self.learning_rates) <= 0:
      raise UserError(f'Grid.learning_rates is {list(self.learning_rates)}; give one or more above 0.')
    if len(set(self.learning_rates)) < len(self.learning_rates):
      raise UserError(f'Grid.learning_rates is {list(self.learning_rates)}; give each once.')
    if not self.attentions or not set(self.attentions) <= set(ATTENTIONS):
      raise UserError(f'Grid.attentions is {list(self.attentions)}; choose among {", ".join(ATTENTIONS)}.')

  @property
  def arms(self) -> list[tuple[str, Attention]]:
    """(start, attention) of what is compared."""
    control = [('untrained', self.attentions[0])] if self.untrained else []
    return [('pretrained', attention) for attention in self.attentions] + control

  @property
  def all_updates(self) -> int:
    """Updates of the whole grid."""
    searching = min(self.search_seeds, self.seeds)
    return len(self.arms) * (len(self.learning_rates) * searching + self.seeds - searching) * self.updates


class Run(NamedTuple):
  """One tuned model: its settings, its last loss in nats, its predictions, and its share of right ones on dev."""

  start: str
  attention: str
  rate: float
  seed: int
  loss: float
  dev: float
  dev_found: np.ndarray
  test_found: np.ndarray


def run_arm(
  grid: Grid,
  arm: tuple[str, Attention],
  tuner: Tuner,
  params_of: Callable[[int], dict],
  rows: dict[str, Any],
  mark_dev: Marks,
  tick: Callable[[], Any] = lambda: None,
) -> list[Run]:
  """All runs of an arm.

  Args:
    grid, arm: what to run.
    tuner: with the arm's attention.
    params_of: the decoder's parameters to begin a seed with.
    rows: encoded examples by split.
    mark_dev: which predictions about dev are right.
    tick: called after each update.
  """
  runs = []
  for seed in range(grid.seeds):
    params = params_of(seed)
    for rate in grid.learning_rates if seed < grid.search_seeds else [choose(runs, grid.search_seeds)]:
      tuned, losses = tuner.tune(params, rows['train'], rate, seed, tick)
      found = {split: tuner.predict(tuned, rows[split]) for split in ('dev', 'test')}
      dev = float(mark_dev(found['dev']).mean())
      runs.append(Run(*arm, rate, seed, losses[-1], dev, found['dev'], found['test']))
  return runs


def choose(runs: Sequence[Run], search_seeds: int) -> float:
  """The learning rate whose runs of one arm have the best mean on dev over the first seeds; the lowest of equals."""
  rates = sorted({run.rate for run in runs})
  tried = [run for run in runs if run.seed < search_seeds]
  return max(rates, key=lambda rate: np.mean([run.dev for run in tried if run.rate == rate]))
