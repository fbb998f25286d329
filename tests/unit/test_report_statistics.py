"""The report's statistics against known truths: coverage, false differences over whole columns, power, exact cases."""

import dataclasses
import itertools
import json

import numpy as np
import pytest
import report_cells
from scipy import stats
from unmask.launch.reporting import comparing, inference, reading, resampling

CELLS = ('a', 'b', 'c', 'd', 'e', 'f')


def _test(values: np.ndarray, tokens: np.ndarray | None = None, cluster: np.ndarray | None = None) -> reading.Test:
  """A test of losses a token, float [items]."""
  tokens = np.ones(len(values)) if tokens is None else tokens
  arrays = {
    'nll': values * tokens,
    'tokens': tokens,
    'exact': np.zeros(len(values)),
    'gaps': np.ones(len(values)),
    'cluster': np.arange(len(values)) if cluster is None else cluster,
  }
  loss = float((values * tokens).sum() / tokens.sum())
  return reading.Test(
    name='loss', title='Loss', part='held_out', kind='gaps', asked='x', questions={}, items=len(values),
    primary=reading.Primary('loss', 'lower', 'nats a token', None, None), figures={'loss': loss}, groups={},
    arrays=arrays, overlap=None,
  )  # fmt: skip


def _run(name: str, seed: int, test: reading.Test) -> reading.Run:
  return reading.Run(
    name=name, axes={}, seed=seed, model_dir=f'{name}-{seed}', checkpoint=1, sees='left', home='', tests={'loss': test},
    broken=(), done={}, realised={}, model={}, cell={}, environment={}, rows=[], operative='',
  )  # fmt: skip


def _column(runs: list[reading.Run]) -> inference.Column:
  return inference.column(comparing.sweep(runs), 'loss')


def _simulated(random, gains: dict[str, float], seeds: int, items: int = 40, luck: float = 0.1) -> inference.Column:
  """A sweep whose true differences are known: questions differ in hardness, seeds in luck, answers in noise."""
  hard, rows = random.normal(0, 1, items), random.normal(0, luck, seeds)
  runs = [
    _run(name, seed, _test(5 - gain + hard + rows[seed] + random.normal(0, luck) + random.normal(0, 0.3, items)))
    for name, gain in gains.items()
    for seed in range(seeds)
  ]
  return _column(runs)


@pytest.fixture
def few_draws(monkeypatch):
  monkeypatch.setattr(resampling, 'DRAWS', 1000)


def test_students_interval_is_exact_and_covers():
  one = inference.student([1.0, 2.0, 4.0])
  assert one.over == 'seeds'
  low, high = stats.t.interval(0.95, 2, loc=7 / 3, scale=stats.sem([1.0, 2.0, 4.0]))
  assert (one.low, one.high) == pytest.approx((low, high))
  assert inference.student([3.0]) == inference.Interval(3.0, 3.0, 3.0, None)
  random = np.random.default_rng(0)
  found = [inference.student(random.normal(2.0, 0.5, 3)) for _ in range(3000)]
  covered = np.mean([one.low <= 2.0 <= one.high for one in found])
  assert abs(covered - 0.95) < 4 * (0.95 * 0.05 / 3000) ** 0.5


def test_paired_t_is_scipys():
  random = np.random.default_rng(1)
  first, second = random.normal(0, 1, (2, 7))
  assert inference.paired_t(first - second) == pytest.approx(stats.ttest_rel(first, second).pvalue)
  assert inference.paired_t([0.0, 0.0, 0.0]) == 1.0
  assert inference.paired_t([0.5, 0.5, 0.5]) == 0.0


def test_shaffers_factors_are_the_published_ones():
  """Of four cells' six pairs at most three can be equal once one is not (Shaffer 1986)."""
  assert sorted(inference._equal_pairs(4)) == [0, 1, 2, 3, 6]
  assert sorted(inference._equal_pairs(5)) == [0, 1, 2, 3, 4, 6, 10]
  p = [0.001, 0.004, 0.01, 0.02, 0.3, 0.5]
  assert inference.shaffer(p, 4) == pytest.approx([0.006, 0.012, 0.03, 0.06, 0.6, 0.6])
  assert inference.shaffer(p[::-1], 4) == pytest.approx([0.6, 0.6, 0.06, 0.03, 0.012, 0.006])


@pytest.mark.parametrize('cells', [2, 3, 6])
def test_shaffer_is_never_stricter_than_holm_and_never_looser_than_nothing(cells):
  random = np.random.default_rng(2)
  many = cells * (cells - 1) // 2
  for _ in range(50):
    p = random.random(many) ** 4
    order = np.argsort(p)
    holm = np.empty(many)
    holm[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(many, 0, -1)))
    adjusted = np.array(inference.shaffer(p, cells))
    assert (adjusted <= holm + 1e-12).all()
    assert (adjusted >= p - 1e-12).all()
    assert (np.diff(adjusted[order]) >= 0).all(), 'a smaller p-value is adjusted to a larger one'
    assert adjusted[order[0]] == pytest.approx(min(1, many * p.min()))


