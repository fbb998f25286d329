"""From runs to results: who chooses, what is reported, and that other tests' results stay."""

import json

import numpy as np
import pytest
from unmask import UserError
from unmask.launch.probing import figures, grid
from unmask.launch.probing.grid import Grid, Run
from unmask.tasks.probes.examples import Example, ProbeTask
from unmask.tasks.probes.rows import Rows


def _task(kind='classification', tests=6):
  one = lambda i: Example(f'e{i}', f'c{i // 2}', ('q', f'text {i} here')[kind == 'classification' :], i % 2)
  splits = {
    'train': [one(i) for i in range(4)] + [one(5)],
    'dev': [one(0), one(1)],
    'test': [one(i) for i in range(tests)],
  }
  return ProbeTask('probe_topic', 'Topic', kind, ('no', 'yes'), splits, {'test': tests})


def _rows_of(task):
  return {split: Rows({'lengths': np.ones(len(some)), 'labels': np.array([one.label for one in some])})
          for split, some in task.splits.items()}  # fmt: skip


def _run(start, attention, rate, seed, dev, test):
  dev, test = np.array(dev), np.array(test)
  right = float((dev == [0, 1]).mean())
  return Run(start, attention, rate, seed, 0.5, right, dev, test)


GRID = Grid(learning_rates=(0.1, 0.2), seeds=2, search_seeds=1, attentions=('causal',), untrained=False)


def test_test_answers_choose_nothing():
  """The rate is chosen by dev alone, though the other one would be better on test."""
  task = _task()
  runs = [
    _run('pretrained', 'causal', 0.1, 0, [0, 1], [1, 0, 1, 0, 1, 0]),
    _run('pretrained', 'causal', 0.2, 0, [1, 1], [0, 1, 0, 1, 0, 1]),
    _run('pretrained', 'causal', 0.1, 1, [0, 0], [1, 1, 1, 1, 1, 1]),
  ]
  entry, arrays = figures.test_entry(task, _rows_of(task), GRID, runs)
  assert entry['groups']['attention']['causal']['learning_rate'] == 0.1
  assert entry['figures']['accuracy'] == pytest.approx(3 / 12)
  assert arrays['right'].tolist() == [0] * 6 + [0, 1] * 3
  assert arrays['seed'].tolist() == [0] * 6 + [1] * 6
  assert arrays['cluster'].tolist() == [0, 0, 1, 1, 2, 2] * 2
  assert entry['groups']['seed']['1']['accuracy'] == 0.5
  assert entry['groups']['learning_rate']['0.2']['accuracy'] == 0.5  # of dev
  assert entry['groups']['learning_rate']['0.2']['items'] == 2
  flipped = [run._replace(test_found=1 - run.test_found) for run in runs]
  other, _ = figures.test_entry(task, _rows_of(task), GRID, flipped)
  assert other['groups']['attention']['causal']['learning_rate'] == 0.1
  assert other['runs'] == entry['runs']
  assert entry['primary']['baseline'] == 0.5
  assert entry['primary']['baseline_is'] == "most frequent class of training, 'yes'"
  json.dumps(entry, allow_nan=False)


def test_the_mean_of_the_searching_seeds_chooses():
  runs = [_run('pretrained', 'causal', rate, seed, dev, [0] * 6) for rate, seed, dev in (
    (0.1, 0, [0, 1]), (0.2, 0, [0, 0]), (0.1, 1, [1, 0]), (0.2, 1, [0, 1]),
  )]  # fmt: skip
  assert grid.choose(runs, 1) == 0.1
  assert grid.choose(runs, 2) == 0.2
  assert grid.choose(runs[:2] + [runs[0]._replace(rate=0.3)], 1) == 0.1  # the lower of equals


class _Noted:
  """Stands for a tuner: finds what its rate says, and notes what it was asked."""

  def __init__(self):
    self.asked = []

  def tune(self, params, rows, rate, seed, tick):
    self.asked.append((params, rate, seed))
    tick()
    return rate, [0.0]

  def predict(self, tuned, rows):
    return np.full(2, int(tuned == 0.2))


def test_only_searching_seeds_try_every_rate():
  noted, ticks = _Noted(), []
  made = Grid(
    learning_rates=(0.1, 0.2, 0.3), seeds=3, search_seeds=1, updates=1, attentions=('causal',), untrained=False
  )
  runs = grid.run_arm(
    made, ('pretrained', 'causal'), noted, lambda seed: f'params {seed}', {'train': 0, 'dev': 1, 'test': 2},
    lambda found: found, lambda: ticks.append(1),
  )  # fmt: skip
  tried = [('params 0', 0.1, 0), ('params 0', 0.2, 0), ('params 0', 0.3, 0), ('params 1', 0.2, 1), ('params 2', 0.2, 2)]
  assert noted.asked == tried
  assert [run.dev for run in runs] == [0, 1, 0, 1, 1]
  assert made.all_updates == len(ticks) == 5


def test_standard_errors_take_clusters_whole():
  random = np.random.default_rng(0)
  marks = random.integers(0, 2, (3, 8)).astype(float)
  mean, error = figures.mean_and_error(marks, list('abcdefgh'))
  assert mean == pytest.approx(marks.mean())
  shares = marks.mean(0)
  assert error == pytest.approx(np.sqrt(((shares - shares.mean()) ** 2).sum()) / 8)
  doubled = figures.mean_and_error(np.repeat(marks, 2, axis=1), list('aabbccddeeffgghh'))
  assert doubled == pytest.approx((mean, error))


@pytest.mark.parametrize(
  ('given', 'sign'),
  [
    ({'learning_rates': ()}, 'Grid.learning_rates is []'),
    ({'learning_rates': (1e-3, 0)}, 'Grid.learning_rates is'),
    ({'learning_rates': (1e-3, 1e-3)}, 'give each once'),
    ({'seeds': 0}, 'Grid.seeds is 0'),
    ({'search_seeds': 0}, 'Grid.search_seeds is 0'),
    ({'updates': -1}, 'Grid.updates is -1'),
    ({'attentions': ('sideways',)}, "Grid.attentions is ['sideways']"),
    ({'attentions': ()}, 'Grid.attentions is []'),
  ],
)
def test_a_grid_is_checked(given, sign):
  with pytest.raises(UserError) as error:
    Grid(**given)
  assert sign in str(error.value)
