"""From scores to figures: ranks and ties, gaps, clusters, groups, and what is kept of them."""

import itertools

import numpy as np
import pytest
from unmask import UserError
from unmask.launch.judging import answers, judge, kept
from unmask.launch.judging.runner import RowScores
from unmask.objectives.scorers import LeftToRight, PseudoLikelihood
from unmask.objectives.scoring import Query
from unmask.tasks.questions.test import Item, Test

LOG_UNIGRAM = np.log(np.full(50, 1 / 50))


def _test(items, kind='choices', **more) -> Test:
  primary = 'loss' if kind == 'gaps' else 'accuracy'
  return Test(name='x', title='X', part='cloze', kind=kind, primary=primary, items=items, **more)


def _choice(*last: int, cluster: int = 0, labels=()) -> Item:
  return Item(tuple(Query(np.array([2, 7, token]), ((2, 3),), cluster) for token in last), labels)


def _answers(test: Test, log_p, best: int = 0, scorer=LeftToRight()) -> answers.Arrays:
  """By a model whose log-probability of a token is `log_p(token)`, and whose best token is always the same."""
  asked = answers.ask(test, scorer)
  scores = [
    RowScores(np.array([log_p(int(t)) for t in one.row.targets], float), np.full(len(one.row.targets), best))
    for one in asked
  ]
  return answers.answers(test, asked, scores, LOG_UNIGRAM)


def test_the_right_one_is_first_and_ties_count_half():
  items = [_choice(30, 10), _choice(10, 30), _choice(10, 10), _choice(20, 30, 10, 20), _choice(9, 30, 20, 10)]
  found = _answers(_test(items), lambda token: token / 10)
  np.testing.assert_allclose(found['right'], [1, 0, 0.5, 0, 0])
  np.testing.assert_allclose(found['reciprocal_rank'], [1, 1 / 2, 1 / 1.5, 1 / 2.5, 1 / 4])
  assert answers.figures(found)['accuracy'] == pytest.approx(1.5 / 5)


def test_scores_of_a_whole_text_are_summed():
  """Three tokens of -1 against two of -1.4: the sum, not the mean, decides."""
  long, short = Query(np.array([2, 1, 1, 1]), ()), Query(np.array([2, 4, 4]), ())
  for scorer in (LeftToRight(), PseudoLikelihood(mask=5)):
    found = _answers(_test([Item((long, short)), Item((short, long))]), lambda t: {1: -1.0, 4: -1.4}[t], scorer=scorer)
    assert found['right'].tolist() == [0, 1]
    assert set(found) == {'cluster', 'right', 'reciprocal_rank'}


def test_choices_also_say_how_well_the_right_one_was_predicted():
  found = _answers(_test([_choice(30, 10), _choice(10, 30)]), lambda token: -token / 10, best=10)
  assert found['nll'].tolist() == [3.0, 1.0]
  assert found['exact'].tolist() == [0, 1]
  assert found['tokens'].tolist() == [1, 1]


def test_gaps():
  items = [
    Item((Query(np.array([2, 10, 11, 12, 13]), ((1, 3), (4, 5)), 0),)),
    Item((Query(np.array([2, 11, 11, 12]), ((1, 3),), 1),)),
  ]
  for scorer in (LeftToRight(), PseudoLikelihood(mask=5)):
    found = _answers(_test(items, 'gaps'), lambda token: -token / 10, best=11, scorer=scorer)
    np.testing.assert_allclose(found['nll'], [3.4, 2.2])
    assert found['tokens'].tolist() == [3, 2]
    assert found['gaps'].tolist() == [2, 1]
    assert found['exact'].tolist() == [0, 1]
    assert found['hits'].tolist() == [1, 2]
    figures = answers.figures(found)
    assert figures['loss'] == pytest.approx(5.6 / 5)
    assert figures['unigram_loss'] == pytest.approx(np.log(50))
    assert figures['exact'] == pytest.approx(1 / 3)
    assert figures['token_top1'] == pytest.approx(3 / 5)


def test_ratio_and_its_error_cover_the_truth():
  random = np.random.default_rng(0)
  hits = 0
  for _ in range(400):
    sizes = random.integers(1, 20, 60).astype(float)
    tops = sizes * (3.0 + random.normal(size=60)) + random.normal(size=60)
    value, error = answers.ratio(tops, sizes)
    hits += abs(value - 3.0) < 1.96 * error
  assert 0.9 < hits / 400 < 0.98


def test_items_about_one_text_are_one_piece_of_evidence():
  """Eight copies of each item change no interval."""
  losses = dict(enumerate(np.random.default_rng(2).normal(5, 1, 30)))
  once = [Item((Query(np.array([2, token]), ((1, 2),), token),)) for token in losses]
  alone, copied = (
    answers.figures(_answers(_test(items, 'gaps'), lambda token: -losses[token]))
    for items in (once, [item for item in once for _ in range(8)])
  )
  assert copied == pytest.approx(alone)
  apart = [Item((Query(item.candidates[0].tokens, ((1, 2),), i),)) for i, item in enumerate(once * 8)]
  more = answers.figures(_answers(_test(apart, 'gaps'), lambda token: -losses[token]))
  assert more['loss_se'] == pytest.approx(alone['loss_se'] / 8**0.5)