@pytest.mark.parametrize('seeds', [1, 3])
def test_without_a_difference_few_columns_show_one(seeds, few_draws):
  """The rate of columns with any difference found, where there is none, is held at 5 %."""
  random = np.random.default_rng(3)
  luck = 0.1 if seeds > 1 else 0.0  # of one training its luck cannot be told from its skill, which the report says
  columns = [_simulated(random, dict.fromkeys(CELLS, 0.0), seeds, luck=luck) for _ in range(300)]
  rate = np.mean([any(pair.found for pair in column.pairs) for column in columns])
  assert rate < 0.05 + 3 * (0.05 * 0.95 / 300) ** 0.5
  assert np.mean([bool(column.mark(column.leader)) for column in columns]) <= rate


def test_comparing_with_the_best_alone_would_find_too_much():
  """Why all pairs are corrected for: Holm over the pairs with the leader finds differences in 11 % of columns."""
  random = np.random.default_rng(4)
  found = 0
  for _ in range(3000):
    values = random.normal(0, 1, (9, 5))
    leader = values.mean(1).argmin()
    p = [inference.paired_t(values[leader] - values[other]) for other in range(9) if other != leader]
    found += min(p) * 8 < 0.05
  assert found / 3000 > 0.08


def test_a_difference_is_found_and_the_best_marked(few_draws):
  random = np.random.default_rng(5)
  gains = {'a': 0.0, 'b': 0.1, 'c': 2.0}
  columns = [_simulated(random, gains, 5) for _ in range(40)]
  assert np.mean([column.mark('c') == 'best' for column in columns]) > 0.9
  assert all(column.leader == 'c' for column in columns)
  assert not any(column.mark('a') or column.mark('b') for column in columns if column.mark('c') == 'best')
  assert {column.over for column in columns} == {'seeds and questions'}


def test_luck_of_the_seeds_alone_is_no_difference(few_draws):
  """The questions cannot be in doubt, the trainings are: over questions alone nearly all pairs would be found."""
  random = np.random.default_rng(6)
  columns = [_simulated(random, dict.fromkeys('abc', 0.0), 3, items=400, luck=0.5) for _ in range(60)]
  pairs = [pair for column in columns for pair in column.pairs]
  alone = [_simulated(random, dict.fromkeys('abc', 0.0), 1, items=400, luck=0.5) for _ in range(20)]
  assert np.mean([pair.found for pair in pairs]) < 0.06
  assert np.mean([pair.p_questions < 0.05 for column in alone for pair in column.pairs]) > 0.6


def test_luck_of_the_questions_alone_is_no_difference(few_draws):
  """Seeds agree to the last digit; which twelve texts were asked decides who is ahead."""
  random = np.random.default_rng(7)
  found = 0
  for _ in range(100):
    cluster = np.repeat(np.arange(12), 10)
    taste = random.normal(0, 1, (2, 12))[:, cluster]
    runs = [
      _run(name, s, _test(5 + taste[n] + s * 0.01, cluster=cluster)) for n, name in enumerate('ab') for s in range(3)
    ]
    (pair,) = _column(runs).pairs
    assert pair.p_seeds < 1e-6
    found += pair.found
  assert found < 14


def test_copies_of_questions_are_no_more_evidence():
  random = np.random.default_rng(8)
  losses = random.normal(5, 1, (2, 30))
  once = [_run(name, 0, _test(losses[n], cluster=np.arange(30))) for n, name in enumerate('ab')]
  cluster = np.repeat(np.arange(30), 8)
  often = [_run(name, 0, _test(losses[n][cluster], cluster=cluster)) for n, name in enumerate('ab')]
  first, second = _column(once), _column(often)
  for one, other in zip(first.pairs, second.pairs, strict=True):
    assert (other.p, *_ends(other.difference)) == pytest.approx((one.p, *_ends(one.difference)))
  for name, one in first.intervals.items():
    assert _ends(second.intervals[name]) == pytest.approx(_ends(one))


def _ends(interval: inference.Interval) -> tuple[float, float]:
  return interval.low, interval.high


