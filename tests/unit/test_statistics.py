"""The report's statistics: ratios with clustered errors, paired differences, intervals over seeds, who is best."""

import types

import numpy as np
import pytest
from unmask.launch import judge, results


def _run(losses: np.ndarray, seed: int = 0, tokens: float = 4.0, name: str = 'x') -> results.Run:
  total = np.full(len(losses), tokens)
  loss, error = judge.ratio(losses * tokens, total)
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


def test_ratio_and_its_error_cover_the_truth():
  random = np.random.default_rng(0)
  hits = 0
  for _ in range(400):
    sizes = random.integers(1, 20, 60).astype(float)
    tops = sizes * (3.0 + random.normal(size=60)) + random.normal(size=60)
    value, error = judge.ratio(tops, sizes)
    hits += abs(value - 3.0) < 1.96 * error
  assert 0.9 < hits / 400 < 0.98


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


def test_queries_about_one_segment_are_one_piece_of_evidence():
  """Eight copies of each query change no interval."""
  from unmask.objectives.scoring import LeftToRight, Query

  def runner(losses: dict[int, float]) -> judge.Runner:
    made = judge.Runner.__new__(judge.Runner)
    made._scorer, made._log_unigram = LeftToRight(), np.zeros(50)
    score = lambda row: (np.full(len(row.reads), -losses[int(row.inputs[0])]), np.zeros(len(row.reads), int))
    made.log_probs = types.MethodType(lambda self, rows, label='': [score(row) for row in rows], made)
    return made

  losses = {token: float(loss) for token, loss in enumerate(np.random.default_rng(2).normal(5, 1, 30))}
  once = [Query(np.array([token, 7]), ((1, 2),), token) for token in losses]
  alone, by_cluster = runner(losses).test(once, '')
  copied, _ = runner(losses).test([query for query in once for _ in range(8)], '')
  assert copied['loss'] == pytest.approx(alone['loss'])
  assert copied['loss_se'] == pytest.approx(alone['loss_se'])
  assert by_cluster.shape == (2, 30)
  assert copied['gaps'] == 8 * alone['gaps']
