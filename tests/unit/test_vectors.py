"""Texts as vectors: the rows that rules make, and from vectors to ranks."""

import dataclasses

import numpy as np
import pytest
from objective_table import SPECIAL, TABLE
from unmask import UserError
from unmask.launch.judging import answers, vectors
from unmask.objectives.attention import BIDIRECTIONAL, CAUSAL
from unmask.objectives.bottleneck import BOTTLENECK
from unmask.objectives.embedding import Embedding
from unmask.objectives.masked_lm import MaskedLM
from unmask.objectives.mixture import Mixture
from unmask.objectives.next_token import NextToken
from unmask.objectives.scoring import Query
from unmask.tasks.questions.test import Item, Test

TEXT = np.array([SPECIAL.bos, 40, 41, 42], np.int32)
MARKS = SPECIAL.spare[6:9]
_SECOND = 5000


@pytest.mark.parametrize(
  ('name', 'inputs', 'reads'),
  [
    ('next_token', TEXT, [0, 1, 2, 3]),
    ('mlm', TEXT, [0, 1, 2, 3]),
    ('electra', TEXT, [0, 1, 2, 3]),
    ('dup_mae', TEXT, [0]),
    ('dup_mae_last', [*TEXT, SPECIAL.eos], [4]),
    ('bottleneck', [*TEXT, MARKS[0]], [4]),
    ('bottleneck_of_three', [*TEXT, *MARKS], [4, 5, 6]),
    ('prefix_lm_mode', [SPECIAL.spare[1], *TEXT[1:]], [0, 1, 2, 3]),
  ],
)
def test_what_is_read(name, inputs, reads):
  row = TABLE[name].make().embedding(SPECIAL).row(TEXT)
  assert row.inputs.tolist() == list(inputs)
  assert row.reads.tolist() == reads
  assert row.prefix == 4


def test_texts_are_read_as_in_training():
  """A model of groups reads its special tokens under them; where nothing is hidden, one reads a clean text."""
  rule = lambda name: TABLE[name].make().embedding(SPECIAL).attention or TABLE[name].make().attention
  assert rule('bottleneck') == BOTTLENECK
  assert rule('forgetful_causal') == CAUSAL
  assert rule('electra') == BIDIRECTIONAL


def test_a_mixture_has_the_vectors_of_the_part_that_answers():
  parts = {'causal': NextToken(), 'masked': MaskedLM()}
  for name, attention in (('causal', CAUSAL), ('masked', BIDIRECTIONAL)):
    assert Mixture(parts=parts, answers_as=name).embedding(SPECIAL) == Embedding(attention=attention)


@pytest.mark.parametrize('how', [{'reads': 'behind'}, {'behind': (3,)}, {'reads': 'last'}])
def test_rules_that_make_no_sense(how):
  with pytest.raises(UserError, match=r'Embedding\.reads'):
    Embedding(**how)


def _test(passages: int = 40, candidates: int = 5) -> Test:
  """Passage i is i in its first half and _SECOND + i in its second; each is asked against the next ones."""

  def query(i: int, other: int) -> Query:
    return Query(np.array([2, i, i, _SECOND + other, _SECOND + other], np.int32), ((3, 5),), i)

  items = [Item(tuple(query(i, (i + k) % passages) for k in range(candidates))) for i in range(passages)]
  how = {'name': 'x', 'title': 'X', 'part': 'vectors', 'kind': 'choices', 'primary': 'accuracy'}
  return Test(items=items, embedded=True, **how)


def _answers(test: Test, vector) -> dict[str, float]:
  """The figures of a model that gives a text `vector(its last token)`."""
  asked = vectors.ask(test, Embedding())
  found = vectors.answers(test, asked, [np.asarray(vector(int(one.row.inputs[-1])), np.float32) for one in asked])
  assert found['cluster'].tolist() == [item.cluster for item in test.items]
  return answers.figures(found)


def test_both_parts_are_texts_of_their_own():
  asked = vectors.ask(_test(3, 2), Embedding())
  assert [one.row.inputs.tolist() for one in asked[:3]] == [[2, 0, 0], [2, 5000, 5000], [2, 5001, 5001]]
  assert [one.item for one in asked] == [0, 0, 0, 1, 1, 1, 2, 2, 2]


def test_a_model_that_knows_passages_is_always_right():
  test, known = _test(), np.eye(40)
  # All have something in common, and lengths of vectors mean nothing.
  figures = _answers(test, lambda token: (known[token % _SECOND] + 0.1) * 10.0 ** (token % 7))
  assert (figures['accuracy'], figures['mrr'], figures['accuracy_se']) == (1.0, 1.0, 0.0)
  figures = _answers(test, lambda token: (1 if token < _SECOND else -1) * known[token % _SECOND])
  assert (figures['accuracy'], figures['mrr']) == (0.0, pytest.approx(1 / 5))  # the four others are level above it


def test_vectors_of_other_texts_are_chance():
  test = _test(passages=2000)
  random, shuffled = np.random.default_rng(0), np.random.default_rng(1).permutation(2000)
  known = random.normal(size=(2000, 16))
  figures = _answers(test, lambda token: known[token] if token < _SECOND else known[shuffled[token % _SECOND]])
  assert test.chance() == pytest.approx(0.2)
  assert abs(figures['accuracy'] - 0.2) < 3.5 * figures['accuracy_se'] < 0.05
  assert abs(figures['mrr'] - np.mean(1 / np.arange(1, 6))) < 3.5 * figures['mrr_se']


def test_vectors_without_length_are_near_to_nothing():
  assert _answers(_test(), lambda token: [0.0, 0.0])['accuracy'] == pytest.approx(0.2)


def test_the_digest_says_who_is_asked():
  test = _test()
  assert dataclasses.replace(test, embedded=False).digest() != test.digest()