def test_bootstrap_of_a_ratio_is_the_bootstrap_of_its_questions():
  """Drawn values equal a plain draw of whole questions, one at a time."""
  random = np.random.default_rng(9)
  tokens, cluster = random.integers(1, 6, 60).astype(float), np.repeat(np.arange(20), 3)
  test = _test(random.normal(5, 1, 60), tokens, cluster)
  drawn, clusters = resampling.draw({('a', 0): test}, 'loss')
  assert clusters == 20
  values = []
  for _ in range(4000):
    picked = np.concatenate([np.flatnonzero(cluster == one) for one in random.integers(20, size=20)])
    values.append(test.arrays['nll'][picked].sum() / tokens[picked].sum())
  assert len(drawn['a', 0]) == resampling.DRAWS
  assert np.mean(drawn['a', 0]) == pytest.approx(np.mean(values), abs=0.01)
  assert np.percentile(drawn['a', 0], [2.5, 97.5]) == pytest.approx(np.percentile(values, [2.5, 97.5]), abs=0.03)


def test_a_bootstrap_interval_covers_the_truth(few_draws):
  random = np.random.default_rng(10)
  hits = 0
  for _ in range(1000):
    tokens = random.integers(1, 6, 120)
    test = _test(random.normal(5, 1, 120), tokens, np.repeat(np.arange(60), 2))
    interval = _column([_run('a', 0, test)]).intervals['a']
    assert interval.over == 'questions'
    hits += interval.low <= 5.0 <= interval.high
  assert abs(hits / 1000 - 0.943) < 0.025


def test_seeds_are_paired_by_number():
  runs = [_run('a', seed, _test(np.full(20, value))) for seed, value in ((0, 3.0), (1, 4.0), (2, 5.0))]
  runs += [_run('b', seed, _test(np.full(20, value))) for seed, value in ((2, 4.5), (0, 2.5), (7, 9.0))]
  (pair,) = _column(runs).pairs
  assert pair.difference.mean == pytest.approx(0.5)
  assert pair.difference.half == pytest.approx(0.0, abs=1e-9)
  assert pair.p_seeds is None, 'two shared seeds are too few'
  assert not pair.found


def test_two_seeds_are_never_told_apart():
  random = np.random.default_rng(11)
  column = _simulated(random, {'a': 0.0, 'b': 3.0}, 2)
  assert column.over is None
  assert column.mark('b') == ''
  assert column.intervals['a'].over == 'seeds'


def test_one_seed_is_marked_over_questions_alone():
  column = _simulated(np.random.default_rng(12), {'a': 0.0, 'b': 3.0}, 1)
  assert column.over == 'questions'
  assert column.mark('b') == 'best'
  assert all(interval.over == 'questions' for interval in column.intervals.values())


def test_few_questions_and_other_means_are_not_drawn_from():
  few = [_run(name, 0, _test(np.arange(8.0) + n)) for n, name in enumerate('ab')]
  column = _column(few)
  assert column.over is None
  assert column.intervals['a'].over is None
  other = [dataclasses.replace(_test(np.arange(30.0)), figures={'loss': 3.3}) for _ in 'ab']
  assert _column([_run(name, 0, test) for name, test in zip('ab', other, strict=True)]).over is None


def test_higher_is_better_where_the_judge_says_so(tmp_path):
  dirs = report_cells.write(tmp_path, {'good': {'skill': 0.9}, 'bad': {'skill': 0.0}}, seeds=4)
  sweep = comparing.sweep([reading.read(one) for one in dirs])
  for name, column in inference.columns(sweep).items():
    assert column.leader == 'good', name
    assert column.mark('good') == 'best', name
    assert column.mark('bad') == ''


def test_every_kind_of_test_can_be_drawn_from(tmp_path):
  (one,) = report_cells.write(tmp_path, {'mlm': {}}, seeds=1)
  for test in reading.read(one).tests.values():
    ratio = resampling.ratio_arrays(test)
    assert ratio is not None, test.name
    assert ratio[0].sum() / ratio[1].sum() == pytest.approx(test.value)
    for figure in {'exact', 'mrr'} & test.figures.keys():
      other = dataclasses.replace(test, primary=dataclasses.replace(test.primary, figure=figure))
      ratio = resampling.ratio_arrays(other)
      assert ratio is not None, (test.name, figure)
      assert ratio[0].sum() / ratio[1].sum() == pytest.approx(test.figures[figure])
  kinds = {
    test['kind'] for test in json.loads((tmp_path / 'mlm-seed0/evaluation/20.json').read_text())['tests'].values()
  }
  assert kinds == set(reading.ARRAYS)


def test_more_cells_and_fewer_seeds_need_larger_differences():
  found = [inference.smallest_found(seeds, cells) for seeds, cells in itertools.product((3, 5, 10), (2, 6))]
  assert found[0] < found[1] > found[3] > found[5]
  assert inference.smallest_found(3, 2) == pytest.approx(4.303 / 3**0.5, abs=1e-3)