def test_groups_are_the_figures_of_their_items():
  items = [_choice(30, 10, cluster=i, labels=('a', 'x')) for i in range(3)]
  items += [_choice(10, 30, cluster=i + 3, labels=('b', 'x')) for i in range(2)]
  test = _test(items, groupings=('letter', 'all'))
  found = _answers(test, float)
  groups = answers.groups(test, found)
  assert list(groups) == ['letter', 'all']
  assert {label: (group['accuracy'], group['items']) for label, group in groups['letter'].items()} == {
    'a': (1.0, 3),
    'b': (0.0, 2),
  }
  whole = groups['all']['x']
  assert {name: value for name, value in whole.items() if name != 'items'} == answers.figures(found)


def test_chance_is_what_random_scores_get():
  random = np.random.default_rng(1)
  items = [_choice(*range(10, 10 + n), cluster=i) for i, n in enumerate([2, 4, 10] * 700)]
  asked = answers.ask(_test(items), LeftToRight())
  scores = [RowScores(random.normal(size=1), np.zeros(1)) for _ in asked]
  for primary in ('accuracy', 'mrr'):
    test = Test(name='x', title='X', part='cloze', kind='choices', primary=primary, items=items)
    figures = answers.figures(answers.answers(test, asked, scores, LOG_UNIGRAM))
    assert abs(figures[primary] - test.chance()) < 3.5 * figures[f'{primary}_se']
    assert test.described_primary(figures)['baseline'] == test.chance()


def test_the_digest_is_of_all_that_is_asked():
  base = [_choice(30, 10, labels=('a',)), _choice(20, 10, labels=('a',))]
  tests = [
    _test(base),
    _test(base[::-1]),
    _test(base[:1]),
    _test([_choice(10, 30, labels=('a',)), base[1]]),
    _test([_choice(30, 10, labels=('b',)), base[1]]),
    _test([_choice(30, 10, cluster=1, labels=('a',)), base[1]]),
    _test([_choice(30, 10, 11, labels=('a',)), base[1]]),
    _test(base, causal=True),
    _test(base, groupings=('letter',)),
  ]
  for one, other in itertools.combinations(tests, 2):
    assert one.digest() != other.digest()
  assert _test(list(base), overlap=0.5).digest() == tests[0].digest()


def _described(log_p=float) -> tuple[Test, dict, answers.Arrays]:
  test = _test([_choice(30, 10), _choice(10, 30, cluster=1)])
  arrays = _answers(test, log_p)
  return test, judge.described(test, arrays), arrays


def test_what_was_judged_is_kept_test_by_test(tmp_path):
  test, described, arrays = _described()
  first = kept.Kept(str(tmp_path), 7)
  assert not first.has('x', test.digest())
  first.save({'checkpoint': 7}, 'x', described, arrays)
  first.save({'checkpoint': 7}, 'y', described | {'title': 'Y'}, arrays)
  again = kept.Kept(str(tmp_path), 7)
  assert again.has('x', test.digest())
  assert again.has('y', test.digest())
  assert not again.has('x', 'other questions')
  assert not again.has('z', test.digest())
  assert again.facts['tests']['y']['title'] == 'Y'
  assert again.facts['checkpoint'] == 7
  with np.load(tmp_path / 'evaluation' / '7.npz') as read:
    np.testing.assert_array_equal(read['x/right'], arrays['right'])
  assert not kept.Kept(str(tmp_path), 8).facts
  assert kept.newest(str(tmp_path)) == 7
  assert kept.newest(str(tmp_path / 'nowhere')) is None


@pytest.mark.parametrize('name', ['7.json', '7.npz'])
@pytest.mark.parametrize('size', [0, 40])
def test_a_torn_file_counts_as_not_there(name, size, tmp_path):
  test, described, arrays = _described()
  kept.Kept(str(tmp_path), 7).save({}, 'x', described, arrays)
  path = tmp_path / 'evaluation' / name
  path.write_bytes(path.read_bytes()[:size])
  again = kept.Kept(str(tmp_path), 7)
  assert not again.has('x', test.digest())
  again.save({}, 'x', described, arrays)
  assert kept.Kept(str(tmp_path), 7).has('x', test.digest())


def test_figures_never_stand_beside_arrays_of_other_questions(tmp_path):
  """A process that ends between the two files leaves arrays whose digest is not that of the figures."""
  test, described, arrays = _described()
  kept.Kept(str(tmp_path), 7).save({}, 'x', described, arrays)
  before = (tmp_path / 'evaluation' / '7.json').read_text()
  kept.Kept(str(tmp_path), 7).save({}, 'x', described | {'asked': 'other'}, arrays)
  (tmp_path / 'evaluation' / '7.json').write_text(before)
  again = kept.Kept(str(tmp_path), 7)
  assert not again.has('x', test.digest())
  assert not again.has('x', 'other')


def test_results_that_cannot_be_written_are_one_error(tmp_path):
  _, described, arrays = _described()
  (tmp_path / 'evaluation').write_text('a file where a folder must be')
  with pytest.raises(UserError, match='evaluation cannot be written'):
    kept.Kept(str(tmp_path), 7).save({}, 'x', described, arrays)
