"""Questions that stand in the training text are found by n-grams of words, flagged, dropped or refused."""

import numpy as np
import pytest
from plain_text import source
from unmask import UserError
from unmask.objectives.scoring import Query
from unmask.tasks.questions import overlap
from unmask.tasks.questions.material import Material
from unmask.tasks.questions.overlap import Overlap, grams_of, search, words_of
from unmask.tasks.questions.test import Item, Test

WORDS = [f'{a}{b}' for a in ('ba', 'do', 'ki', 'lu', 'me', 'po', 'ra', 'su') for b in ('n', 'r', 's', 't', 'l')]
TRAINING = [' '.join(np.random.default_rng(n).permutation(WORDS)) for n in range(6)]


@pytest.fixture
def material():
  with source(TRAINING, 512) as opened:
    yield Material(opened)


def _test(material: Material, *texts: str) -> Test:
  items = [Item((Query(np.array(material.encode(text), np.int32), (), i),)) for i, text in enumerate(texts)]
  return Test(name='x', title='X', part='grammar', kind='choices', primary='accuracy', items=items)


def _new(words: int, seed: int) -> str:
  return ' '.join(f'new{n}' for n in np.random.default_rng(seed).integers(0, 1000, words))


def test_words_are_compared_without_case_and_marks():
  assert words_of('The "Cats", it\u2019s said -- sleep.') == ['the', 'cats', "it's", 'said', 'sleep']


@pytest.mark.parametrize(('shared', 'hit'), [(12, False), (13, True), (20, True)])
def test_thirteen_words_in_a_row(material, shared, hit):
  taken = TRAINING[2].split()[7 : 7 + shared]
  text = f'{_new(8, 1)} {" ".join(taken).upper()} {_new(8, 2)}'
  texts = [text, *(_new(30, seed) for seed in range(3, 20))]
  (found,) = Overlap().find([_test(material, *texts)], material)
  assert found.tolist() == [hit] + [False] * 17


def test_n_is_the_5th_percentile_from_8_to_13(material):
  """Of items of 10 words, ten in a row tell; of shorter ones eight, or the whole item."""
  for size, n in ((30, 13), (10, 10), (6, 8)):
    assert overlap._n_of([size] * 40) == n
  ten = [' '.join(TRAINING[1].split()[3:13]), ' '.join([*TRAINING[1].split()[3:12], 'new'])]
  (found,) = Overlap().find([_test(material, *ten)], material)
  assert found.tolist() == [True, False]
  six = [' '.join(TRAINING[1].split()[3:9]), ' '.join([*TRAINING[1].split()[3:8], 'new']), TRAINING[1].split()[0]]
  (found,) = Overlap().find([_test(material, *six)], material)
  assert found.tolist() == [True, False, False]


def test_searching_is_looking_everywhere():
  random = np.random.default_rng(5)
  texts = [' '.join(random.choice(list('abc'), 60)) for _ in range(4)]
  wanted = {gram for n in (5, 6, 8) for _ in range(200) for gram in [tuple(random.choice(list('abc'), n).tolist())]}
  padded = [f' {text} ' for text in texts]
  assert search(wanted, texts) == {g for g in wanted if any(f' {" ".join(g)} ' in text for text in padded)}
  assert 0 < len(search(wanted, texts)) < len(wanted)


def test_short_texts_are_one_gram_or_none():
  assert grams_of(['a', 'b', 'c', 'd', 'e', 'f'], 8) == [tuple('abcdef')]
  assert grams_of(['a', 'b', 'c', 'd'], 8) == []
  assert len(grams_of(list('abcdefghij'), 8)) == 3


def test_flag_drop_refuse_ignore(material):
  test = _test(material, TRAINING[0], *(_new(40, seed) for seed in range(3)))
  (flagged,) = Overlap().judged([test], material)
  assert flagged.overlap == 0.25
  assert flagged.digest() == test.digest()
  (kept,) = Overlap(action='drop').judged([test], material)
  assert kept.items == test.items[1:]
  assert kept.overlap == 0.0
  assert any('1 items' in note for note in material.notes)
  with pytest.raises(UserError, match=r'25.0% of the 4 items of x share 13 words in a row with the training text'):
    Overlap(action='refuse').judged([test], material)
  assert Overlap(action='refuse', most=0.25).judged([test], material)[0].overlap == 0.25
  assert Overlap(action='ignore').judged([test], material) == [test]
  assert Overlap(action='drop').judged([_test(material, *TRAINING)], material) == []


def test_only_so_much_is_looked_through(material):
  test = _test(material, TRAINING[5])
  assert Overlap().judged([test], material)[0].overlap == 1.0
  assert Overlap(tokens=50).judged([test], material)[0].overlap == 0.0


def test_what_was_found_is_remembered_beside_our_own_corpora(material, tmp_path):
  test = _test(material, TRAINING[0], _new(40, 1))
  material.source.folder = str(tmp_path)
  (first,) = Overlap().find([test], material)
  (path,) = tmp_path.iterdir()
  before = path.stat().st_mtime_ns
  (second,) = Overlap().find([test], material)
  assert first.tolist() == second.tolist() == [True, False]
  assert path.stat().st_mtime_ns == before
  path.write_text('[[')  # torn: made again
  assert Overlap().find([test], material)[0].tolist() == [True, False]
  assert path.read_text() != '[['
  path.write_text('[]')  # what is there is believed
  assert Overlap().find([test], material)[0].tolist() == [False, False]
  Overlap().find([_test(material, _new(40, 9))], material)
  assert len(list(tmp_path.iterdir())) == 2


@pytest.mark.parametrize(('given', 'sign'), [({'ngram': 3}, 'ngram is 3'), ({'most': 2.0}, 'most is 2.0')])
def test_settings_are_checked(given, sign):
  with pytest.raises(UserError, match=f'Overlap.{sign}'):
    Overlap(**given)
