"""The report's statistics: paired differences, intervals over seeds, who is best."""

import numpy as np
import pytest
from unmask.launch import results
from unmask.launch.judging import answers


def _run(losses: np.ndarray, seed: int = 0, tokens: float = 4.0, name: str = 'x') -> results.Run:
  total = np.full(len(losses), tokens)
  loss, error = answers.ratio(losses * tokens, total)
  evaluation = {'tests': {'masked': {'loss': loss, 'loss_se': error}}, 'home': 'masked'}
  nothing = {field: {} for field in ('done', 'realised', 'model')}
  return results.Run(
    name=name,
    seed=seed,
    model_dir='',
    evaluation=evaluation,
    rows=[],
    operative='',
    by_cluster={'masked': np.stack([losses * tokens, total])},
    **nothing,
  )


def test_paired_differences_are_sharper_than_intervals():
  random = np.random.default_rng(1)
  hard = random.normal(4, 2, 200)
  better, worse = _run(hard), _run(hard + 0.1 + 0.05 * random.normal(size=200))
  gap = results.difference([worse], [better], 'masked')
  assert gap.mean - gap.half > 0 > better.evaluation['tests']['masked']['loss_se'] * -1
  assert gap.half < 0.1 * results.figure([better], 'masked', 'loss').half
  groups = {'better': [better], 'worse': [worse]}
  assert results.best(groups, 'masked') == ('better', {'better'})
  same = _run(hard + 0.5 * random.normal(size=200) - 0.01)
  assert results.best({'a': [better], 'b': [same]}, 'masked')[1] == {'a', 'b'}


def test_seeds_are_paired_by_number_and_intervals_are_students():
  runs = [_run(np.full(10, value), seed) for seed, value in ((0, 3.0), (1, 4.0), (2, 5.0))]
  others = [_run(np.full(10, value), seed) for seed, value in ((2, 4.5), (0, 2.5))]
  gap = results.difference(runs, others, 'masked')
  assert gap.mean == pytest.approx(0.5)
  assert gap.half == pytest.approx(0.0, abs=1e-9)
  value = results.figure(runs, 'masked', 'loss')
  assert value.mean == pytest.approx(4.0)
  assert value.half == pytest.approx(4.30 / 3**0.5)
