"""Runs of a probe to what the judge's file holds of a test."""

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from ...tasks.probes import cloze, squad
from ...tasks.probes.examples import Example, ProbeTask
from ...tasks.probes.rows import Rows
from ..judging.answers import ratio
from . import grid as grid_lib
from .grid import Grid, Run

Figures = dict[str, float]


@dataclasses.dataclass(frozen=True)
class Marker:
  """Marks predictions.

  Attributes:
    task: the probe.
    rows: encoded examples by split.
  """

  task: ProbeTask
  rows: dict[str, Rows]

  @property
  def figure(self) -> str:
    """The name of the figure that models are compared by: 'accuracy', or 'exact' of spans."""
    return 'exact' if self.task.kind == 'span' else 'accuracy'

  def marks(self, split: str, found: np.ndarray) -> dict[str, np.ndarray]:
    """Float64 [rows] each: 'accuracy', or 'exact' and 'f1' of the texts that were marked."""
    if self.task.kind != 'span':
      return {'accuracy': (found == self.rows[split].features['labels']).astype(np.float64)}
    return span_marks(self.task.splits[split], self.answers(split, found))

  def answers(self, split: str, found: np.ndarray) -> list[str]:
    """The texts of int32 [rows, 2] first and last tokens."""
    examples, characters = self.task.splits[split], self.rows[split].characters
    assert characters is not None
    starts = characters[np.arange(len(found)), found[:, 0], 0]
    ends = characters[np.arange(len(found)), found[:, 1], 1]
    return [one.texts[-1][start:end] for one, start, end in zip(examples, starts, ends, strict=True)]

  def right(self, split: str, found: np.ndarray) -> np.ndarray:
    """The marks by which models are compared."""
    return self.marks(split, found)[self.figure]

  def baseline(self) -> tuple[dict[str, np.ndarray], str]:
    """Marks on test of what needs no model, and what that is: the training examples' most frequent class, or the
    passage's most frequent candidate that is not in the question."""
    tests = self.task.splits['test']
    if self.task.kind == 'span':
      return span_marks(tests, [cloze.most_frequent(one) for one in tests]), 'most frequent span of the passage'
    counts = np.bincount([one.label for one in self.task.splits['train']], minlength=len(self.task.classes))
    found = np.full(len(tests), counts.argmax())
    return self.marks('test', found), f'most frequent class of training, {self.task.classes[counts.argmax()]!r}'


def span_marks(examples: Sequence[Example], answers: Sequence[str]) -> dict[str, np.ndarray]:
  """SQuAD's exact match and F1 of each answer."""
  pairs = [(answer, one.golds()) for one, answer in zip(examples, answers, strict=True)]
  measures = {'exact': squad.exact_match, 'f1': squad.f1}
  return {name: np.array([measure(*pair) for pair in pairs], np.float64) for name, measure in measures.items()}


def mean_and_error(marks: np.ndarray, clusters: Sequence[str]) -> tuple[float, float]:
  """The mean of marks and its standard error, marks of one cluster being dependent (linearised ratio estimator).

  Args:
    marks: float64 [seeds, items].
    clusters: of the items.
  """
  number = np.unique(list(clusters), return_inverse=True)[1]
  return ratio(np.bincount(number, weights=marks.sum(0)), len(marks) * np.bincount(number))


def test_entry(task: ProbeTask, rows: dict[str, Rows], grid: Grid, runs: Sequence[Run]) -> tuple[dict, dict]:
  """The entry of the judge's file and its arrays, float64 or int64 [seeds x items].

  All figures but those of 'learning_rate', which are of dev, are of test, at the learning rate that dev chose.
  """
  marker = Marker(task, rows)
  clusters = {split: [one.cluster for one in task.splits[split]] for split in ('dev', 'test')}

  def summary(some: Sequence[Run], split: str) -> Figures:
    marks = [marker.marks(split, run.test_found if split == 'test' else run.dev_found) for run in some]
    figures: Figures = {'items': len(clusters[split])}
    for name in marks[0]:
      mean, error = mean_and_error(np.stack([one[name] for one in marks]), clusters[split])
      figures |= {name: mean, f'{name}_se': error}
    return figures

  by_arm = {arm: [run for run in runs if (run.start, run.attention) == arm] for arm in grid.arms}
  rates = {arm: grid_lib.choose(of_arm, grid.search_seeds) for arm, of_arm in by_arm.items()}
  chosen = {arm: [run for run in of_arm if run.rate == rates[arm]] for arm, of_arm in by_arm.items()}
  main = grid.arms[0]
  reached = {
    arm: summary(some, 'test') | {'learning_rate': rates[arm], 'seed_sd': seed_spread(marker, some)}
    for arm, some in chosen.items()
  }
  base, what = marker.baseline()
  baseline = {name: mean_and_error(value[None], clusters['test']) for name, value in base.items()}
  pretrained = {attention: figures for (start, attention), figures in reached.items() if start == 'pretrained'}
  groups = {
    'attention': pretrained,
    'learning_rate': {
      f'{rate:g}': summary([run for run in by_arm[main] if run.rate == rate], 'dev') for rate in grid.learning_rates
    },
    'seed': {str(run.seed): summary([run], 'test') for run in chosen[main]},
    'start': {start: figures for (start, attention), figures in reached.items() if attention == main[1]},
  }
  figures = {name: value for name, value in reached[main].items() if name != 'items'}
  figures |= {f'{name}_baseline': mean for name, (mean, _) in baseline.items()}
  if task.kind == 'span':
    figures['answerable'] = float(rows['test'].answerable().mean())
  entry = {
    'title': task.title,
    'part': 'probes',
    'kind': 'probe',
    'items': len(clusters['test']),
    'primary': {
      'figure': marker.figure,
      'better': 'higher',
      'unit': 'share',
      'baseline': baseline[marker.figure][0],
      'baseline_is': what,
    },
    'figures': figures,
    'groups': groups,
    'runs': [_listed(run) for run in runs],
  }
  seeds, items = len(chosen[main]), len(clusters['test'])
  arrays = {
    'right': np.concatenate([marker.right('test', run.test_found) for run in chosen[main]]),
    'cluster': np.tile(np.unique(clusters['test'], return_inverse=True)[1], seeds).astype(np.int64),
    'seed': np.repeat([run.seed for run in chosen[main]], items).astype(np.int64),
  }
  return entry, arrays


def seed_spread(marker: Marker, runs: Sequence[Run]) -> float:
  """Standard deviation over seeds of the share of right answers on test; 0 of one seed."""
  shares = [marker.right('test', run.test_found).mean() for run in runs]
  return float(np.std(shares, ddof=1)) if len(shares) > 1 else 0.0


def _listed(run: Run) -> dict:
  """What is told of every run; nothing of test."""
  last = run.loss if math.isfinite(run.loss) else None
  settings = {'start': run.start, 'attention': run.attention, 'learning_rate': run.rate, 'seed': run.seed}
  return settings | {'dev': run.dev, 'last_loss': last}
